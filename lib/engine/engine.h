// What runs a model's sequences: one workspace for all, and batches of rows of whatever sequences have something to
// compute.
//
// Callers wait in run(). One of them leads: it alone submits work and waits for the device, for all. When what it waits
// for is done, or while its own callback runs, another one leads; a lone caller thus hands nothing over. Prompts, cut
// into batches, take turns with decode steps. A decode step computes the last token of every row and draws the next;
// steps are recorded once per number of rows, because all that varies lies in device memory, and follow each other on
// the device without the host for as long as the rows stay the same.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "engine/prefix_cache.h"
#include "engine/sequence.h"
#include "forward/forward.h"

namespace gptoss::model {

// What a caller waits for: that a sequence is computed, and that tokens are sampled. Each has a sequence of its own.
class Job {
  public:
    Sequence* sequence = nullptr;
    const GenerateRequest* request = nullptr;  // NULL: the sequence is only computed
    bool wants_logits = true;                  // of the token that would follow; false only where there is no request
    uint64_t limit = 0;                        // tokens to sample
    // The outcome; before, the reason that the limit is one.
    StopReason reason = StopReason::None;
    uint64_t received = 0;
    uint64_t cached = 0, n_forced = 0;  // tokens: of the prompt, of the answer
    std::optional<Error> error = std::nullopt;

    std::function<void()> alone = nullptr;  // instead of all that: is called while nothing runs on the device

    // What follows is the engine's.
    enum class Phase { New, Prompt, Draw, Decode };

    // Behind the engine's mutex.
    struct Caller* caller = nullptr;
    std::deque<Drawn> drawn{};  // tokens that the caller has not received yet
    std::vector<std::pair<std::shared_ptr<const Taps>, size_t>> tapped{};  // likewise; before the tokens
    bool ended = false;                                                    // no more tokens will be received
    bool done = false;  // nothing on the device belongs to it any more

    // The leader's.
    Phase phase = Phase::New;
    uint32_t prompt = 0;  // its tokens
    uint32_t first = 0;   // of the positions that are computed for it
    uint32_t end = 0;     // of what is computed before the next draw
    uint64_t turn = 0;    // when it had its last one
    uint32_t token = 0;   // the last of the sequence, which is not computed yet
    uint32_t position = 0;
    uint64_t submitted = 0;  // tokens that were drawn, are being drawn, or are forced
    Page counts{};           // of its tokens, for penalties
    Page bias{};
    std::optional<text::GrammarState> grammar{};  // after what was drawn
    std::vector<uint32_t> forced{};  // tokens from `first` on, where the last ones are forced by the grammar
};

class Engine {
  public:
    // prefix_bytes: the limit of the cache of prefixes; message_start: the token that begins a message, where prefixes
    // are kept, if there is one.
    Engine(const Network& network, uint64_t prefix_bytes, std::optional<uint32_t> message_start);
    ~Engine();

    const KvLayout& layout() const { return layout_; }
    KvPool& pool() { return pool_; }
    PrefixCache& prefixes() { return prefixes_; }

    // Makes room for batches of so many tokens. Throws InsufficientMemory.
    void make_room(uint32_t max_batch);
    // Returns once all are done; errors stand in the jobs. Callbacks come on the calling thread.
    void run(std::span<Job> jobs);
    // Computes the last n tokens of a sequence again and draws one, timed by kernel.
    std::vector<vk::KernelTime> profile(Sequence& sequence, uint32_t n, const SamplerSettings& settings);
    // Of tokens `first` to `end`, which are computed again.
    std::vector<TokenLogprobs> logprobs(Sequence& sequence, uint32_t first, uint32_t end, uint32_t n_top);
    Sequence::Stats stats(const Sequence& sequence);

    // Device memory that it works in now, bytes, and what it works in for batches of so many tokens, whose decode steps
    // have so many rows.
    uint64_t working_bytes();
    static uint64_t footprint(const io::Config& config, const Tuning& tuning, bool kv_f16, uint32_t max_batch,
                              uint32_t max_rows = 1, const LoraUse& adapters = {});

    // How often a step waited for callers that might come back.
    uint64_t waits();

    static constexpr uint32_t kMaxRows = 32;  // of a decode step

  private:
    static constexpr uint32_t kAhead = 3;  // steps in flight: the device never waits for the host

    // The buffers of a batch of any sequences.
    struct Workspace {
        Workspace(const Network& network, const KvLayout& layout, uint32_t max_batch, uint32_t max_rows,
                  const LoraUse& adapters);
        Activations activations;
        std::optional<LoraBuffers> lora;  // none before the first adapter
        KvTables tables;
        Sampler sampler;
        vk::Buffer logits;  // (max_rows, stride) float32 for the host to read and write
    };
    // Tokens of one sequence in a batch.
    struct Piece {
        Sequence* sequence;
        uint32_t first, n;
        Job* job;   // NULL for a profile
        bool last;  // of the prompt: the logits are wanted
        const uint32_t* tokens;
    };
    struct Row {
        Job* job;
        uint64_t pages;  // their version
        // Where the row's token is a drafted one: its position and the token. Such rows follow that of the job's own.
        uint32_t draft_position = 0;
        uint32_t draft = 0;
        bool operator==(const Row&) const = default;
    };
    // A decode step that is recorded for the tokens of its rows.
    struct TappedStep {
        TappedStep(const vk::Device& device, const vk::Pipelines& pipelines)
            : forward(device, pipelines), draw(device, pipelines) {}
        vk::Commands forward, draw;
        std::shared_ptr<const Taps> taps{};  // while it is in flight
    };
    using Lock = std::unique_lock<std::mutex>;
    using Clock = std::chrono::steady_clock;
    // Recordings of a step differ by the number of its rows and by what their adapters need.
    using StepKind = std::pair<uint32_t, LoraUse>;
    using Steps = std::array<std::unique_ptr<vk::Commands>, kAhead>;

    bool lead(Lock& lock) noexcept;
    bool lead_turn(Lock& lock);
    void receive(Lock& lock, Job& job);
    void receive_tapped(Lock& lock, Job& job);
    void end(Job& job, const std::optional<Error>& error = std::nullopt);
    void wake(Caller& caller);
    void wake_another();
    bool retire();
    void wait_for_callers(Lock& lock);
    void start(Job& job);
    void receive_drawn(Job& job, uint32_t row, uint32_t position);
    bool begin_grammar(Job& job);
    static bool advance(Job& job, uint32_t token);
    static void keep_grammar(Job& job) noexcept;
    bool take(Job& job, uint32_t token);
    void force(Job& job, uint32_t first, std::vector<uint32_t> tokens);
    void deliver(Job& job, Drawn drawn);
    void accept(Job& job, uint32_t token);

    std::vector<Piece> choose_prompts();
    void compute_prompts(Lock& lock, std::vector<Piece> pieces);
    void run_batch(std::span<const Piece> pieces, const Taps* taps = nullptr);
    uint32_t record_tokens(vk::Commands& commands, std::span<const Piece> pieces);
    void record_adapters(vk::Commands& commands, std::span<const Sequence* const> sequences);
    uint32_t adapter_of(const Sequence& sequence) const;
    std::optional<LoraBatch> lora_batch() const;
    void draw(Job& job);

    std::vector<Row> choose_rows();
    uint32_t draft_size(const Job& job);
    void add_draft(std::vector<Row>& rows);
    void load_rows(std::vector<Row> rows);
    bool may_step();
    static bool draws_apart(const Job& job);
    bool draws_apart() const;
    std::vector<vk::Commands*> step(uint32_t index);
    void record_draw(vk::Commands& commands, uint32_t index) const;
    bool record_tapped_step();
    void submit_step();
    void receive_step(Lock& lock);

    uint32_t tapped_room(const Job& job, uint32_t first, uint32_t n) const;
    std::shared_ptr<const Taps> taps_of(std::span<const Piece> pieces) const;
    bool taps_next() const;
    void deliver_tapped(std::span<Job* const> jobs, const std::shared_ptr<const Taps>& taps);

    uint32_t go_to(Sequence& sequence, uint32_t most);
    void keep(Sequence& sequence, uint32_t position);
    void keep_end(const Job& job) noexcept;
    void keep_prompt(const Piece& piece);
    void keep_start(Sequence& sequence, uint32_t position);
    void set_room(uint32_t max_batch, uint32_t max_rows, const LoraUse& adapters = {});
    uint32_t table_of(vk::Commands& commands, const KvPages& pages);
    Page counts_of(const Sequence& sequence, const SamplerSettings& settings);
    Page bias_of(const GenerateRequest& request);
    Page upload(std::span<const uint32_t> words, const char* what);
    Sampler::Row sampler_row(const Job& job) const;
    std::span<const float> logits(uint32_t row) const;
    void read_logits(std::span<Job* const> rows);
    static size_t allowed(Job& job, std::span<const uint32_t> draft) noexcept;
    void write_mask(uint32_t row, Job& job, std::optional<uint32_t> draft = std::nullopt);
    void write_masks();
    void write_masks(std::span<const Piece> pieces);
    void record_expert_counts(vk::Commands& commands, uint32_t index) const;
    void hand_in_expert_counts(uint32_t index) const;
    void abandon() noexcept;

    const Network& network_;
    const KvLayout layout_;
    const std::optional<uint32_t> message_start_;
    KvPool pool_;
    PrefixCache prefixes_;

    std::mutex mutex_;
    std::vector<Caller*> callers_;
    std::vector<Job*> jobs_;  // that are not done, the oldest first
    bool leading_ = false;    // someone does
    // Callers whose jobs were done when the last step ended, where they are as many as the jobs that are left: they may
    // come back at once, and a step that does not wait for them would be one for few.
    size_t away_ = 0;
    std::condition_variable all_back_;
    static constexpr int kWaitParts = 8;  // of the last step's time; that is the longest wait, or kLongestWait
    static constexpr std::chrono::milliseconds kLongestWait{10};
    Clock::time_point wait_until_{};
    Clock::duration step_time_{};
    uint64_t waits_ = 0;

    // The leader's, or whose who has the mutex while nobody leads.
    std::optional<Workspace> workspace_;
    std::array<uint64_t, kMaxRows> table_pages_{};  // the version of the pages that each of the tables is of
    std::array<uint64_t, kMaxRows> table_turns_{};  // when each was last used
    uint64_t turn_ = 0;
    bool rows_had_turn_ = false;
    std::vector<std::pair<uint64_t, LoraUse>> adapters_;  // of what is loaded, by their keys; see args::LoraRow
    std::vector<Row> rows_;                               // as they are loaded
    uint32_t steps_of_rows_ = 0;                          // since then
    std::map<StepKind, Steps> steps_;
    // The same in two halves, for rows with a mask, which the host makes while the first one runs.
    std::map<StepKind, std::array<std::unique_ptr<vk::Commands>, 2>> halves_;
    std::optional<TappedStep> tapped_step_;  // once there was one
    std::deque<uint32_t> in_flight_;         // indices of steps
    uint32_t next_step_ = 0;
    StepTimes step_times_;                            // while one sequence is alone
    std::optional<Clock::time_point> step_received_;  // when the last one's was; none if something else came between
    bool room_for_drafts_ = true;
    vk::Buffer expert_counts_;  // (kAhead + 1, experts) after each step in flight, and after a batch; see ExpertCache
    vk::Commands commands_;
    std::array<vk::Commands, 2> batch_commands_;  // one is recorded while the other runs
};

}  // namespace gptoss::model
