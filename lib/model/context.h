// One timeline of tokens over a model.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/graph.h"
#include "model/kv_cache.h"
#include "model/model.h"

namespace gptoss::model {

class Context {
  public:
    // max_tokens: the most tokens it can hold; max_batch: the most that are processed at once; 0 for the defaults.
    Context(std::shared_ptr<const Model> model, uint64_t max_tokens, uint64_t max_batch);

    const Model& model() const { return *model_; }
    const std::vector<uint32_t>& tokens() const { return tokens_; }
    uint32_t max_tokens() const { return max_tokens_; }

    // Throws InvalidArgument or ContextOverflow, and nothing is appended.
    void append(std::span<const uint32_t> tokens);
    // Keeps the first n tokens.
    void truncate(size_t n);
    // Computes what is not computed yet; afterwards the logits of the next token are on the device.
    void process();
    // (vocab) float32 of the token that would follow.
    void read_logits(std::span<float> out);

    // Makes the running call throw Cancelled soon. From any thread.
    void cancel() { cancelled_ = true; }

    uint64_t device_bytes() const { return activations_.bytes() + cache_.bytes(); }

  private:
    void run_batch(uint32_t first, uint32_t n, bool want_logits);
    void check_cancelled() const;

    std::shared_ptr<const Model> model_;
    uint32_t max_tokens_;
    uint32_t max_batch_;
    std::vector<uint32_t> tokens_;
    // The tokens whose keys and values the cache holds. After a reset they outlive tokens_: what is appended next and
    // equals them is not computed again.
    std::vector<uint32_t> computed_;
    size_t logits_of_ = 0;  // the logits on the device follow this many of computed_; 0 if none do
    std::atomic<bool> cancelled_{false};
    Activations activations_;
    KvCache cache_;
    vk::Buffer token_staging_;
    vk::Buffer logits_staging_;
    vk::Commands commands_;
};

}  // namespace gptoss::model
