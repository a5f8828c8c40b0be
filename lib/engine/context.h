// One timeline of tokens over a model.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/model.h"
#include "forward/forward.h"
#include "forward/kv_cache.h"
#include "forward/sampling.h"

namespace gptoss::model {

enum class StopReason { None, MaxTokens, StopToken, Callback, ContextFull };

struct GenerateRequest {
    SamplerSettings settings;
    uint64_t max_tokens = 0;                 // 0: as many as fit
    std::vector<uint32_t> stop_tokens;       // a stop token is kept, and is the last
    std::function<bool(uint32_t)> on_token;  // called once a token is appended; true stops; may be empty
};

// What a context is asked to hold, or the default where that is 0. Throw InvalidArgument.
uint32_t checked_max_tokens(const io::Config& config, uint64_t wanted);
uint32_t checked_max_batch(const io::Config& config, const Tuning& tuning, const vk::DeviceInfo& device,
                           uint32_t max_tokens, uint64_t wanted);

class Context {
  public:
    // max_tokens: the most tokens it can hold; max_batch: the most that are processed at once; 0 for the defaults.
    Context(std::shared_ptr<const Model> model, uint64_t max_tokens, uint64_t max_batch);

    const Model& model() const { return *model_; }
    const std::vector<uint32_t>& tokens() const { return tokens_; }
    uint32_t max_tokens() const { return max_tokens_; }

    // Another timeline that begins as this one: the tokens, what is computed of them, and the logits. The cache's
    // segments are shared until one of both writes to them. No call may be running on the other.
    Context(const Context& other);
    Context& operator=(const Context&) = delete;

    // Throws InvalidArgument or ContextOverflow, and nothing is appended.
    void append(std::span<const uint32_t> tokens);
    // Keeps the first n tokens.
    void truncate(size_t n);
    // Computes what is not computed yet; afterwards the logits of the next token are on the device.
    void process();
    // (vocab) float32 of the token that would follow.
    void read_logits(std::span<float> out);

    // Samples tokens and appends each. Tokens that were handed to on_token stay, also when this throws; n_tokens counts
    // them.
    StopReason generate(const GenerateRequest& request, uint64_t* n_tokens);

    // The whole timeline as bytes (see state.h), and how many they are. Computes nothing.
    uint64_t state_size() const;
    void save(std::span<std::byte> state) const;
    // Takes the place of what the context holds; that stays if this throws InvalidArgument, UnsupportedArgument,
    // ContextOverflow, InsufficientMemory or DeviceLost.
    void restore(std::span<const std::byte> state);

    // Makes the running call throw Cancelled soon, or the next one that computes: none is lost. From any thread.
    void cancel() { cancelled_ = true; }
    // Takes back a cancel that nothing was thrown for.
    void clear_cancel() { cancelled_ = false; }

    // Computes the last n tokens again, timed by kernel.
    std::vector<vk::KernelTime> profile(uint32_t n, const SamplerSettings& settings);

    const KvCache& cache() const { return *cache_; }
    // Dispatches and barriers of a decode step; 0 before the first.
    uint32_t step_dispatches() const { return steps_[1].commands ? steps_[1].commands->dispatches() : 0; }
    uint64_t prompt_tokens_computed() const { return prompt_tokens_computed_; }
    uint32_t step_barriers() const { return steps_[1].commands ? steps_[1].commands->barriers() : 0; }
    uint64_t working_bytes() const {
        return Activations::footprint(model_->config, model_->tuning, max_batch_) + Sampler::footprint(model_->config);
    }

  private:
    static constexpr uint32_t kAhead = 3;  // steps in flight: the device never waits for the host

    StateHeader state_header(const StateShape& shape) const;
    uint32_t go_back(uint32_t position);
    void compute_until(uint32_t end);
    void run_batch(uint32_t first, uint32_t n, bool want_logits);
    void record_tokens(vk::Commands& commands, uint32_t first, uint32_t n);
    void record_expert_counts(vk::Commands& commands, uint32_t index) const;
    void hand_in_expert_counts(uint32_t index) const;
    void run_steps(const GenerateRequest& request, uint64_t limit, uint64_t* n_tokens, StopReason* reason);
    void record_first_draw(vk::Commands& commands, const SamplerSettings& settings);
    void submit_first_draw(const SamplerSettings& settings);
    void submit_step(uint32_t step, const SamplerSettings& settings);
    void drain() noexcept;
    void check_cancelled();

    std::shared_ptr<const Model> model_;
    uint32_t max_tokens_;
    uint32_t max_batch_;
    std::vector<uint32_t> tokens_;
    // The tokens whose keys and values the cache holds. After a reset they outlive tokens_: what is appended next and
    // equals them is not computed again.
    std::vector<uint32_t> computed_;
    uint64_t prompt_tokens_computed_ = 0;
    size_t logits_of_ = 0;     // the logits on the device follow this many of computed_; 0 if none do
    size_t answer_start_ = 0;  // where in tokens_ the answer begins: after what was appended last
    std::atomic<bool> cancelled_{false};
    Activations activations_;
    std::unique_ptr<KvCache> cache_;
    Sampler sampler_;
    vk::Buffer token_staging_;
    vk::Buffer logits_staging_;
    vk::Buffer expert_counts_;  // (kAhead + 1, experts) after each step in flight, and after a batch; see ExpertCache
    vk::Commands commands_;
    std::array<vk::Commands, 2> batch_commands_;  // one is recorded while the other runs
    // A decode step, recorded once for its settings and submitted for every token: all that changes from token to token
    // lies in device memory.
    struct Step {
        std::unique_ptr<vk::Commands> commands;
        SamplerSettings settings;
    };
    std::array<Step, kAhead> steps_;
};

}  // namespace gptoss::model
