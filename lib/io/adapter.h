// LoRA adapters of a gpt-oss model in files: PEFT's directories, and GGUF as llama.cpp writes it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/tensor_table.h"

namespace gptoss::io {

// The matrices of a layer that a pair may belong to.
enum class LoraTarget { Q, K, V, Out, GateUp, Down };
constexpr uint32_t kLoraTargets = 6;

constexpr uint32_t max_lora_rank = 4096;

// A low-rank pair as the files have it: W + scale · B·A, of one matrix or of that of each expert.
struct LoraTensors {
    uint32_t layer = 0;
    LoraTarget target = LoraTarget::Q;
    uint32_t first_expert = 0;
    uint32_t n_experts = 1;
    uint32_t rank = 0;
    float scale = 1;         // alpha over the rank or its root
    Matrix a;                // (n_experts * rank, cols)
    Matrix b;                // see `fused`
    bool fused = false;      // b is (rows, rank * n_experts) with the rank outermost, else (n_experts * rows, rank)
    uint32_t rows = 0;       // of an expert's B
    uint32_t first_row = 0;  // row r of B is row first_row + r * row_step of the matrix: gates alone are the even rows
    uint32_t row_step = 1;   // of gate_up, ups the odd ones
};

class AdapterFiles {
  public:
    // path: a directory with an adapter_config.json and an adapter_model.safetensors, one of these two files, or a GGUF
    // file. Checks that every tensor has a place in a model of that config. Throws IoError that names the file and
    // what of it cannot be applied; a NaN among the weights shows as they are read.
    AdapterFiles(const std::string& path, const Config& config);

    const std::string& path() const { return path_; }
    // In the order of their layers.
    const std::vector<LoraTensors>& pairs() const { return pairs_; }

  private:
    std::string path_;
    std::vector<std::unique_ptr<File>> files_;
    std::vector<LoraTensors> pairs_;
};

// What adapter_config.json says of the scales.
class PeftConfig {
  public:
    // Throws IoError for what is not LoRA as this library applies it, by name.
    PeftConfig(const char* json, size_t size, const std::string& source);
    // Of the module or parameter, such as model.layers.0.self_attn.q_proj: the rank that its tensors must have, and
    // what its product is multiplied by. Throws IoError for a pattern that is no regular expression.
    uint32_t rank_of(const std::string& name) const;
    float scale_of(const std::string& name) const;

  private:
    struct Pattern {
        std::string text;
        float value;
    };
    float value_of(const std::vector<Pattern>& patterns, const std::string& name, float otherwise) const;

    std::string source_;
    uint32_t rank_ = 0;
    float alpha_ = 0;
    bool rslora_ = false;
    std::vector<Pattern> ranks_, alphas_;  // in the order of the file: the first that matches counts
};

// Finds the pairs among an adapter's tensors; the tensors' files belong to the caller.
std::vector<LoraTensors> map_peft_adapter(const std::vector<TensorInfo>& tensors, const PeftConfig& peft,
                                          const Config& config, const std::string& source);
std::vector<LoraTensors> map_gguf_adapter(const std::vector<TensorInfo>& tensors, float alpha, const Config& config,
                                          const std::string& source);

}  // namespace gptoss::io
