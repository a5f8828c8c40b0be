// Taps: what of a batch is tapped, and how it gets to the call that wants it.
#include "base/error.h"
#include "engine/engine.h"

namespace gptoss::model {

namespace {

// What is tapped of a batch before it is handed over, bytes; one token may have more.
constexpr uint64_t kMostTapped = 64 << 20;

}  // namespace

// How many of n tokens go into a batch, so that what is tapped of them does not take too much memory.
uint32_t Engine::tapped_room(const Job& job, uint32_t first, uint32_t n) const {
    const Tap* tap = job.sequence->tap_.get();
    if (!tap) return n;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        bytes += Taps::bytes(network_.config, *tap, first + i);
        if (bytes > kMostTapped && i > 0) return i;
    }
    return n;
}

// In the order that record_tokens gives the tokens.
std::shared_ptr<const Taps> Engine::taps_of(std::span<const Piece> pieces) const {
    std::vector<TapToken> tokens;
    uint32_t last_row = 0, row = 0;
    for (const Piece& p : pieces) row += p.last;
    for (const Piece& p : pieces) {
        for (uint32_t i = 0; i < p.n; i++) {
            const uint32_t at = p.last && i + 1 == p.n ? last_row++ : row++;
            if (p.job && p.sequence->taps(p.first + i)) tokens.push_back({at, p.first + i, p.sequence->tap_.get()});
        }
    }
    if (tokens.empty()) return nullptr;
    return std::make_shared<const Taps>(network_, workspace_->activations, std::move(tokens));
}

// Whether a step in flight is tapped, or the one after it would be: such a step waits for the host.
bool Engine::taps_next() const {
    if (tapped_step_ && tapped_step_->taps) return true;
    const auto ahead = static_cast<uint32_t>(in_flight_.size());
    for (const Row& row : rows_)
        if (row.job->sequence->taps(row.job->position + ahead)) return true;
    return false;
}

// Records the next step for the tokens of its rows, if a tap wants any of them. False where there is no memory for
// that: those rows' jobs have ended, and others are chosen.
bool Engine::record_tapped_step() {
    std::vector<TapToken> tokens;
    const auto n = static_cast<uint32_t>(rows_.size());
    for (uint32_t row = 0; row < n; row++) {
        const Job& job = *rows_[row].job;
        if (job.sequence->taps(job.position)) tokens.push_back({row, job.position, job.sequence->tap_.get()});
    }
    if (tokens.empty()) return true;
    step_received_.reset();  // its time tells nothing of other steps
    try {
        if (!tapped_step_) tapped_step_.emplace(network_.device, network_.pipelines);
        auto taps = std::make_shared<const Taps>(network_, workspace_->activations, std::move(tokens));
        tapped_step_->forward.begin();
        record_forward(tapped_step_->forward, network_, workspace_->activations, workspace_->tables, n, 0,
                       network_.config.n_layers, n, lora_batch(), taps.get());
        tapped_step_->forward.end();
        tapped_step_->draw.begin();
        record_draw(tapped_step_->draw, draws_apart() ? 0 : next_step_);
        tapped_step_->taps = std::move(taps);
        return true;
    } catch (...) {
        for (const Row& row : rows_)
            if (row.job->sequence->taps(row.job->position)) end(*row.job, Error::current());
        rows_.clear();
        return false;
    }
}

// Gives the jobs of a batch what was tapped of their tokens, behind the mutex.
void Engine::deliver_tapped(std::span<Job* const> jobs, const std::shared_ptr<const Taps>& taps) {
    if (!taps) return;
    for (Job* job : jobs) {
        if (job->ended) continue;
        for (size_t i = 0; i < taps->size(); i++)
            if ((*taps)[i].tap == job->sequence->tap_.get()) job->tapped.emplace_back(taps, i);
        if (!job->tapped.empty()) wake(*job->caller);
    }
}

// Hands the caller all that was tapped of one batch. Until that is done, nothing more is computed for the job.
void Engine::receive_tapped(Lock& lock, Job& job) {
    std::optional<Error> error;
    uint32_t done = job.sequence->tapped_;
    try {
        const auto tapped = job.tapped;  // whoever leads may end the job meanwhile, and take them away
        if (!leading_) wake_another();
        lock.unlock();
        for (const auto& [taps, i] : tapped) {
            taps->hand_over(i);
            done = (*taps)[i].position + 1;
        }
    } catch (...) {
        error = Error::current();
    }
    if (!lock.owns_lock()) lock.lock();
    job.tapped.clear();
    job.sequence->tapped_ = done;
    if (error && !job.error) end(job, error);
}

}  // namespace gptoss::model
