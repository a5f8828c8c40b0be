#include "engine/engine.h"

#include <algorithm>
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

namespace {

constexpr uint32_t kSnapshotTokens = 64;  // computing fewer again costs less than a copy of the ring
constexpr uint32_t kStepsOfRows = 16;     // before rows that wait take the places of others

constexpr double kSubmitWork = 5e10;  // multiply-adds of a submit: a quarter of a second on a slow laptop's GPU

// Multiply-adds of a layer for n tokens, the last of them at position `last`.
double layer_work(const io::Config& c, uint32_t last, uint32_t n) {
    const double attention_rows = c.qkv_rows() + 1.0 * HEAD_DIM * c.n_heads;
    const double experts = 3.0 * c.n_active_experts * c.intermediate;
    const double keys = 2.0 * HEAD_DIM * c.n_heads * (last + 1.0);
    return n * (c.hidden * (attention_rows + experts) + keys);
}

}  // namespace

Engine::Workspace::Workspace(const Network& network, const KvLayout& layout, uint32_t max_batch, uint32_t max_rows)
    : activations(network, max_batch, max_rows),
      tables(network.device, layout, kMaxRows),
      sampler(network, max_rows),
      logits(network.device, max_rows * Sampler::counts_bytes(network.config), vk::Memory::Readback, "logits") {}

Engine::Engine(const Network& network)
    : network_(network),
      layout_(network.config, network.kv_f16),
      pool_(network.device, network.pipelines),
      commands_(network.device, network.pipelines),
      batch_commands_{vk::Commands(network.device, network.pipelines),
                      vk::Commands(network.device, network.pipelines)} {
    if (const ExpertCache* experts = network_.weights.expert_cache())
        expert_counts_ = vk::Buffer(network_.device, (kAhead + 1) * experts->counts_bytes(), vk::Memory::Readback,
                                    "uses of experts");
}

Engine::~Engine() = default;

uint64_t Engine::footprint(const io::Config& config, const Tuning& tuning, bool kv_f16, uint32_t max_batch,
                           uint32_t max_rows) {
    return Activations::footprint(config, tuning, max_batch, max_rows) + Sampler::footprint(config, max_rows) +
           KvTables::footprint(KvLayout(config, kv_f16), kMaxRows);
}

uint64_t Engine::working_bytes() {
    const std::lock_guard lock(mutex_);
    if (!workspace_) return 0;
    const Activations& a = workspace_->activations;
    return footprint(network_.config, network_.tuning, network_.kv_f16, a.max_batch, a.max_rows);
}

Sequence::Stats Engine::stats(const Sequence& s) {
    const std::lock_guard lock(mutex_);
    return {s.pages_.bytes(), s.pages_.bytes_read(static_cast<uint32_t>(s.tokens_.size())), s.step_dispatches_,
            s.step_barriers_, s.prompt_tokens_computed_};
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
void Engine::set_room(uint32_t max_batch, uint32_t max_rows) {
    if (workspace_) {
        max_batch = std::max(max_batch, workspace_->activations.max_batch);
        max_rows = std::max(max_rows, workspace_->activations.max_rows);
        if (max_batch == workspace_->activations.max_batch && max_rows == workspace_->activations.max_rows) return;
    }
    const uint32_t had_batch = workspace_ ? workspace_->activations.max_batch : 0;
    const uint32_t had_rows = workspace_ ? workspace_->activations.max_rows : 0;
    rows_.clear();
    steps_.clear();
    workspace_.reset();
    const auto make = [&](uint32_t batch, uint32_t rows) {
        require_room_for_batches(network_, batch, rows);
        workspace_.emplace(network_, layout_, batch, rows);
        table_pages_.fill(0);
        // kernels sum whole vectors of this table, also where no tile writes
        commands_.begin();
        commands_.zero(workspace_->activations.squares);
        commands_.finish();
    };
    try {
        make(max_batch, max_rows);
    } catch (...) {
        workspace_.reset();
        if (had_batch > 0) make(had_batch, had_rows);
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
    const auto to_receive = [&]() -> Job* {
        for (Job& job : jobs)
            if (!job.drawn.empty()) return &job;
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
            // if not, all that is left waits for its callers
            if (worked) continue;
        }
        caller.waiting = true;
        caller.woken.wait(lock, [&] { return !caller.waiting; });
    }
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
    const uint32_t token = job.drawn.front();
    job.drawn.pop_front();
    std::optional<Error> error;
    bool stop = false;
    try {
        accept(job, token);
        if (!leading_) wake_another();
        lock.unlock();
        stop = job.request->on_token(token);
    } catch (...) {
        error = Error::current();
    }
    if (!lock.owns_lock()) lock.lock();
    if (job.ended && (!error || job.error)) return;
    if (!job.ended && stop) job.reason = StopReason::Callback;
    if (stop || error) end(job, error);
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

void Engine::deliver(Job& job, uint32_t token) {
    if (job.ended) return;
    if (!job.request->on_token) return accept(job, token);
    job.drawn.push_back(token);
    wake(*job.caller);
}

void Engine::end(Job& job, const std::optional<Error>& error) {
    job.ended = true;
    job.error = error;
    job.drawn.clear();
}

// Lets go the jobs that have ended, while no step is in flight; whether there were any.
bool Engine::retire() {
    const auto ended = [](const Job* job) { return job->ended; };
    if (std::none_of(jobs_.begin(), jobs_.end(), ended)) return false;
    for (Job* job : jobs_)
        if (job->ended) {
            job->done = true;
            job->counts.reset();
            if (--job->caller->left == 0) wake(*job->caller);
        }
    std::erase_if(jobs_, ended);
    rows_.clear();
    return true;
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
        for (Job* job : jobs_)
            if (job->phase == Job::Phase::New && !job->ended) start(*job);
        const bool retired = retire();
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
        if (rows.empty()) return retire() || retired;  // choosing them may have ended some
        rows_had_turn_ = true;
        if (rows != rows_) load_rows(std::move(rows));
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
        set_room(s.max_batch_, 1);
        const auto end_of_prompt = static_cast<uint32_t>(s.tokens_.size());
        const auto [mine, cached] =
            std::mismatch(s.tokens_.begin(), s.tokens_.end(), s.computed_.begin(), s.computed_.end());
        auto same = static_cast<uint32_t>(mine - s.tokens_.begin());
        if (job.request) job.counts = counts_of(s, job.request->settings);
        job.end = end_of_prompt;
        job.token = s.tokens_.back();
        job.position = end_of_prompt - 1;
        if (same == end_of_prompt && s.logits_of_ == same) {
            job.phase = Job::Phase::Draw;
            if (!job.request) end(job);
            return;
        }
        same -= same == end_of_prompt;  // only the last token's logits are missing
        job.first = go_back(s, same);
        s.pages_.reserve(job.first, end_of_prompt);
        job.phase = job.request && job.first + 1 == end_of_prompt ? Job::Phase::Decode : Job::Phase::Prompt;
    } catch (...) {
        end(job, Error::current());
    }
}

// To `position` computed tokens, or fewer: returns how many.
uint32_t Engine::go_back(Sequence& sequence, uint32_t position) {
    sequence.logits_of_ = 0;
    position = sequence.pages_.rewind(position);
    sequence.computed_.resize(position);
    return position;
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
    in_flight_.clear();
    rows_.clear();
    table_pages_.fill(0);
}

// ------------------------------------------------------------------------------------------------------------ prompts

// The prompt whose last turn was first, and whole rests of others as far as they fit beside it.
std::vector<Engine::Piece> Engine::choose_prompts() {
    std::vector<Job*> waiting;
    for (Job* job : jobs_)
        if (job->phase == Job::Phase::Prompt && !job->ended) waiting.push_back(job);
    std::stable_sort(waiting.begin(), waiting.end(), [](const Job* a, const Job* b) { return a->turn < b->turn; });
    std::vector<Piece> pieces;
    uint32_t room = workspace_->activations.max_batch;
    for (Job* job : waiting) {
        Sequence& s = *job->sequence;
        const auto first = static_cast<uint32_t>(s.computed_.size());
        const uint32_t rest = job->end - first, n = std::min({rest, s.max_batch_, room});
        if (!pieces.empty() && n < rest) continue;
        pieces.push_back({&s, first, n, job, n == rest});
        room -= n;
        if (room == 0 || pieces.size() == kMaxRows) break;
    }
    turn_++;
    for (const Piece& piece : pieces) piece.job->turn = turn_;
    return pieces;
}

void Engine::compute_prompts(Lock& lock, std::vector<Piece> pieces) {
    try {
        // rows are drawn, then only computed, then of prompts that go on
        const auto kind = [](const Piece& p) { return !p.last ? 2 : p.job->request ? 0 : 1; };
        std::stable_sort(pieces.begin(), pieces.end(),
                         [&](const Piece& a, const Piece& b) { return kind(a) < kind(b); });
        const auto n_logits = std::count_if(pieces.begin(), pieces.end(), [](const Piece& p) { return p.last; });
        set_room(0, static_cast<uint32_t>(n_logits));
        for (const Piece& p : pieces) p.sequence->pages_.will_write(p.first, p.n);
        lock.unlock();
        run_batch(pieces);
        lock.lock();
        for (uint32_t row = 0; row < pieces.size(); row++) {
            const Piece& p = pieces[row];
            Sequence& s = *p.sequence;
            Job& job = *p.job;
            s.computed_.insert(s.computed_.end(), s.tokens_.begin() + p.first, s.tokens_.begin() + p.first + p.n);
            s.prompt_tokens_computed_ += p.n;
            if (!p.last || job.ended) continue;
            if (job.end - job.first >= kSnapshotTokens) s.pages_.save(job.end);
            if (job.request) {
                job.token = workspace_->sampler.drawn(row, job.end);
                job.position = job.end;
                job.submitted = 1;
                job.phase = Job::Phase::Decode;
                deliver(job, job.token);
            } else {
                const float* logits = workspace_->logits.as<const float>() + row * Sampler::stride(network_.config);
                s.logits_ = std::make_shared<std::vector<float>>(logits, logits + network_.config.vocab);
                s.logits_of_ = job.end;  // last: a call that fails has to fail again on a device that stays lost
                end(job);
            }
        }
    } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        abandon();
        for (const Piece& p : pieces)
            if (!p.job->ended) end(*p.job, Error::current());
    }
}

// In several submits where the work is long: a display's GPU resets a job of more than about two seconds.
void Engine::run_batch(std::span<const Piece> pieces) {
    const uint32_t n_layers = network_.config.n_layers;
    const Activations& a = workspace_->activations;
    const Sampler& sampler = workspace_->sampler;
    uint32_t n = 0, n_logits = 0;
    double work = 0;  // of a layer
    std::vector<Sampler::Row> drawn;
    for (const Piece& p : pieces) {
        n += p.n;
        n_logits += p.last;
        work += layer_work(network_.config, p.first + p.n - 1, p.n);
        if (p.last && p.job && p.job->request) drawn.push_back(sampler_row(*p.job));
    }
    const auto n_drawn = static_cast<uint32_t>(drawn.size());
    const auto layers = static_cast<uint32_t>(std::clamp(kSubmitWork / work, 1.0, 1e6));
    rows_.clear();
    for (uint32_t layer = 0, i = 0; layer < n_layers; layer += layers, i++) {
        vk::Commands& commands = batch_commands_[i % batch_commands_.size()];
        commands.begin();
        if (layer == 0) {
            record_tokens(commands, pieces);
            if (n_drawn > 0) sampler.record_rows(commands, drawn);
        }
        const uint32_t end = std::min(layer + layers, n_layers);
        record_forward(commands, network_, a, workspace_->tables, n, layer, end, end == n_layers ? n_logits : 0);
        if (end == n_layers) {
            if (n_logits > 0) commands.barrier();
            if (n_drawn > 0) sampler.record(commands, n_drawn, a.logits.address(), a.tokens.address());
            const uint64_t row_bytes = Sampler::counts_bytes(network_.config);
            if (n_logits > n_drawn)
                commands.copy(a.logits, n_drawn * row_bytes, workspace_->logits, n_drawn * row_bytes,
                              (n_logits - n_drawn) * row_bytes);
            record_expert_counts(commands, kAhead);
        }
        commands.end();
        // as soon as nobody waits for it any more
        if (std::all_of(pieces.begin(), pieces.end(), [](const Piece& p) { return p.sequence->cancelled_.load(); })) {
            for (const Piece& p : pieces) p.sequence->cancelled_ = false;
            throw Error(Status::Cancelled, "cancelled");
        }
        commands.submit();
    }
    for (vk::Commands& commands : batch_commands_) commands.wait();
    hand_in_expert_counts(kAhead);
}

// The tokens of a batch: first those whose logits are wanted, in the order of their pieces. Returns how many there are.
uint32_t Engine::record_tokens(vk::Commands& commands, std::span<const Piece> pieces) {
    std::vector<args::Token> last, others;
    commands.barrier();
    for (const Piece& p : pieces) {
        const uint32_t sequence = workspace_->tables.sequence(table_of(commands, p.sequence->pages_));
        for (uint32_t i = p.first; i < p.first + p.n; i++) {
            const bool is_last = p.last && i + 1 == p.first + p.n;
            (is_last ? last : others).push_back({p.sequence->tokens_[i], i, sequence, 0});
        }
    }
    last.insert(last.end(), others.begin(), others.end());
    commands.update(workspace_->activations.tokens, 0, last.data(), last.size() * sizeof(args::Token));
    return static_cast<uint32_t>(last.size());
}

// From logits that are known.
void Engine::draw(Job& job) {
    try {
        set_room(0, 1);
        const Activations& a = workspace_->activations;
        rows_.clear();
        std::memcpy(workspace_->logits.data(), job.sequence->logits_->data(), network_.config.vocab * 4ull);
        const args::Token token{job.token, job.position, 0, 0};
        const Sampler::Row row = sampler_row(job);
        commands_.begin();
        commands_.barrier();
        commands_.copy(workspace_->logits, 0, a.logits, 0, network_.config.vocab * 4ull);
        commands_.update(a.tokens, 0, &token, sizeof token);
        workspace_->sampler.record_rows(commands_, {&row, 1});
        commands_.barrier();
        workspace_->sampler.record(commands_, 1, a.logits.address(), a.tokens.address());
        commands_.finish();
        job.token = workspace_->sampler.drawn(0, job.end);
        job.position = job.end;
        job.submitted = 1;
        job.phase = Job::Phase::Decode;
        deliver(job, job.token);
    } catch (...) {
        abandon();
        end(job, Error::current());
    }
}

std::vector<vk::KernelTime> Engine::profile(Sequence& s, uint32_t n, const SamplerSettings& settings) {
    std::vector<vk::KernelTime> times;
    const auto run_timed = [&] {
        const auto end = static_cast<uint32_t>(s.tokens_.size());
        uint32_t done = go_back(s, end - n);
        s.pages_.reserve(done, end);
        const auto take = [&](uint32_t first, uint32_t count) {
            s.pages_.will_write(first, count);
            return Piece{&s, first, count, nullptr, first + count == end};
        };
        for (; done < end - n; done = static_cast<uint32_t>(s.computed_.size())) {
            const Piece piece = take(done, std::min(end - n - done, s.max_batch_));
            run_batch({&piece, 1});
            s.computed_.insert(s.computed_.end(), s.tokens_.begin() + done, s.tokens_.begin() + done + piece.n);
        }
        const Activations& a = workspace_->activations;
        const Piece piece = take(end - n, n);
        const Page counts = counts_of(s, settings);
        const Sampler::Row row{settings, counts ? counts->address() : 0};
        vk::Commands commands(network_.device, network_.pipelines);
        commands.enable_profile();
        rows_.clear();
        commands.begin();
        record_tokens(commands, {&piece, 1});
        workspace_->sampler.record_rows(commands, {&row, 1});
        record_forward(commands, network_, a, workspace_->tables, n, 0, network_.config.n_layers, 1);
        commands.finish();
        s.computed_ = s.tokens_;
        times = commands.profile();
        commands.begin();
        commands.barrier();
        workspace_->sampler.record(commands, 1, a.logits.address(), a.tokens.address());
        commands.finish();
        for (vk::KernelTime& time : commands.profile()) times.push_back(std::move(time));
    };
    Job job{.alone = [&] {
        try {
            run_timed();
        } catch (...) {
            abandon();
            throw;
        }
    }};
    run({&job, 1});
    if (job.error) throw Error(*job.error);
    return times;
}

// ------------------------------------------------------------------------------------------------------- decode steps

// The sequences that can take a step, with room for the token that it computes.
std::vector<Engine::Row> Engine::choose_rows() {
    std::vector<Job*> ready;
    for (Job* job : jobs_)
        if (job->phase == Job::Phase::Decode && !job->ended && job->submitted < job->limit &&
            job->drawn.size() < kAhead)
            ready.push_back(job);
    // where they are too many, those go first that have waited longest
    if (ready.size() > kMaxRows)
        std::stable_sort(ready.begin(), ready.end(), [](const Job* a, const Job* b) { return a->turn < b->turn; });
    std::vector<Row> rows;
    for (Job* job : ready) {
        if (rows.size() == kMaxRows) break;
        KvPages& pages = job->sequence->pages_;
        try {
            pages.reserve(job->position, job->position + 1);
            rows.push_back({job, pages.version()});
        } catch (...) {
            end(*job, Error::current());
        }
    }
    if (rows.size() <= 1) return rows;
    try {
        const auto n = static_cast<uint32_t>(rows.size());
        if (!workspace_ || n > workspace_->activations.max_rows) set_room(n, std::min(kMaxRows, std::bit_ceil(n)));
    } catch (const Error& e) {
        if (e.status() != Status::InsufficientMemory || !workspace_) throw;
        rows.resize(workspace_->activations.max_rows);
    }
    return rows;
}

void Engine::load_rows(std::vector<Row> rows) {
    turn_++;
    std::vector<args::Token> tokens;
    std::vector<Sampler::Row> settings;
    commands_.begin();
    commands_.barrier();
    for (const Row& row : rows) {
        row.job->turn = turn_;
        const uint32_t table = table_of(commands_, row.job->sequence->pages_);
        tokens.push_back({row.job->token, row.job->position, workspace_->tables.sequence(table), 0});
        settings.push_back(sampler_row(*row.job));
    }
    commands_.update(workspace_->activations.tokens, 0, tokens.data(), tokens.size() * sizeof(args::Token));
    workspace_->sampler.record_rows(commands_, settings);
    commands_.end();
    commands_.submit();
    rows_ = std::move(rows);
    steps_of_rows_ = 0;
}

// Whether the rows can take a step more before the host has seen those in flight, and nothing else is to be done.
bool Engine::may_step() const {
    for (const Job* job : jobs_) {
        const bool is_row = std::any_of(rows_.begin(), rows_.end(), [&](const Row& row) { return row.job == job; });
        if (job->ended || job->phase != Job::Phase::Decode) return false;
        if (!is_row && job->drawn.size() < kAhead && (rows_.size() < kMaxRows || steps_of_rows_ >= kStepsOfRows))
            return false;
        const auto ahead = static_cast<uint32_t>(in_flight_.size());
        const uint32_t position = job->position + ahead;
        if (is_row && (job->submitted == job->limit || job->drawn.size() + ahead >= kAhead ||
                       !job->sequence->pages_.holds(position, position + 1)))
            return false;
    }
    return true;
}

void Engine::submit_step() {
    const auto n = static_cast<uint32_t>(rows_.size());
    const uint32_t index = next_step_;
    std::unique_ptr<vk::Commands>& step = steps_[n][index];
    if (!step) {
        auto commands = std::make_unique<vk::Commands>(network_.device, network_.pipelines);
        const Activations& a = workspace_->activations;
        commands->begin();
        record_forward(*commands, network_, a, workspace_->tables, n, 0, network_.config.n_layers, n);
        commands->barrier();
        workspace_->sampler.record(*commands, n, a.logits.address(), a.tokens.address());
        record_expert_counts(*commands, index);
        commands->end();
        step = std::move(commands);
    }
    for (const Row& row : rows_) {
        Sequence& s = *row.job->sequence;
        s.pages_.will_write(row.job->position + static_cast<uint32_t>(in_flight_.size()), 1);
        s.step_dispatches_ = step->dispatches();
        s.step_barriers_ = step->barriers();
        s.logits_of_ = 0;
    }
    step->submit();
    for (const Row& row : rows_) row.job->submitted++;
    in_flight_.push_back(index);
    next_step_ = (next_step_ + 1) % kAhead;
    steps_of_rows_++;
}

void Engine::receive_step(Lock& lock) {
    const std::vector<Row> rows = rows_;
    try {
        const uint32_t index = in_flight_.front();
        vk::Commands& step = *steps_[static_cast<uint32_t>(rows.size())][index];
        lock.unlock();
        step.wait();
        lock.lock();
        in_flight_.pop_front();
        for (uint32_t r = 0; r < rows.size(); r++) {
            Job& job = *rows[r].job;
            job.sequence->computed_.push_back(job.token);
            job.sequence->prompt_tokens_computed_ += ++job.position == job.end;
            job.token = workspace_->sampler.drawn(r, job.position);
            deliver(job, job.token);
        }
        hand_in_expert_counts(index);
    } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        abandon();
        for (const Row& row : rows)
            if (!row.job->ended) end(*row.job, Error::current());
    }
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

// How often the sequence has each token, if the settings ask for it; else NULL.
Page Engine::counts_of(const Sequence& sequence, const SamplerSettings& settings) {
    if (!settings.penalizes()) return nullptr;
    const uint64_t bytes = Sampler::counts_bytes(network_.config);
    Page counts = pool_.take(bytes, "token counts");
    const vk::Buffer staging(network_.device, bytes, vk::Memory::Upload, "token counts");
    count_tokens({staging.as<uint32_t>(), bytes / 4}, sequence.tokens_, sequence.answer_start_);
    pool_.copy([&](vk::Commands& commands) { commands.copy(staging, 0, counts->buffer(), counts->offset(), bytes); });
    return counts;
}

Sampler::Row Engine::sampler_row(const Job& job) const {
    return {job.request->settings, job.counts ? job.counts->address() : 0};
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
