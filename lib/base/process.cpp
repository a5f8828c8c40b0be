#include "base/process.h"

#include <atomic>

#include "base/error.h"
#include "base/platform.h"

namespace gptoss {

namespace {

std::atomic<unsigned> forks{0};

[[maybe_unused]] const int registered = platform::on_fork([] { forks++; });

}  // namespace

unsigned fork_count() noexcept { return forks.load(std::memory_order_relaxed); }

void refuse_after_fork() {
    throw Error(Status::InvalidState,
                "this process was forked from one that had a device open, and no device survives a fork: open it in "
                "the new process only, or start that one with exec (in Python: with \"spawn\")");
}

}  // namespace gptoss
