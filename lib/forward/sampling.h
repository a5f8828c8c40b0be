// Choosing the next token on the device.
#pragma once

#include <cstdint>
#include <span>

#include "forward/network.h"

namespace gptoss::model {

// Applied in this order: bias, penalties, temperature, the mask of a row, top-k, top-p, min-p.
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

// The tables in which kernels draw the next tokens of up to `rows` rows at once.
class Sampler {
  public:
    Sampler(const Network& network, uint32_t rows);

    uint32_t rows() const { return rows_; }
    // Numbers of a row's logits, the vocabulary rounded up to what kernels read at once.
    static uint32_t stride(const io::Config& config) { return (config.vocab + 3) / 4 * 4; }
    // Bytes of a table of counts, or of biases.
    static uint64_t counts_bytes(const io::Config& config) { return stride(config) * 4ull; }
    // Words of a mask.
    static uint32_t mask_words(const io::Config& config) { return (config.vocab + 127) / 128 * 4; }

    // Sets how rows 0, 1, … are drawn. counts, bias: the addresses of each one's tables, which those that penalize and
    // those with a bias have. masked: only tokens of the row's mask are drawn, at least one of which must be.
    struct Row {
        SamplerSettings settings;
        uint64_t counts = 0;
        uint64_t bias = 0;
        bool masked = false;
    };
    void record_rows(vk::Commands& commands, std::span<const Row> rows) const;
    // Draws n rows from logits, (n, stride), that follow the tokens, (n) args::Token, and replaces those.
    void record(vk::Commands& commands, uint32_t n, uint64_t logits, uint64_t tokens) const;
    // The mask of a row: a bit for each token. Written by the host before a draw is submitted.
    std::span<uint32_t> mask(uint32_t row) const;
    // (rows, stride) the logits after bias, penalties, temperature and mask, once a draw is done.
    const vk::Buffer& adjusted() const { return adjusted_; }
    // The token drawn in a row for a position, once its commands are done.
    uint32_t drawn(uint32_t row, uint32_t position) const;

    // The device memory that it takes, bytes.
    static uint64_t footprint(const io::Config& config, uint32_t rows);

  private:
    const Network& network_;
    const uint32_t rows_;
    const uint32_t n_blocks_;
    vk::Buffer adjusted_;  // (rows, stride)
    vk::Buffer blocks_;    // (rows, n_blocks) args::SampleBlock
    vk::Buffer state_;     // (rows, 1 + n_blocks)
    vk::Buffer settings_;  // (rows) args::SampleRow
    vk::Buffer masks_;     // (rows, mask_words), written by the host
    vk::Buffer ring_;      // (rows, kRing) tokens by position, read by the host
};

// Fills a table of counts: how often each token stands in the answer, which begins at answer_start, and whether
// anywhere in the context.
void count_tokens(std::span<uint32_t> counts, std::span<const uint32_t> tokens, size_t answer_start);

}  // namespace gptoss::model
