// Choosing the next token on the device.
#pragma once

#include <cstdint>
#include <span>

#include "forward/network.h"

namespace gptoss::model {

// Applied in this order: penalties, temperature, top-k, top-p, min-p.
struct SamplerSettings {
    float temperature = 1;  // 0: the likeliest token
    uint32_t top_k = 0;     // 0: off
    float top_p = 1;        // 1: off
    float min_p = 0;        // 0: off
    float repetition = 1;   // of all tokens of the context; 1: off
    float presence = 0;     // of the tokens of the answer
    float frequency = 0;    // of the tokens of the answer, each time
    uint64_t seed = 0;

    bool penalizes() const { return repetition != 1 || presence != 0 || frequency != 0; }
    bool operator==(const SamplerSettings&) const = default;
};

class Sampler {
  public:
    explicit Sampler(const Network& network);

    // Counts the tokens for the penalties; the answer is what begins at answer_start. Waits for nothing: record it
    // before the first draw.
    void record_counts(vk::Commands& commands, std::span<const uint32_t> tokens, size_t answer_start);
    // Draws from the logits that follow the token at address `token` (an args::Token), and replaces that token.
    void record(vk::Commands& commands, const SamplerSettings& settings, uint64_t logits, uint64_t token) const;
    // The token drawn for a position, once its commands are done.
    uint32_t drawn(uint32_t position) const;

    // The device memory that it takes, bytes.
    static uint64_t footprint(const io::Config& config);

  private:
    const Network& network_;
    uint32_t n_blocks_;
    vk::Buffer adjusted_;  // (vocab)
    vk::Buffer blocks_;    // (n_blocks) args::SampleBlock
    vk::Buffer state_;     // (1 + n_blocks)
    vk::Buffer counts_;    // (vocab)
    vk::Buffer ring_;      // (kRing) tokens by position, read by the host
    vk::Buffer counts_staging_;
};

}  // namespace gptoss::model
