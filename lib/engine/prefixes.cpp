// What of a timeline is computed already, and what of it is kept for others.
#include <algorithm>

#include "base/error.h"
#include "engine/engine.h"

namespace gptoss::model {

namespace {

// Computing fewer tokens again costs less than keeping their keys and values.
constexpr uint32_t kLeastKept = 64;

// How far apart prefixes are kept within a prompt of which none has been computed before: going back to any message
// computes no more than an eighth again, and a long prompt does not fill the cache by itself.
uint32_t spacing(uint32_t position) { return std::max(kLeastKept, position / 8); }

}  // namespace

// Goes to as many of the sequence's tokens as are computed already, by itself or by whoever had the same, at most to
// `most`: returns how many.
uint32_t Engine::go_to(Sequence& s, uint32_t most) {
    s.logits_of_ = 0;
    const std::span tokens = std::span(s.tokens_).first(most);
    const auto same = static_cast<uint32_t>(
        std::mismatch(tokens.begin(), tokens.end(), s.computed_.begin(), s.computed_.end()).first - tokens.begin());
    const bool in_ring = s.pages_.has_window(same);
    uint32_t position = in_ring ? same : 0;
    if (position < most) {
        const PrefixCache::Found found = prefixes_.find(tokens, s.adapter_.key(), s.pages_);
        if (found.position > position) {
            position = found.position;
            std::vector<uint32_t> computed(tokens.begin(), tokens.begin() + position);
            s.pages_.go_back(found.prefix->window, position);
            if (position > same) s.pages_.borrow(found.prefix->segments);
            s.computed_ = std::move(computed);
            s.kept_ = position;
        }
    }
    if (position == 0) s.pages_.go_to_start();
    s.computed_.resize(position);
    s.kept_ = std::min(s.kept_, position);
    return position;
}

// Puts the first tokens that are computed into the cache of prefixes, unless memory is too short: to go there will then
// compute more again.
void Engine::keep(Sequence& s, uint32_t position) {
    s.kept_ = position;
    const std::span tokens = std::span(s.computed_).first(position);
    if (!s.pages_.has_window(position) || prefixes_.limit() < layout_.ring_bytes(layout_.window) ||
        prefixes_.has(tokens, s.adapter_.key()))
        return;
    try {
        Window window = s.pages_.copy_window(position);
        prefixes_.add({s.adapter_.key(), {tokens.begin(), tokens.end()}, s.pages_.lend(position), std::move(window)});
    } catch (...) {
        if (Error::current().status() != Status::InsufficientMemory) throw;
    }
}

// Of what has just been computed of a prompt: the starts of messages, where prompts begin to differ, and of segments;
// and its end.
void Engine::keep_prompt(const Piece& piece) {
    Sequence& s = *piece.sequence;
    const uint32_t end = piece.first + piece.n;
    for (uint32_t p = std::max(piece.first, 1u); p < end; p++)
        if ((s.computed_[p] == message_start_ || p % kSegmentSlots == 0) && p >= s.kept_ + spacing(p)) keep(s, p);
    if (piece.last && piece.job->request && piece.first < piece.job->prompt)
        keep_start(s, piece.job->prompt);
    else if (piece.last && end - s.kept_ >= kLeastKept)
        keep(s, end);
}

// Where tokens are about to be generated: the next prompt begins to differ there if it leaves them out.
void Engine::keep_start(Sequence& s, uint32_t position) {
    if (position >= kLeastKept && position > s.kept_) keep(s, position);
}

// What was generated, for a conversation that goes on from there.
void Engine::keep_end(const Job& job) noexcept {
    if (!job.request || job.error) return;
    const auto end = static_cast<uint32_t>(job.sequence->computed_.size());
    if (end < job.sequence->kept_ + kLeastKept) return;
    try {
        keep(*job.sequence, end);
    } catch (...) {
        // what a lost device computes next fails by itself
    }
}

}  // namespace gptoss::model
