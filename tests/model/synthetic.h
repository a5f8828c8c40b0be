// Checkpoints of any shape with random weights, in a directory of their own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gptoss::test {

struct Shape {
    uint32_t hidden = 64;
    uint32_t intermediate = 64;
    uint32_t heads = 4;
    uint32_t kv_heads = 2;
    uint32_t experts = 4;
    uint32_t active = 2;
    uint32_t vocab = 96;
    uint32_t window = 16;
    std::vector<bool> sliding = {true, false};  // (layers)
    float rope_factor = 32;
    float attention_factor = 0;  // of YaRN; 0 where it follows from the factor
    uint32_t max_context = 4096;
    bool counts = false;  // after each token the next id is by far the likeliest: what a model is that copies a text

    // For messages.
    std::string text() const;
};

class SyntheticCheckpoint {
  public:
    // Weights follow from the seed alone and are scaled so that the residual stays near 1 while the clamp at 7, the
    // sinks and the window all change the result.
    SyntheticCheckpoint(const Shape& shape, uint64_t seed);
    ~SyntheticCheckpoint();
    SyntheticCheckpoint(const SyntheticCheckpoint&) = delete;
    SyntheticCheckpoint& operator=(const SyntheticCheckpoint&) = delete;

    // A Hugging Face directory.
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

}  // namespace gptoss::test
