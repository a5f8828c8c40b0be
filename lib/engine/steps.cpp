// Decode steps: which rows take one, and what comes of it.
#include <algorithm>
#include <bit>

#include "base/error.h"
#include "engine/engine.h"

namespace gptoss::model {

namespace {

constexpr uint32_t kStepsOfRows = 16;  // before rows that wait take the places of others

}  // namespace

// The sequences that can take a step, with room for the token that it computes.
std::vector<Engine::Row> Engine::choose_rows() {
    std::vector<Job*> ready;
    for (Job* job : jobs_)
        if (job->phase == Job::Phase::Decode && !job->ended && job->submitted < job->limit &&
            job->drawn.size() < kAhead && job->tapped.empty())
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
    if (rows.size() == 1) add_draft(rows);
    if (rows.size() <= 1 || rows.back().draft_position > 0) return rows;
    try {
        const auto n = static_cast<uint32_t>(rows.size());
        if (!workspace_ || n > workspace_->activations.max_rows) set_room(0, std::min(kMaxRows, std::bit_ceil(n)));
    } catch (const Error& e) {
        if (e.status() != Status::InsufficientMemory || !workspace_) throw;
        rows.resize(workspace_->activations.max_rows);
    }
    return rows;
}

// How many tokens of a draft the next step of a job verifies, if it is alone. Penalties depend on the tokens before,
// and draws are made of all rows at once.
uint32_t Engine::draft_size(const Job& job) {
    const Drafts& drafts = job.sequence->drafts_;
    const GenerateRequest& request = *job.request;
    if (request.lookup == PromptLookup::Off || request.settings.penalizes() || request.logprobs != Logprobs::None ||
        job.sequence->tap_ || !drafts.any() || !room_for_drafts_)
        return 0;
    const auto most =
        static_cast<uint32_t>(std::min<uint64_t>(Drafts::kMost, job.limit - std::min(job.limit, job.submitted + 1)));
    if (request.lookup == PromptLookup::Always) return most;
    return step_times_.best_draft(most, [&](uint32_t n) { return drafts.expected(n); });
}

// Adds rows for what may follow the only one.
void Engine::add_draft(std::vector<Row>& rows) {
    Job& job = *rows[0].job;
    Sequence& s = *job.sequence;
    const uint32_t n = draft_size(job);
    if (n == 0) return;
    try {
        set_room(0, std::bit_ceil(n + 1));
    } catch (const Error& e) {
        if (e.status() != Status::InsufficientMemory || !workspace_) throw;
        room_for_drafts_ = false;
        return;
    }
    try {
        s.pages_.reserve(job.position, job.position + 1 + n);
    } catch (const Error& e) {
        if (e.status() != Status::InsufficientMemory) throw;
        return;
    }
    rows[0].pages = s.pages_.version();
    uint32_t position = job.position;
    const std::vector<uint32_t> draft = s.drafts_.next(s.computed_, job.token, n);
    for (const uint32_t token : std::span(draft).first(allowed(job, draft)))
        rows.push_back({&job, rows[0].pages, ++position, token});
}

void Engine::load_rows(std::vector<Row> rows) {
    turn_++;
    std::vector<args::Token> tokens;
    std::vector<Sampler::Row> settings;
    commands_.begin();
    commands_.barrier();
    std::vector<const Sequence*> sequences;
    for (const Row& row : rows) sequences.push_back(row.job->sequence);
    record_adapters(commands_, sequences);
    for (const Row& row : rows) {
        row.job->turn = turn_;
        const uint32_t table = table_of(commands_, row.job->sequence->pages_);
        const uint32_t sequence = workspace_->tables.sequence(table), adapter = adapter_of(*row.job->sequence);
        if (row.draft_position > 0)
            tokens.push_back({row.draft, row.draft_position, sequence, adapter});
        else
            tokens.push_back({row.job->token, row.job->position, sequence, adapter});
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
bool Engine::may_step() {
    if (draws_apart() || taps_next()) return false;
    // what a draft's rows draw decides what comes next, and a draft begins after the last token
    if (rows_.back().draft_position > 0 || (rows_.size() == 1 && draft_size(*rows_[0].job) > 0)) return false;
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

// Whether a draw waits for the host: what may be drawn depends on the token before it, or its logits are to be read.
bool Engine::draws_apart(const Job& job) { return job.grammar || job.request->logprobs != Logprobs::None; }

bool Engine::draws_apart() const {
    return std::any_of(rows_.begin(), rows_.end(), [](const Row& row) { return draws_apart(*row.job); });
}

// The command buffers of a step, which are submitted one after the other: the forward pass and the draw, together or
// apart.
std::vector<vk::Commands*> Engine::step(uint32_t index) {
    if (tapped_step_ && tapped_step_->taps) return {&tapped_step_->forward, &tapped_step_->draw};
    const auto n = static_cast<uint32_t>(rows_.size());
    const bool apart = draws_apart();
    const std::optional<LoraBatch> lora = lora_batch();
    const StepKind kind{n, lora ? lora->use : LoraUse{}};
    std::unique_ptr<vk::Commands>& forward = apart ? halves_[kind][0] : steps_[kind][index];
    if (!forward) {
        step_received_.reset();  // building takes its time, once
        auto commands = std::make_unique<vk::Commands>(network_.device, network_.pipelines);
        auto second = std::make_unique<vk::Commands>(network_.device, network_.pipelines);
        vk::Commands& draw = apart ? *second : *commands;
        commands->begin();
        record_forward(*commands, network_, workspace_->activations, workspace_->tables, n, 0, network_.config.n_layers,
                       n, lora);
        if (apart) {
            commands->end();
            draw.begin();
        }
        record_draw(draw, index);
        if (apart) halves_[kind][1] = std::move(second);
        forward = std::move(commands);
    }
    if (!apart) return {forward.get()};
    return {forward.get(), halves_[kind][1].get()};
}

void Engine::record_draw(vk::Commands& commands, uint32_t index) const {
    const Activations& a = workspace_->activations;
    commands.barrier();
    workspace_->sampler.record(commands, static_cast<uint32_t>(rows_.size()), a.logits.address(), a.tokens.address());
    record_expert_counts(commands, index);
    commands.end();
}

void Engine::submit_step() {
    const uint32_t index = draws_apart() ? 0 : next_step_;
    const std::vector<vk::Commands*> step = this->step(index);
    for (const Row& row : rows_) {
        Sequence& s = *row.job->sequence;
        if (row.draft_position > 0) {
            s.pages_.will_write(row.draft_position, 1);
            continue;
        }
        s.pages_.will_write(row.job->position + static_cast<uint32_t>(in_flight_.size()), 1);
        s.step_dispatches_ = s.step_barriers_ = 0;
        for (const vk::Commands* commands : step) {
            s.step_dispatches_ += commands->dispatches();
            s.step_barriers_ += commands->barriers();
        }
        s.logits_of_ = 0;
    }
    for (vk::Commands* commands : step) {
        if (commands != step.front()) write_masks();  // while the forward pass runs
        commands->submit();
    }
    for (const Row& row : rows_)
        if (row.draft_position == 0) {
            row.job->submitted++;
            row.job->sequence->decode_steps_++;
        }
    in_flight_.push_back(index);
    next_step_ = (next_step_ + 1) % kAhead;
    steps_of_rows_++;
}

void Engine::receive_step(Lock& lock) {
    const std::vector<Row> rows = rows_;
    try {
        const uint32_t index = in_flight_.front();
        const std::vector<vk::Commands*> step = this->step(index);
        lock.unlock();
        const Clock::time_point start = Clock::now();
        for (vk::Commands* commands : step) commands->wait();
        const Clock::duration waited = Clock::now() - start;
        std::vector<Job*> jobs;
        for (const Row& row : rows) jobs.push_back(row.job);
        read_logits(jobs);
        lock.lock();
        step_time_ = waited;
        if (tapped_step_) deliver_tapped(jobs, std::exchange(tapped_step_->taps, nullptr));
        in_flight_.pop_front();
        const bool alone = rows.front().job == rows.back().job;
        for (uint32_t r = 0; r < rows.size(); r++) {
            const Row& row = rows[r];
            Job& job = *row.job;
            Sequence& s = *job.sequence;
            if (row.draft_position > 0) {
                // another token was drawn in its place, or in that of a draft before it
                if (row.draft_position != job.position || row.draft != job.token) break;
                job.submitted++;
            }
            s.computed_.push_back(job.token);
            s.prompt_tokens_computed_ += job.position + 1 == job.prompt;
            receive_drawn(job, r, job.position + 1);
            if (alone && job.request->lookup != PromptLookup::Off)
                s.drafts_.add(s.computed_, job.token);
            else
                s.drafts_.forget();
            if (alone && job.phase == Job::Phase::Prompt)
                break;  // it goes on with what is forced, whatever was drafted
        }
        if (rows.back().draft_position > 0) rows_.clear();
        const auto now = Clock::now();
        if (alone && step_received_)
            step_times_.add(static_cast<uint32_t>(rows.size()),
                            std::chrono::duration<double>(now - *step_received_).count());
        step_received_ = alone ? std::optional(now) : std::nullopt;
        hand_in_expert_counts(index);
    } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        abandon();
        for (const Row& row : rows)
            if (!row.job->ended) end(*row.job, Error::current());
    }
}

}  // namespace gptoss::model
