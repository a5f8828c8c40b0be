// The contexts that requests take turns in: a bounded number of them, and a bounded queue before them.
#pragma once

#include <gptoss.hpp>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

namespace server {

class Contexts {
  public:
    struct Slot {
        gptoss::Context context;
        std::vector<uint32_t> tokens;  // the timeline that it holds, for the next request to go on from
        bool busy = true;
        uint64_t last_used = 0;
    };
    // Gives the slot back at the end of its life. Whoever holds one fills slot->tokens in before.
    using Lease = std::unique_ptr<Slot, std::function<void(Slot*)>>;

    // context_length: 0 for the model's default.
    Contexts(const gptoss::Model& model, size_t context_length, size_t limit, size_t max_waiting)
        : model_(model), context_length_(context_length), limit_(limit), max_waiting_(max_waiting) {}

    // Of the free contexts the one that shares the longest beginning with the prompt. Waits in line for one; `give_up`
    // is asked about ten times a second and throws to leave the line. Throws ApiError, 429, where the line is full.
    Lease acquire(gptoss::span<const uint32_t> prompt, const std::function<void()>& give_up);

    size_t running() const { return running_; }
    size_t waiting() const { return waiting_; }
    size_t context_length();

  private:
    Slot* take_free(gptoss::span<const uint32_t> prompt);
    Slot* create();
    void release(Slot* slot);

    const gptoss::Model& model_;
    const size_t context_length_;
    size_t limit_;
    const size_t max_waiting_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::list<Slot> slots_;
    std::deque<const void*> line_;
    std::atomic<size_t> running_ = 0, waiting_ = 0;
    uint64_t uses_ = 0;
    size_t known_length_ = 0;
};

// How many tokens two timelines have in common at their beginning.
size_t common_prefix(gptoss::span<const uint32_t> a, gptoss::span<const uint32_t> b);

}  // namespace server
