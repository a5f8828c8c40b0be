// One timeline of tokens over a model: cheap, because the model's engine is what computes it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/adapter.h"
#include "engine/drafts.h"
#include "engine/kv_pages.h"
#include "engine/model.h"
#include "engine/state.h"
#include "forward/logprobs.h"
#include "forward/sampling.h"
#include "forward/taps.h"
#include "text/grammar/grammar.h"

namespace gptoss::model {

enum class StopReason { None, MaxTokens, StopToken, Callback, ContextFull, GrammarEnd, StopString };

enum class Logprobs { None, Model, Drawn };

// A token of an answer.
struct Drawn {
    uint32_t token;
    TokenLogprobs logprobs{};
};

// Whether steps verify drafts of what repeats itself; the values of enum gptoss_prompt_lookup.
enum class PromptLookup { Auto, Off, Always };

struct GenerateRequest {
    SamplerSettings settings;
    std::vector<std::pair<uint32_t, float>> bias;  // tokens, and what is added to their logits
    // Of the answer: what follows the last append. A stop token may follow where the grammar's text may end.
    std::shared_ptr<const text::Grammar> grammar;
    uint64_t max_tokens = 0;            // 0: as many as fit
    std::vector<uint32_t> stop_tokens;  // a stop token is kept, and is the last
    Logprobs logprobs = Logprobs::None;
    uint32_t n_top = 0;
    // Called once a token is appended, with whether it is the last one; a reason stops. May be empty.
    std::function<StopReason(const Drawn& drawn, bool last)> on_token;
    PromptLookup lookup = PromptLookup::Auto;
};

// What a sequence is asked to hold, or the default where that is 0. Throw InvalidArgument.
uint32_t checked_max_tokens(const io::Config& config, uint64_t wanted);
uint32_t checked_max_batch(const io::Config& config, const Tuning& tuning, const vk::DeviceInfo& device,
                           uint32_t max_tokens, uint64_t wanted);

class Sequence {
  public:
    // max_tokens: the most tokens it can hold; max_batch: the most that are processed at once; 0 for the defaults.
    // Throws InvalidArgument, or InsufficientMemory where the engine has no room for such batches.
    Sequence(std::shared_ptr<const Model> model, uint64_t max_tokens, uint64_t max_batch);

    const Model& model() const { return *model_; }
    const std::vector<uint32_t>& tokens() const { return tokens_; }
    uint32_t max_tokens() const { return max_tokens_; }

    // Another timeline that begins as this one: the tokens, what is computed of them, and the logits. Pages are shared
    // until one of both writes to them. No call may be running on the other.
    Sequence(Sequence& other);
    ~Sequence();
    Sequence& operator=(const Sequence&) = delete;

    // Throws InvalidArgument or ContextOverflow, and nothing is appended.
    void append(std::span<const uint32_t> tokens);
    // Keeps the first n tokens.
    void truncate(size_t n);
    // Computes what is not computed yet; afterwards the logits of the next token are known.
    void process();
    // (vocab) float32 of the token that would follow.
    void read_logits(std::span<float> out);

    // Samples tokens and appends each. Tokens that were handed to on_token stay, also when this throws; n_tokens counts
    // them.
    StopReason generate(const GenerateRequest& request, uint64_t* n_tokens);

    // From now on it computes with that adapter, of the same model; it forgets what it computed with another one, and
    // its tokens stay. Throws InvalidArgument.
    void set_adapter(Attachment attachment);

    // Writes the whole timeline as bytes (see state.h) if there is room for them: returns how many they are. Computes
    // nothing.
    uint64_t save(std::span<std::byte> state) const;
    // Takes the place of what the sequence holds; that stays if this throws InvalidArgument, UnsupportedArgument,
    // ContextOverflow, InsufficientMemory or DeviceLost.
    void restore(std::span<const std::byte> state);

    // What is handed over of the tokens computed from now on, on the thread of the call that computes them, and before
    // what follows a token is. A wanted token that is computed already is computed again by the next
    // such call. A fork has no tap. What on_tapped throws ends the call; tokens that were not
    // handed over whole come again.
    void set_tap(std::optional<Tap> tap);

    // Makes the running call throw Cancelled soon, or the next one that computes: none is lost. From any thread.
    void cancel() { cancelled_ = true; }
    // Takes back a cancel that nothing was thrown for.
    void clear_cancel() { cancelled_ = false; }

    // Computes the last n tokens again, timed by kernel.
    std::vector<vk::KernelTime> profile(uint32_t n, const SamplerSettings& settings);

    // Log-probabilities of tokens `first` to `end`, each after those before it. Computes them again. Throws
    // InvalidArgument for tokens that it does not hold.
    std::vector<TokenLogprobs> logprobs(size_t first, size_t end, uint32_t n_top);

    struct Stats {
        uint64_t page_bytes;       // device memory of keys and values; what is shared counts in each
        uint64_t bytes_per_token;  // keys and values that the next token reads
        uint32_t step_dispatches;  // of the last decode step; 0 before the first
        uint32_t step_barriers;
        uint64_t prompt_tokens_computed;  // since the sequence was created
        uint64_t decode_steps;            // likewise; fewer than tokens where drafts were right
        uint64_t grammar_steps;           // likewise: tokens that grammars were advanced by
    };
    // From any thread that may read tokens().
    Stats stats() const;

  private:
    friend class Engine;
    friend void generate_together(std::span<struct Generation> generations);

    using Logits = std::shared_ptr<const std::vector<float>>;

    bool processed() const;
    // Whether the token at a position is wanted and was not handed over yet.
    bool taps(uint32_t position) const { return tap_ && position >= tapped_ && tap_->wants(position); }
    uint32_t next_tapped() const { return tap_ ? tap_->next(tapped_) : UINT32_MAX; }
    void require_tokens() const;
    void check_cancelled();
    StateShape state_shape() const;
    StateHeader state_header(const StateShape& shape, std::span<const Window> windows) const;

    const std::shared_ptr<const Model> model_;
    const uint32_t max_tokens_;
    const uint32_t max_batch_;
    Attachment adapter_;
    std::vector<uint32_t> tokens_;
    // The tokens whose keys and values the pages hold. After a reset they outlive tokens_: what is appended next and
    // equals them is not computed again.
    std::vector<uint32_t> computed_;
    Logits logits_;            // (vocab) of what follows logits_of_ tokens of computed_
    size_t logits_of_ = 0;     // all of them; or 0 if the logits are not known
    size_t answer_start_ = 0;  // where in tokens_ the answer begins: after what was appended last
    // The last generation's grammar, if it had one; it has read the answer, or a beginning of it.
    std::optional<text::GrammarState> grammar_;
    std::atomic<bool> cancelled_{false};
    KvPages pages_;
    uint32_t kept_ = 0;  // where the cache of prefixes has last got something of computed_
    uint32_t step_dispatches_ = 0, step_barriers_ = 0;
    uint64_t prompt_tokens_computed_ = 0, decode_steps_ = 0, grammar_steps_ = 0;
    Drafts drafts_;
    std::unique_ptr<const Tap> tap_;
    uint32_t tapped_ = 0;  // tokens before it were handed over, those of them that are wanted
};

// A call of generate() that runs beside others, and what came of it.
struct Generation {
    Sequence* sequence;
    const GenerateRequest* request;
    uint64_t n_tokens = 0;
    uint64_t n_prompt = 0, n_cached = 0, n_forced = 0;
    StopReason reason = StopReason::None;
    std::optional<Error> error = std::nullopt;
};
// Runs all of them at once. The sequences are of one model and all different. Callbacks come on the calling thread.
void generate_together(std::span<Generation> generations);

}  // namespace gptoss::model
