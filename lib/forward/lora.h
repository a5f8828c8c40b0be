// For the adapters of its rows a forward pass adds low-rank products to those of the weights.
#pragma once

#include <span>

#include "forward/kv_layout.h"
#include "forward/network.h"
#include "weights/lora.h"

namespace gptoss::model {

// Buffers for batches of up to T tokens whose adapters are within `use`.
struct LoraBuffers {
    LoraBuffers(const Network& network, uint32_t max_batch, const LoraUse& use);

    LoraUse use;
    vk::Buffer rows;          // (kLoraRows) args::LoraRow
    vk::Buffer shrunk;        // (T, pairs of one input or n_active, max_rank)
    vk::Buffer gate_up_bias;  // (T * n_active, 2 * intermediate)

    // The device memory that they take, bytes.
    static uint64_t footprint(const io::Config& config, uint32_t max_batch, const LoraUse& use);
    static uint64_t shrunk_bytes(const io::Config& config, uint32_t max_batch, const LoraUse& use);
    static uint64_t bias_bytes(const io::Config& config, uint32_t max_batch, const LoraUse& use);
};

constexpr uint32_t kLoraRows = 32;  // the most adapters of a batch

// record_forward needs this for a batch some of whose tokens have adapters.
struct LoraBatch {
    const LoraBuffers& buffers;
    LoraUse use;  // of the batch: within that of the buffers
};

// Records them. Where a method's kernel may run beside others' the recorder of the pass says when.
class LoraRecorder {
  public:
    // tokens: the batch's args::Token, (n_tokens).
    LoraRecorder(vk::Commands& commands, const Network& network, const LoraBatch& batch, uint64_t tokens,
                 uint32_t n_tokens)
        : commands_(commands), network_(network), batch_(batch), tokens_(tokens), n_tokens_(n_tokens) {}

    const LoraUse& use() const { return batch_.use; }
    uint64_t gate_up_bias() const { return batch_.buffers.gate_up_bias.address(); }

    // These multiply A by the input of the queries, keys and values, or of out, beside the weights' own product.
    void shrink_qkv(uint32_t layer, const args::Input& input) const;
    void shrink_out(uint32_t layer, const args::Input& input) const;
    // Adds to the queries, (T, n_heads, 64), and to the keys and values in the caches.
    void qkv(uint32_t layer, uint64_t rope, uint32_t rope_coarse, uint64_t caches, uint64_t q, bool kv_f16) const;
    // Adds to the residual.
    void out(uint32_t layer, const args::Residual& residual) const;

    // These work on a batch's (token, choice) pairs. experts, weights: (T * n_active).
    void shrink_gate_up(uint32_t layer, const args::Input& input, uint64_t experts) const;
    // Makes the biases that gate_up takes, of `bias`, (E, 2 * intermediate).
    void gate_up(uint32_t layer, uint64_t bias, uint64_t experts) const;
    // hidden: (T * n_active, intermediate) by slot; slots: 0 where they are in the order of the pairs. scale: what
    // float16 activations are to be multiplied by; 0 where they are float32.
    void shrink_down(uint32_t layer, uint64_t hidden, uint64_t experts, uint64_t slots, float scale) const;
    void down(uint32_t layer, const args::Residual& residual, uint64_t experts, uint64_t weights) const;

  private:
    args::Lora lora(uint32_t layer, uint32_t pair) const;
    void shrink(const args::LoraShrinkArgs& args, uint32_t pairs) const;

    vk::Commands& commands_;
    const Network& network_;
    const LoraBatch batch_;
    const uint64_t tokens_;
    const uint32_t n_tokens_;
};

}  // namespace gptoss::model
