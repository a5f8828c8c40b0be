#include "forward/sampling.h"

#include <algorithm>
#include <vector>

namespace gptoss::model {

namespace {

constexpr uint32_t kWorkgroup = 128;
constexpr uint32_t kRing = 64;  // more than there are steps in flight

uint32_t block_count(const io::Config& config) {
    return (Sampler::stride(config) + 4 * kWorkgroup - 1) / (4 * kWorkgroup);
}

// Logits over less would overflow, and devices take a subnormal for 0: at 1e-30 the likeliest token is as certain.
float divisor(float temperature) { return temperature > 0 ? std::max(temperature, 1e-30f) : 0; }

}  // namespace

Sampler::Sampler(const Network& network, uint32_t rows)
    : network_(network), rows_(rows), n_blocks_(block_count(network.config)) {
    const auto device = [&](uint64_t row_bytes, const char* what) {
        return vk::Buffer(network.device, rows * row_bytes, vk::Memory::Device, what);
    };
    adjusted_ = device(stride(network.config) * 4ull, "adjusted logits");
    blocks_ = device(n_blocks_ * sizeof(args::SampleBlock), "sampling blocks");
    state_ = device((1 + n_blocks_) * 4ull, "sampling state");
    settings_ = device(sizeof(args::SampleRow), "sampler settings");
    masks_ = vk::Buffer(network.device, rows * mask_words(network.config) * 4ull, vk::Memory::Upload, "token masks");
    ring_ = vk::Buffer(network.device, rows * kRing * 4ull, vk::Memory::Readback, "sampled tokens");
    vk::Commands commands(network.device, network.pipelines);
    commands.begin();
    commands.zero(state_);
    commands.finish();
}

uint64_t Sampler::footprint(const io::Config& config, uint32_t rows) {
    const uint64_t blocks = block_count(config);
    uint64_t sum = 0;
    for (const uint64_t bytes : {uint64_t{stride(config)} * 4, blocks * sizeof(args::SampleBlock), (1 + blocks) * 4,
                                 uint64_t{sizeof(args::SampleRow)}})
        sum += vk::Buffer::footprint(rows * bytes);
    return sum;
}

void Sampler::record_rows(vk::Commands& commands, std::span<const Row> rows) const {
    std::vector<args::SampleRow> all;
    for (const auto& [s, counts, bias, masked] : rows) {
        const uint64_t mask = masks_.address() + all.size() * mask_words(network_.config) * 4;
        all.push_back({counts, bias, mask, static_cast<uint32_t>(s.seed), static_cast<uint32_t>(s.seed >> 32),
                       divisor(s.temperature), s.top_k, s.top_p, s.min_p, s.repetition, s.presence, s.frequency,
                       (bias ? SAMPLE_BIASED : 0) | (masked ? SAMPLE_MASKED : 0)});
    }
    commands.update(settings_, 0, all.data(), all.size() * sizeof(args::SampleRow));
}

void Sampler::record(vk::Commands& commands, uint32_t n, uint64_t logits, uint64_t tokens) const {
    const args::SampleArgs sample{
        logits, adjusted_.address(), blocks_.address(),     state_.address(),        settings_.address(),
        tokens, ring_.address(),     network_.config.vocab, stride(network_.config), kRing};
    commands.dispatch(network_.kernels.sample_prepare({kWorkgroup}), sample, n_blocks_, n);
    commands.barrier();
    commands.dispatch(network_.kernels.sample({kWorkgroup}), sample, n_blocks_, n);
}

std::span<uint32_t> Sampler::mask(uint32_t row) const {
    const uint32_t words = mask_words(network_.config);
    return {masks_.as<uint32_t>() + row * words, words};
}

uint32_t Sampler::drawn(uint32_t row, uint32_t position) const {
    return ring_.as<const volatile uint32_t>()[row * kRing + position % kRing];
}

void count_tokens(std::span<uint32_t> counts, std::span<const uint32_t> tokens, size_t answer_start) {
    std::fill(counts.begin(), counts.end(), 0);
    for (size_t i = 0; i < tokens.size(); i++) {
        if (i >= answer_start) counts[tokens[i]]++;
        counts[tokens[i]] |= IN_CONTEXT;
    }
}

}  // namespace gptoss::model
