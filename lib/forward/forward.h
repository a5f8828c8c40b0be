// The forward pass.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "forward/kv_layout.h"
#include "forward/lora.h"
#include "forward/network.h"

namespace gptoss::model {

class Taps;

// Buffers that one forward pass works in; T is the most tokens of a batch, R the most of them whose logits are wanted.
struct Activations {
    Activations(const Network& network, uint32_t max_batch, uint32_t max_rows);

    uint32_t max_batch;
    uint32_t max_rows;
    vk::Buffer tokens;         // (T) args::Token
    vk::Buffer x;              // (T, hidden) the residual
    vk::Buffer normed;         // (T, hidden)
    vk::Buffer squares;        // (T, n_squares)
    vk::Buffer q;              // (T, n_heads, 64)
    vk::Buffer attention;      // (T, n_heads, 64)
    vk::Buffer parts;          // (R, n_heads, attention_splits, 66) of batches of up to R tokens
    vk::Buffer router;         // (T, n_experts)
    vk::Buffer expert_choice;  // (T, n_active)
    vk::Buffer expert_weight;  // (T, n_active)
    vk::Buffer slots;          // (T * n_active)
    vk::Buffer slot_tiles;     // (tiles, 3)
    vk::Buffer rounded;        // activations as float16 or integers, for tiers that multiply them; HalveArgs, RoundArgs
    vk::Buffer rounded_scales;  // of their rows or blocks
    vk::Buffer hidden;          // (T * n_active, intermediate)
    vk::Buffer expert_out;      // (T * n_active, hidden)
    vk::Buffer logits;          // (R, vocab rounded up to a multiple of 4) of the first tokens

    // The device memory that they take, bytes.
    static uint64_t footprint(const io::Config& config, const Tuning& tuning, uint32_t max_batch, uint32_t max_rows);

  private:
    struct Part {
        vk::Buffer Activations::*buffer;
        uint64_t size;
        const char* what;
    };
    static std::vector<Part> parts_of(const io::Config& config, const Tuning& tuning, uint32_t max_batch,
                                      uint32_t max_rows);
};

// The most workgroups in a dimension of a dispatch that a batch takes.
uint64_t workgroups_of_batch(const io::Config& config, const Tuning& tuning, uint32_t n_tokens);

// What the experts' activations of a batch are multiplied by where cooperative matrices take them as float16.
float swiglu_half_scale(const io::Config& config);

// Records layers [first_layer, last_layer) of the forward pass of n_tokens tokens, of any sequences and in any order,
// that stand in activations.tokens; the embedding comes before layer 0, the logits of the first n_logits tokens after
// the last layer, of which only the keys and values are computed where n_logits is 0. tables: of the sequences that the
// tokens name. lora: where a token has an adapter. taps: what is copied out on the way, if anything is.
void record_forward(vk::Commands& commands, const Network& network, const Activations& activations,
                    const KvTables& tables, uint32_t n_tokens, uint32_t first_layer, uint32_t last_layer,
                    uint32_t n_logits, const std::optional<LoraBatch>& lora = {}, const Taps* taps = nullptr);

// The final norm and the unembedding alone, of residual states that come from the host. Its buffers are its own, so
// that it runs beside the steps of any sequences.
class Unembedding {
  public:
    // For up to n states at once. Throws InsufficientMemory.
    Unembedding(const Network& network, uint32_t n);
    // states: (up to n, hidden); out: (of them, vocab). Throws DeviceLost.
    void run(std::span<const float> states, float* out);

  private:
    const Network& network_;
    vk::Buffer states_;      // (n, hidden)
    vk::Buffer ones_;        // (n)
    vk::Buffer x_;           // (n, hidden)
    vk::Buffer normed_;      // (n, hidden)
    vk::Buffer squares_;     // (n, n_squares)
    vk::Buffer logits_;      // (n, vocab rounded up to a multiple of 4)
    vk::Commands commands_;  // goes before the buffers
};

}  // namespace gptoss::model
