#include "forward/sampling.h"

#include <cstring>

namespace gptoss::model {

namespace {

constexpr uint32_t kWorkgroup = 128;
constexpr uint32_t kRing = 64;  // more than there are steps in flight

uint64_t padded_vocab(const io::Config& config) { return (config.vocab + 3ull) / 4 * 4; }  // kernels read whole vec4

uint32_t block_count(const io::Config& config) {
    return static_cast<uint32_t>((padded_vocab(config) + 4 * kWorkgroup - 1) / (4 * kWorkgroup));
}

}  // namespace

Sampler::Sampler(const Network& network) : network_(network) {
    const uint64_t vocab = padded_vocab(network.config);
    n_blocks_ = block_count(network.config);
    adjusted_ = vk::Buffer(network.device, vocab * 4, vk::Memory::Device, "adjusted logits");
    blocks_ = vk::Buffer(network.device, n_blocks_ * sizeof(args::SampleBlock), vk::Memory::Device, "sampling blocks");
    state_ = vk::Buffer(network.device, (1 + n_blocks_) * 4ull, vk::Memory::Device, "sampling state");
    counts_ = vk::Buffer(network.device, vocab * 4, vk::Memory::Device, "token counts");
    ring_ = vk::Buffer(network.device, kRing * 4, vk::Memory::Readback, "sampled tokens");
    vk::Commands commands(network.device, network.pipelines);
    commands.begin();
    commands.zero(state_);
    commands.finish();
}

uint64_t Sampler::footprint(const io::Config& config) {
    const uint64_t vocab = padded_vocab(config), blocks = block_count(config);
    return 2 * vk::Buffer::footprint(vocab * 4) + vk::Buffer::footprint(blocks * sizeof(args::SampleBlock)) +
           vk::Buffer::footprint((1 + blocks) * 4);
}

void Sampler::record_counts(vk::Commands& commands, std::span<const uint32_t> tokens, size_t answer_start) {
    if (!counts_staging_.size())
        counts_staging_ = vk::Buffer(network_.device, counts_.size(), vk::Memory::Upload, "token counts");
    auto* counts = counts_staging_.as<uint32_t>();
    std::memset(counts, 0, counts_.size());
    for (size_t i = 0; i < tokens.size(); i++) {
        if (i >= answer_start) counts[tokens[i]]++;
        counts[tokens[i]] |= IN_CONTEXT;
    }
    commands.copy(counts_staging_, 0, counts_, 0, counts_.size());
}

void Sampler::record(vk::Commands& commands, const SamplerSettings& s, uint64_t logits, uint64_t token) const {
    const args::SampleArgs sample{logits,
                                  adjusted_.address(),
                                  blocks_.address(),
                                  state_.address(),
                                  counts_.address(),
                                  token,
                                  token,
                                  ring_.address(),
                                  network_.config.vocab,
                                  kRing,
                                  static_cast<uint32_t>(s.seed),
                                  static_cast<uint32_t>(s.seed >> 32),
                                  s.temperature,
                                  s.top_k,
                                  s.top_p,
                                  s.min_p,
                                  s.repetition,
                                  s.presence,
                                  s.frequency};
    commands.dispatch(network_.kernels.sample_prepare({kWorkgroup}), sample, n_blocks_);
    commands.barrier();
    commands.dispatch(network_.kernels.sample({kWorkgroup}), sample, n_blocks_);
}

uint32_t Sampler::drawn(uint32_t position) const { return ring_.as<const volatile uint32_t>()[position % kRing]; }

}  // namespace gptoss::model
