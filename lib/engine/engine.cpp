#include "engine/engine.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "engine/memory.h"

namespace gptoss::model {

// A thread that waits for its jobs.
struct Caller {
    std::condition_variable woken;
    bool waiting = false;
    size_t left = 0;  // of its jobs
};

Engine::Workspace::Workspace(const Network& network, const KvLayout& layout, uint32_t max_batch, uint32_t max_rows,
                             const LoraUse& adapters)
    : activations(network, max_batch, max_rows),
      tables(network.device, layout, kMaxRows),
      sampler(network, max_rows),
      logits(network.device, max_rows * Sampler::counts_bytes(network.config), vk::Memory::Readback, "logits") {
    if (adapters.any()) lora.emplace(network, max_batch, adapters);
}

Engine::Engine(const Network& network, uint64_t prefix_bytes, std::optional<uint32_t> message_start)
    : network_(network),
      layout_(network.config, network.kv_f16),
      message_start_(message_start),
      pool_(network.device, network.pipelines, [this] { return prefixes_.evict(); }),
      prefixes_(prefix_bytes),
      commands_(network.device, network.pipelines),
      batch_commands_{vk::Commands(network.device, network.pipelines),
                      vk::Commands(network.device, network.pipelines)} {
    if (const ExpertCache* experts = network_.weights.expert_cache())
        expert_counts_ = vk::Buffer(network_.device, (kAhead + 1) * experts->counts_bytes(), vk::Memory::Readback,
                                    "uses of experts");
}

Engine::~Engine() = default;

uint64_t Engine::footprint(const io::Config& config, const Tuning& tuning, bool kv_f16, uint32_t max_batch,
                           uint32_t max_rows, const LoraUse& adapters) {
    return LoraBuffers::footprint(config, max_batch, adapters) +
           Activations::footprint(config, tuning, max_batch, max_rows) + Sampler::footprint(config, max_rows) +
           KvTables::footprint(KvLayout(config, kv_f16), kMaxRows);
}

uint64_t Engine::waits() {
    const std::lock_guard lock(mutex_);
    return waits_;
}

uint64_t Engine::working_bytes() {
    const std::lock_guard lock(mutex_);
    if (!workspace_) return 0;
    const Activations& a = workspace_->activations;
    return footprint(network_.config, network_.tuning, network_.kv_f16, a.max_batch, a.max_rows,
                     workspace_->lora ? workspace_->lora->use : LoraUse{});
}

Sequence::Stats Engine::stats(const Sequence& s) {
    const std::lock_guard lock(mutex_);
    return {s.pages_.bytes(),          s.pages_.bytes_read(static_cast<uint32_t>(s.tokens_.size())),
            s.step_dispatches_,        s.step_barriers_,
            s.prompt_tokens_computed_, s.decode_steps_,
            s.grammar_steps_};
}

void Engine::make_room(uint32_t max_batch) {
    {
        const std::lock_guard lock(mutex_);
        if (workspace_ && workspace_->activations.max_batch >= max_batch) return;
    }
    Job job{.alone = [&] { set_room(max_batch, 1); }};
    run({&job, 1});
    if (job.error) throw Error(*job.error);
}

// Room for as many, or for more; while nothing runs. What was there goes first: there may not be memory for both.
void Engine::set_room(uint32_t max_batch, uint32_t max_rows, const LoraUse& adapters) {
    const LoraUse had_adapters = workspace_ && workspace_->lora ? workspace_->lora->use : LoraUse{};
    const LoraUse all_adapters = had_adapters | adapters;
    max_batch = std::max(max_batch, max_rows);  // a step's rows are a batch too
    if (workspace_) {
        max_batch = std::max(max_batch, workspace_->activations.max_batch);
        max_rows = std::max(max_rows, workspace_->activations.max_rows);
        if (max_batch == workspace_->activations.max_batch && max_rows == workspace_->activations.max_rows &&
            all_adapters == had_adapters)
            return;
    }
    const uint32_t had_batch = workspace_ ? workspace_->activations.max_batch : 0;
    const uint32_t had_rows = workspace_ ? workspace_->activations.max_rows : 0;
    rows_.clear();
    steps_.clear();
    halves_.clear();
    workspace_.reset();
    const auto make = [&](uint32_t batch, uint32_t rows, const LoraUse& use) {
        require_room_for_batches(network_, batch, rows, use);
        workspace_.emplace(network_, layout_, batch, rows, use);
        table_pages_.fill(0);
        // kernels sum whole vectors of this table, also where no tile writes
        commands_.begin();
        commands_.zero(workspace_->activations.squares);
        commands_.finish();
    };
    for (;;) try {
            return make(max_batch, max_rows, all_adapters);
        } catch (...) {
            workspace_.reset();
            if (Error::current().status() == Status::InsufficientMemory && prefixes_.evict()) continue;
            if (had_batch > 0) make(had_batch, had_rows, had_adapters);
            throw;
        }
}

// ------------------------------------------------------------------------------------------------ callers and leaders

void Engine::run(std::span<Job> jobs) {
    Caller caller;
    Lock lock(mutex_);
    callers_.reserve(callers_.size() + 1);
    jobs_.reserve(jobs_.size() + jobs.size());
    callers_.push_back(&caller);
    for (Job& job : jobs) {
        job.caller = &caller;
        jobs_.push_back(&job);
    }
    caller.left = jobs.size();
    if (away_ > 0 && --away_ == 0) all_back_.notify_one();
    const auto to_receive = [&]() -> Job* {
        for (Job& job : jobs)
            if (!job.tapped.empty() || !job.drawn.empty()) return &job;
        return nullptr;
    };
    for (;;) {
        if (Job* job = to_receive()) {
            receive(lock, *job);
            continue;
        }
        if (caller.left == 0) break;
        if (!leading_) {
            leading_ = true;
            const bool worked = lead(lock);
            leading_ = false;
            // if not, all that is left waits for its callers, perhaps for this one: forced tokens come without a step
            if (worked || to_receive()) continue;
        }
        caller.waiting = true;
        caller.woken.wait(lock, [&] { return !caller.waiting; });
    }
    // more cancels of a call that returns cancelled are meant for it, not for the next one
    for (const Job& job : jobs)
        if (job.sequence && job.error && job.error->status() == Status::Cancelled) job.sequence->cancelled_ = false;
    std::erase(callers_, &caller);
    if (!leading_) wake_another();
}

void Engine::wake(Caller& caller) {
    if (!caller.waiting) return;
    caller.waiting = false;
    caller.woken.notify_one();
}

// So that somebody leads.
void Engine::wake_another() {
    for (Caller* caller : callers_)
        if (caller->waiting) return wake(*caller);
}

// Hands the caller's own callback a token that was drawn.
void Engine::receive(Lock& lock, Job& job) {
    if (!job.tapped.empty()) return receive_tapped(lock, job);
    const Drawn drawn = std::move(job.drawn.front());
    job.drawn.pop_front();
    std::optional<Error> error;
    StopReason stop = StopReason::None;
    try {
        accept(job, drawn.token);
        const bool last = job.ended;
        if (!leading_) wake_another();
        lock.unlock();
        stop = job.request->on_token(drawn, last);
    } catch (...) {
        error = Error::current();
    }
    if (!lock.owns_lock()) lock.lock();
    if (job.ended && (!error || job.error)) return;
    if (!job.ended && stop != StopReason::None) job.reason = stop;
    if (stop != StopReason::None || error) end(job, error);
}

// The sequence's next token.
void Engine::accept(Job& job, uint32_t token) {
    job.sequence->tokens_.push_back(token);
    job.received++;
    const std::vector<uint32_t>& stops = job.request->stop_tokens;
    const bool stop = std::find(stops.begin(), stops.end(), token) != stops.end();
    if (stop) job.reason = StopReason::StopToken;
    if (stop || job.received == job.limit) end(job);
}

// What was drawn in a row for a position.
void Engine::receive_drawn(Job& job, uint32_t row, uint32_t position) {
    job.token = workspace_->sampler.drawn(row, position);
    job.position = position;
    job.phase = Job::Phase::Decode;
    job.forced.clear();
    if (job.ended) return;
    try {
        Drawn drawn{job.token};
        const GenerateRequest& request = *job.request;
        if (request.logprobs == Logprobs::Model) drawn.logprobs = model_logprobs(logits(row), job.token, request.n_top);
        if (request.logprobs == Logprobs::Drawn)
            drawn.logprobs = drawn_logprobs(logits(row), request.settings, job.token, request.n_top);
        const bool more = job.grammar && take(job, job.token);
        deliver(job, std::move(drawn));
        if (more && !job.ended) force(job, position, {job.token});
    } catch (...) {
        end(job, Error::current());
    }
}

void Engine::deliver(Job& job, Drawn drawn) {
    if (job.ended) return;
    if (!job.request->on_token) return accept(job, drawn.token);
    job.drawn.push_back(std::move(drawn));
    wake(*job.caller);
}

void Engine::end(Job& job, const std::optional<Error>& error) {
    job.ended = true;
    job.error = error;
    job.drawn.clear();
    if (error) job.tapped.clear();
}

// Lets go the jobs that have ended, while no step is in flight; whether there were any.
bool Engine::retire() {
    const auto ended = [](const Job* job) { return job->ended; };
    if (std::none_of(jobs_.begin(), jobs_.end(), ended)) return false;
    away_ = 0;
    wait_until_ = Clock::now() + std::min<Clock::duration>(step_time_ / kWaitParts, kLongestWait);
    for (Job* job : jobs_)
        if (job->ended) {
            keep_end(*job);
            keep_grammar(*job);
            job->done = true;
            job->counts.reset();
            job->bias.reset();
            if (--job->caller->left > 0) continue;
            wake(*job->caller);
            away_++;
        }
    std::erase_if(jobs_, ended);
    if (away_ < jobs_.size()) away_ = 0;
    rows_.clear();
    return true;
}

// Lets those come back who are away, as long as that may pay.
void Engine::wait_for_callers(Lock& lock) {
    if (away_ == 0) return;
    waits_++;
    all_back_.wait_until(lock, wait_until_, [&] { return away_ == 0; });
    away_ = 0;
}

bool Engine::lead(Lock& lock) noexcept {
    try {
        return lead_turn(lock);
    } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        abandon();
        for (Job* job : jobs_)
            if (!job->ended) end(*job, Error::current());
        return true;
    }
}

// Does what is next: a batch of prompts, or a decode step. Whether there was anything.
bool Engine::lead_turn(Lock& lock) {
    for (Job* job : jobs_)
        if (job->sequence && !job->ended && job->sequence->cancelled_.exchange(false))
            end(*job, Error(Status::Cancelled, "cancelled"));
    if (in_flight_.empty()) {
        if (retire()) return true;  // whose jobs are done, perhaps the leader, can leave before others wait for it
        wait_for_callers(lock);
        for (Job* job : jobs_)
            if (job->phase == Job::Phase::New && !job->ended) start(*job);
        if (retire()) return true;
        std::vector<Row> rows = choose_rows();
        if (rows.empty() || rows_had_turn_) {
            rows_had_turn_ = false;
            for (Job* job : jobs_)
                if (job->phase == Job::Phase::Draw && !job->ended) {
                    draw(*job);
                    return true;
                }
            if (std::vector<Piece> pieces = choose_prompts(); !pieces.empty()) {
                compute_prompts(lock, std::move(pieces));
                return true;
            }
        }
        if (rows.empty()) return retire();  // choosing them may have ended some
        rows_had_turn_ = true;
        if (rows != rows_) load_rows(std::move(rows));
        if (!record_tapped_step()) return true;
    }
    while (in_flight_.size() < kAhead && (in_flight_.empty() || may_step())) submit_step();
    receive_step(lock);
    return true;
}

// Finds out what is to be computed, and takes the memory for it.
void Engine::start(Job& job) {
    try {
        if (job.alone) {
            job.alone();
            return end(job);
        }
        Sequence& s = *job.sequence;
        s.drafts_.forget();
        step_received_.reset();
        set_room(s.max_batch_, 1, s.adapter_.use());
        const auto end_of_prompt = static_cast<uint32_t>(s.tokens_.size());
        if (job.request) {
            job.counts = counts_of(s, job.request->settings);
            job.bias = bias_of(*job.request);
            if (job.request->grammar && !begin_grammar(job)) return end(job);
        }
        job.prompt = job.end = job.cached = end_of_prompt;
        job.token = s.tokens_.back();
        job.position = end_of_prompt - 1;
        if (s.processed()) {
            job.phase = Job::Phase::Draw;
            if (!job.request) return end(job);
            return force(job, end_of_prompt, {});
        }
        // the last token's logits are wanted, and what a tap wants to see is computed again
        job.first = job.cached = go_to(s, std::min(end_of_prompt - 1, s.next_tapped()));
        s.pages_.reserve(job.first, end_of_prompt);
        job.phase = job.request && job.first + 1 == end_of_prompt ? Job::Phase::Decode : Job::Phase::Prompt;
        force(job, job.first, {s.tokens_.begin() + job.first, s.tokens_.end()});
    } catch (...) {
        end(job, Error::current());
    }
}

// Waits for all that runs, whatever became of it.
void Engine::abandon() noexcept {
    const auto wait = [](vk::Commands& commands) {
        try {
            commands.wait();
        } catch (...) {
            // the error that led here is the one to report
        }
    };
    wait(commands_);
    for (vk::Commands& commands : batch_commands_) wait(commands);
    for (auto& [n, steps] : steps_)
        for (const auto& step : steps)
            if (step) wait(*step);
    for (auto& [n, halves] : halves_)
        for (const auto& half : halves)
            if (half) wait(*half);
    if (tapped_step_) {
        wait(tapped_step_->forward);
        wait(tapped_step_->draw);
        tapped_step_->taps.reset();
    }
    in_flight_.clear();
    rows_.clear();
    table_pages_.fill(0);
    step_received_.reset();
}

// -------------------------------------------------------------------------------------------------------------- parts

// The table of the pages, written first if it is not there: that of least use gives way.
uint32_t Engine::table_of(vk::Commands& commands, const KvPages& pages) {
    auto at = std::find(table_pages_.begin(), table_pages_.end(), pages.version()) - table_pages_.begin();
    if (at == kMaxRows) {
        at = std::min_element(table_turns_.begin(), table_turns_.end()) - table_turns_.begin();
        pages.record_table(commands, workspace_->tables, static_cast<uint32_t>(at));
        table_pages_[static_cast<size_t>(at)] = pages.version();
    }
    table_turns_[static_cast<size_t>(at)] = turn_;
    return static_cast<uint32_t>(at);
}

// Tells the kernels of the adapters that the next rows or tokens have, in the order of adapters_.
void Engine::record_adapters(vk::Commands& commands, std::span<const Sequence* const> sequences) {
    adapters_.clear();
    std::vector<args::LoraRow> rows;
    for (const Sequence* s : sequences) {
        if (!s->adapter_.adapter || adapter_of(*s) > 0) continue;
        rows.push_back({s->adapter_.adapter->weights.pairs, s->adapter_.scale, 0});
        adapters_.emplace_back(s->adapter_.key(), s->adapter_.use());
    }
    if (!rows.empty()) commands.update(workspace_->lora->rows, 0, rows.data(), rows.size() * sizeof rows[0]);
}

// As a token names it: 0 for none.
uint32_t Engine::adapter_of(const Sequence& sequence) const {
    const uint64_t key = sequence.adapter_.key();
    for (uint32_t i = 0; key != 0 && i < adapters_.size(); i++)
        if (adapters_[i].first == key) return i + 1;
    return 0;
}

std::optional<LoraBatch> Engine::lora_batch() const {
    if (adapters_.empty()) return std::nullopt;
    LoraUse use;
    for (const auto& [key, its] : adapters_) use = use | its;
    return LoraBatch{*workspace_->lora, use};
}

// How often the sequence has each token, if the settings ask for it; else NULL.
Page Engine::counts_of(const Sequence& sequence, const SamplerSettings& settings) {
    if (!settings.penalizes()) return nullptr;
    std::vector<uint32_t> counts(Sampler::stride(network_.config));
    count_tokens(counts, sequence.tokens_, sequence.answer_start_);
    return upload(counts, "token counts");
}

// What is added to each logit, if anything is; else NULL.
Page Engine::bias_of(const GenerateRequest& request) {
    if (request.bias.empty()) return nullptr;
    std::vector<uint32_t> bias(Sampler::stride(network_.config));
    for (const auto& [token, value] : request.bias) bias[token] = std::bit_cast<uint32_t>(value);
    return upload(bias, "logit biases");
}

Page Engine::upload(std::span<const uint32_t> words, const char* what) {
    Page page = pool_.take(words.size_bytes(), what);
    const vk::Buffer staging(network_.device, words.size_bytes(), vk::Memory::Upload, what);
    std::memcpy(staging.data(), words.data(), words.size_bytes());
    pool_.copy(
        [&](vk::Commands& commands) { commands.copy(staging, 0, page->buffer(), page->offset(), words.size_bytes()); });
    return page;
}

Sampler::Row Engine::sampler_row(const Job& job) const {
    return {job.request->settings, job.counts ? job.counts->address() : 0, job.bias ? job.bias->address() : 0,
            job.grammar.has_value()};
}

// A row of logits that the host can read.
std::span<const float> Engine::logits(uint32_t row) const {
    return {workspace_->logits.as<const float>() + row * Sampler::stride(network_.config), network_.config.vocab};
}

// Reads the logits that the log-probabilities of a draw are made of, for those of its rows that want them.
void Engine::read_logits(std::span<Job* const> rows) {
    const auto wants = [](const Job* job) { return job->request->logprobs != Logprobs::None; };
    if (std::none_of(rows.begin(), rows.end(), wants)) return;
    const uint64_t bytes = Sampler::counts_bytes(network_.config);
    commands_.begin();  // the draw has had a barrier since these were written
    for (uint32_t row = 0; row < rows.size(); row++) {
        if (!wants(rows[row])) continue;
        const bool model = rows[row]->request->logprobs == Logprobs::Model;
        commands_.copy(model ? workspace_->activations.logits : workspace_->sampler.adjusted(), row * bytes,
                       workspace_->logits, row * bytes, bytes);
    }
    commands_.finish();
}

void Engine::record_expert_counts(vk::Commands& commands, uint32_t index) const {
    if (const ExpertCache* experts = network_.weights.expert_cache())
        experts->record_counts(commands, expert_counts_, index * experts->counts_bytes());
}

void Engine::hand_in_expert_counts(uint32_t index) const {
    ExpertCache* experts = network_.weights.expert_cache();
    if (!experts) return;
    const uint64_t n = experts->counts_bytes() / 4;
    experts->hand_in({expert_counts_.as<const uint32_t>() + index * n, n});
}

}  // namespace gptoss::model
