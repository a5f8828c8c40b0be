// Generations that follow a grammar: which tokens may be drawn, and which need no draw.
#include <algorithm>

#include "base/error.h"
#include "engine/engine.h"

namespace gptoss::model {

// Takes the grammar to the end of the answer so far; false if nothing can follow there.
bool Engine::begin_grammar(Job& job) {
    Sequence& s = *job.sequence;
    job.grammar = std::exchange(s.grammar_, std::nullopt);
    if (!job.grammar || &job.grammar->grammar() != job.request->grammar.get())
        job.grammar.emplace(job.request->grammar);
    for (size_t i = s.answer_start_ + job.grammar->num_tokens(); i < s.tokens_.size(); i++)
        if (!advance(job, s.tokens_[i]))
            throw Error(Status::InvalidArgument, "the answer so far does not follow the grammar: token " +
                                                     std::to_string(s.tokens_[i]) + ", number " +
                                                     std::to_string(i - s.answer_start_) + " of it");
    if (!job.grammar->is_complete()) return true;
    job.reason = StopReason::GrammarEnd;
    return false;
}

bool Engine::advance(Job& job, uint32_t token) {
    job.sequence->grammar_steps_++;
    return job.grammar->advance(token);
}

// For the next call, which may go on with the answer. After an error it begins anew, with fewer states in memory.
void Engine::keep_grammar(Job& job) noexcept {
    if (!job.grammar || job.error) return;
    Sequence& s = *job.sequence;
    job.grammar->truncate(s.tokens_.size() - s.answer_start_);  // what was drawn but not received
    s.grammar_ = std::move(job.grammar);
}

// A token that the answer goes on with; whether another one can follow it.
bool Engine::take(Job& job, uint32_t token) {
    const std::vector<uint32_t>& stops = job.request->stop_tokens;
    // a stop token need not be the grammar's: it may come where the text may end
    const bool ends = !advance(job, token) || job.grammar->is_complete() ||
                      std::find(stops.begin(), stops.end(), token) != stops.end();
    if (ends) {
        job.limit = job.submitted;
        job.reason = StopReason::GrammarEnd;
    }
    return job.submitted < job.limit;
}

// Goes on with the tokens that the grammar forces, if any. They are computed in one batch with those that are not
// computed yet, which begin at position `first`.
void Engine::force(Job& job, uint32_t first, std::vector<uint32_t> tokens) {
    // a table of counts is kept by the draws alone, and log-probabilities come of a token's own logits
    if (!job.grammar || job.counts || job.request->logprobs != Logprobs::None) return;
    const size_t waiting = tokens.size();
    for (const uint32_t token : job.grammar->forced()) {
        if (token >= network_.config.vocab) break;
        job.submitted++;
        job.n_forced++;
        const bool more = take(job, token);
        deliver(job, {token});
        if (!more || job.ended) return;
        tokens.push_back(token);
    }
    if (tokens.size() == waiting) return;
    job.first = first;
    job.end = first + static_cast<uint32_t>(tokens.size());
    job.sequence->pages_.reserve(first, job.end);
    job.sequence->logits_of_ = 0;
    job.forced = std::move(tokens);
    job.phase = Job::Phase::Prompt;
}

// Counts the tokens of a draft that the grammar allows and that something can follow. An error comes back with a draw.
size_t Engine::allowed(Job& job, std::span<const uint32_t> draft) noexcept {
    if (!job.grammar) return draft.size();
    const size_t drawn = job.grammar->num_tokens();
    size_t n = 0;
    try {
        while (n < draft.size() && job.grammar->advance(draft[n]) && !job.grammar->is_complete()) n++;
    } catch (...) {
    }
    job.grammar->truncate(drawn);
    return n;
}

// Sets which tokens a row may draw, after the drafted token if it is one's. An error ends the job alone.
void Engine::write_mask(uint32_t row, Job& job, std::optional<uint32_t> draft) {
    const uint32_t vocab = network_.config.vocab;
    std::vector<uint32_t> mask((vocab + 31) / 32);
    try {
        if (!job.ended) {
            if (draft) job.grammar->advance(*draft);
            job.grammar->mask(mask);
            if (job.grammar->accepts())
                for (const uint32_t stop : job.request->stop_tokens)
                    if (stop < vocab) mask[stop / 32] |= 1u << stop % 32;
            if (vocab % 32 != 0) mask.back() &= (1u << vocab % 32) - 1;
            if (std::all_of(mask.begin(), mask.end(), [](uint32_t word) { return word == 0; }))
                throw Error(Status::InvalidState,
                            "the grammar allows no token: nothing in the model's vocabulary goes on with the answer");
        }
    } catch (...) {
        end(job, Error::current());
    }
    if (job.ended) mask.assign(mask.size(), ~0u);
    std::copy(mask.begin(), mask.end(), workspace_->sampler.mask(row).begin());
}

// Sets which tokens each row of a step may draw.
void Engine::write_masks() {
    std::optional<text::GrammarState>& drafted = rows_.back().job->grammar;
    const size_t drawn = drafted ? drafted->num_tokens() : 0;
    for (uint32_t r = 0; r < rows_.size(); r++) {
        const Row& row = rows_[r];
        if (row.job->grammar) write_mask(r, *row.job, row.draft_position > 0 ? std::optional(row.draft) : std::nullopt);
    }
    if (drafted) drafted->truncate(drawn);  // a draft counts once it is drawn
}

// Sets which tokens the rows that a batch draws may draw; they come first.
void Engine::write_masks(std::span<const Piece> pieces) {
    for (uint32_t row = 0; row < pieces.size() && pieces[row].last && pieces[row].job->request; row++)
        if (pieces[row].job->grammar) write_mask(row, *pieces[row].job);
}

}  // namespace gptoss::model
