#include "forward/lora.h"

#include <algorithm>

namespace gptoss::model {

namespace {

constexpr uint32_t kRanks = 4;  // rows of A a workgroup of lora_shrink takes
constexpr RoundConstants kShrink{64, 32};

}  // namespace

uint64_t LoraBuffers::shrunk_bytes(const io::Config& c, uint32_t max_batch, const LoraUse& use) {
    const uint32_t rows =
        std::max({use.qkv ? 3u : 0, use.out ? 1u : 0, use.gate_up || use.down ? c.n_active_experts : 0});
    return uint64_t{max_batch} * rows * use.max_rank * 4;
}

uint64_t LoraBuffers::bias_bytes(const io::Config& c, uint32_t max_batch, const LoraUse& use) {
    return use.gate_up ? uint64_t{max_batch} * c.n_active_experts * 2 * c.intermediate * 4 : 0;
}

uint64_t LoraBuffers::footprint(const io::Config& c, uint32_t max_batch, const LoraUse& use) {
    if (!use.any()) return 0;
    return vk::Buffer::footprint(kLoraRows * sizeof(args::LoraRow)) +
           vk::Buffer::footprint(shrunk_bytes(c, max_batch, use)) +
           vk::Buffer::footprint(bias_bytes(c, max_batch, use));
}

LoraBuffers::LoraBuffers(const Network& network, uint32_t max_batch, const LoraUse& of)
    : use(of),
      rows(network.device, kLoraRows * sizeof(args::LoraRow), vk::Memory::Device, "a batch's adapters"),
      shrunk(network.device, shrunk_bytes(network.config, max_batch, use), vk::Memory::Device, "adapters' products"),
      gate_up_bias(network.device, bias_bytes(network.config, max_batch, use), vk::Memory::Device, "adapters' biases") {
}

args::Lora LoraRecorder::lora(uint32_t layer, uint32_t pair) const {
    return {tokens_, batch_.buffers.rows.address(), batch_.buffers.shrunk.address(),
            layer * lora_pairs(network_.config) + pair, batch_.use.max_rank};
}

void LoraRecorder::shrink(const args::LoraShrinkArgs& args, uint32_t pairs) const {
    commands_.dispatch(network_.kernels.lora_shrink(kShrink), args, batch_.use.max_rank / kRanks, n_tokens_, pairs);
}

void LoraRecorder::shrink_qkv(uint32_t layer, const args::Input& input) const {
    shrink({lora(layer, kLoraQ), input, 0, 0, 0, 0, 0, 0, 1}, 3);
}

void LoraRecorder::shrink_out(uint32_t layer, const args::Input& input) const {
    shrink({lora(layer, kLoraOut), input, 0, 0, 0, 0, 0, 0, 1}, 1);
}

void LoraRecorder::qkv(uint32_t layer, uint64_t rope, uint32_t rope_coarse, uint64_t caches, uint64_t q,
                       bool kv_f16) const {
    const io::Config& c = network_.config;
    const args::LoraQkvArgs args{lora(layer, kLoraQ), rope, caches, q, c.n_heads, c.n_kv_heads, rope_coarse};
    commands_.dispatch(network_.kernels.lora_qkv({kv_f16}), args, c.n_heads + 2 * c.n_kv_heads, n_tokens_);
}

void LoraRecorder::out(uint32_t layer, const args::Residual& residual) const {
    const args::LoraResidualArgs args{lora(layer, kLoraOut), residual, 0, 0, 0};
    commands_.dispatch(network_.kernels.lora_residual(), args, tile_count(residual.hidden), n_tokens_);
}

void LoraRecorder::shrink_gate_up(uint32_t layer, const args::Input& input, uint64_t experts) const {
    const uint32_t k = network_.config.n_active_experts;
    shrink({lora(layer, kLoraGateUp), input, experts, 0, k, 0, 0, 0, 1}, k);
}

void LoraRecorder::gate_up(uint32_t layer, uint64_t bias, uint64_t experts) const {
    const io::Config& c = network_.config;
    const args::LoraGateUpArgs args{lora(layer, kLoraGateUp), bias, experts, gate_up_bias()};
    commands_.dispatch(network_.kernels.lora_gate_up(), args, tile_count(2 * c.intermediate), n_tokens_,
                       c.n_active_experts);
}

void LoraRecorder::shrink_down(uint32_t layer, uint64_t hidden, uint64_t experts, uint64_t slots, float scale) const {
    const io::Config& c = network_.config;
    const uint32_t k = c.n_active_experts;
    const args::Input input{hidden, 0, 0, c.intermediate, n_tokens_, 0};
    shrink({lora(layer, lora_down(c)), input, experts, slots, k, 1, slots != 0, scale != 0, scale}, k);
}

void LoraRecorder::down(uint32_t layer, const args::Residual& residual, uint64_t experts, uint64_t weights) const {
    const io::Config& c = network_.config;
    const args::LoraResidualArgs args{lora(layer, lora_down(c)), residual, experts, weights, c.n_active_experts};
    commands_.dispatch(network_.kernels.lora_residual(), args, tile_count(residual.hidden), n_tokens_);
}

}  // namespace gptoss::model
