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
    if (draws_apart()) return false;
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
bool Engine::draws_apart() const {
    return std::any_of(rows_.begin(), rows_.end(),
                       [](const Row& row) { return row.job->grammar || row.job->request->logprobs != Logprobs::None; });
}

// The command buffers of a step, which are submitted one after the other: the forward pass and the draw, together or
// apart.
std::vector<vk::Commands*> Engine::step(uint32_t index) {
    const auto n = static_cast<uint32_t>(rows_.size());
    const bool apart = draws_apart();
    std::unique_ptr<vk::Commands>& forward = apart ? halves_[n][0] : steps_[n][index];
    if (!forward) {
        auto commands = std::make_unique<vk::Commands>(network_.device, network_.pipelines);
        auto second = std::make_unique<vk::Commands>(network_.device, network_.pipelines);
        vk::Commands& draw = apart ? *second : *commands;
        const Activations& a = workspace_->activations;
        commands->begin();
        record_forward(*commands, network_, a, workspace_->tables, n, 0, network_.config.n_layers, n);
        if (apart) {
            commands->end();
            draw.begin();
        }
        draw.barrier();
        workspace_->sampler.record(draw, n, a.logits.address(), a.tokens.address());
        record_expert_counts(draw, index);
        draw.end();
        if (apart) halves_[n][1] = std::move(second);
        forward = std::move(commands);
    }
    if (!apart) return {forward.get()};
    return {forward.get(), halves_[n][1].get()};
}

void Engine::submit_step() {
    const uint32_t index = draws_apart() ? 0 : next_step_;
    const std::vector<vk::Commands*> step = this->step(index);
    for (const Row& row : rows_) {
        Sequence& s = *row.job->sequence;
        s.pages_.will_write(row.job->position + static_cast<uint32_t>(in_flight_.size()), 1);
        s.step_dispatches_ = s.step_barriers_ = 0;
        for (const vk::Commands* commands : step) {
            s.step_dispatches_ += commands->dispatches();
            s.step_barriers_ += commands->barriers();
        }
        s.logits_of_ = 0;
    }
    for (vk::Commands* commands : step) {
        if (commands != step.front())  // while the forward pass runs
            for (uint32_t r = 0; r < rows_.size(); r++)
                if (rows_[r].job->grammar) write_mask(r, *rows_[r].job);
        commands->submit();
    }
    for (const Row& row : rows_) row.job->submitted++;
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
        for (vk::Commands* commands : step) commands->wait();
        std::vector<Job*> jobs;
        for (const Row& row : rows) jobs.push_back(row.job);
        read_logits(jobs);
        lock.lock();
        in_flight_.pop_front();
        for (uint32_t r = 0; r < rows.size(); r++) {
            Job& job = *rows[r].job;
            job.sequence->computed_.push_back(job.token);
            job.sequence->prompt_tokens_computed_ += job.position + 1 == job.prompt;
            receive_drawn(job, r, job.position + 1);
        }
        hand_in_expert_counts(index);
    } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        abandon();
        for (const Row& row : rows)
            if (!row.job->ended) end(*row.job, Error::current());
    }
}

}  // namespace gptoss::model
