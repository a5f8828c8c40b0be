#include "contexts.h"

#include <algorithm>

#include "api_error.h"

namespace server {

size_t common_prefix(gptoss::span<const uint32_t> a, gptoss::span<const uint32_t> b) {
    const size_t n = std::min(a.size(), b.size());
    return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + n, b.begin()).first - a.begin());
}

// The longest common prefix wins, then the context that was not used for the longest time. A new context is made
// rather than a timeline of somebody else's dropped.
Contexts::Slot* Contexts::take_free(gptoss::span<const uint32_t> prompt) {
    Slot* best = nullptr;
    size_t best_prefix = 0;
    for (Slot& slot : slots_) {
        if (slot.busy) continue;
        const size_t prefix = common_prefix(slot.tokens, prompt);
        if (best && (prefix < best_prefix || (prefix == best_prefix && slot.last_used > best->last_used))) continue;
        best = &slot;
        best_prefix = prefix;
    }
    const bool reuses = best && 2 * best_prefix >= best->tokens.size();
    if (!reuses && slots_.size() < limit_)
        if (Slot* created = create()) return created;
    if (best) best->busy = true;
    return best;
}

// Returns nullptr where the device has no memory for one more; those that there are then have to do.
Contexts::Slot* Contexts::create() {
    try {
        slots_.push_back({gptoss::Context(model_, context_length_), {}});
        return &slots_.back();
    } catch (const gptoss::Error& e) {
        if (e.status() != gptoss_status_insufficient_memory || slots_.empty()) throw;
        limit_ = slots_.size();
        return nullptr;
    }
}

Contexts::Lease Contexts::acquire(gptoss::span<const uint32_t> prompt, const std::function<void()>& give_up) {
    std::unique_lock lock(mutex_);
    const auto leased = [this](Slot* slot) {
        ++running_;
        return Lease(slot, [this](Slot* done) { release(done); });
    };
    if (line_.empty())
        if (Slot* slot = take_free(prompt)) return leased(slot);
    if (line_.size() >= max_waiting_)
        throw ApiError(429, "rate_limit_error", "queue_full", "",
                       "The server is busy and " + std::to_string(max_waiting_) + " requests wait: try again later.");

    struct Place {
        Contexts& contexts;
        std::deque<const void*>::value_type self;
        ~Place() {
            std::erase(contexts.line_, self);
            contexts.waiting_ = contexts.line_.size();
            contexts.changed_.notify_all();
        }
    } place{*this, &place};
    line_.push_back(&place);
    waiting_ = line_.size();
    while (true) {
        if (line_.front() == &place)
            if (Slot* slot = take_free(prompt)) return leased(slot);
        changed_.wait_for(lock, std::chrono::milliseconds(100));
        give_up();
    }
}

void Contexts::release(Slot* slot) {
    std::lock_guard lock(mutex_);
    slot->busy = false;
    slot->last_used = ++uses_;
    --running_;
    changed_.notify_all();
}

size_t Contexts::context_length() {
    std::lock_guard lock(mutex_);
    if (known_length_ == 0) {
        if (slots_.empty() && create()) slots_.back().busy = false;
        known_length_ = slots_.front().context.max_tokens();
    }
    return known_length_;
}

}  // namespace server
