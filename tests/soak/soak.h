// What the modes of test_soak share.
#pragma once

#include <gptoss.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <random>
#include <string>

namespace gptoss::test {

constexpr uint32_t kVocabulary = 96;

inline std::atomic<uint64_t> failures{0}, calls{0}, cancelled{0};

inline void wrong(const std::string& what) {
    failures++;
    std::printf("WRONG: %s (%s)\n", what.c_str(), gptoss_last_error());
    std::fflush(stdout);
}

inline void must(gptoss_status status, const char* what) {
    calls++;
    if (status != gptoss_status_success) wrong(std::string(what) + ": " + gptoss_status_string(status));
}

// Contexts that any thread may cancel.
class Targets {
  public:
    void set(size_t thread, gptoss_context_t context) {
        std::lock_guard lock(mutex_);
        if (context) gptoss_context_retain(context);
        gptoss_context_release(contexts_[thread]);
        contexts_[thread] = context;
    }
    void cancel_one(std::mt19937_64& random) {
        gptoss_context_t context;
        {
            std::lock_guard lock(mutex_);
            if (contexts_.empty()) return;
            context = std::next(contexts_.begin(), static_cast<ptrdiff_t>(random() % contexts_.size()))->second;
            if (!context) return;
            gptoss_context_retain(context);
        }
        must(gptoss_context_cancel(context), "cancel");
        gptoss_context_release(context);
    }

  private:
    std::mutex mutex_;
    std::map<size_t, gptoss_context_t> contexts_;
};

// Generations on several threads until there were so many, with random cancels, forks and truncations; each must give
// the tokens that a context alone got before.
void many_generations(gptoss_model_t model, uint64_t count, size_t n_threads, uint64_t seed);

}  // namespace gptoss::test
