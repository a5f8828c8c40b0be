// The sizes and constants of one gpt-oss model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gptoss::io {

struct Config {
    uint32_t n_layers = 0;
    uint32_t hidden = 0;        // width of the residual, a multiple of 32
    uint32_t intermediate = 0;  // width of one expert, a multiple of 32
    uint32_t n_heads = 0;       // query heads
    uint32_t n_kv_heads = 0;    // divides n_heads
    uint32_t head_dim = 64;     // always 64
    uint32_t n_experts = 0;
    uint32_t n_active_experts = 0;  // chosen per token, ≤ n_experts
    uint32_t vocab = 0;             // rows of the embedding and of lm_head
    uint32_t window = 0;            // positions a sliding layer sees, the current one among them
    uint32_t max_context = 0;       // positions
    std::vector<bool> sliding;      // (n_layers) true where a layer has the window
    float norm_eps = 1e-5f;
    float swiglu_limit = 7.0f;
    float swiglu_alpha = 1.702f;
    float rope_theta = 150000.0f;
    float rope_factor = 32.0f;  // YaRN; 1 means plain RoPE
    float rope_beta_fast = 32.0f;
    float rope_beta_slow = 1.0f;
    uint32_t rope_original_context = 4096;
    bool rope_truncate = false;          // round the ramp's ends to whole dimensions
    float rope_attention_factor = 1.0f;  // of cosines and sines, beside the one that YaRN derives from its factor
    std::vector<uint32_t> eos_tokens;    // end a text; the files may name none
    bool tied_embeddings = false;        // lm_head is the embedding

    uint32_t qkv_rows() const { return (n_heads + 2 * n_kv_heads) * head_dim; }
};

constexpr uint32_t max_layers = 1024;

// Parses the config.json of the Hugging Face layout or of OpenAI's original/ directory; source names it in errors.
Config parse_config(const char* json, size_t size, const std::string& source);

// The tokens that a generation_config.json or a config.json names as its eos_token_id: none, one or a list.
std::vector<uint32_t> parse_eos_tokens(const char* json, size_t size, const std::string& source);

// Tells what to give instead of a checkpoint that has the right architecture in a form that this library does not run.
extern const char* const expected_checkpoint;

// Throws IoError naming the field unless the model is one that the kernels can run.
void check_config(const Config& config, const std::string& source);

}  // namespace gptoss::io
