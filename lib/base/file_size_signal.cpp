#include "base/file_size_signal.h"

#include <pthread.h>

namespace gptoss {

#ifdef SIGXFSZ

namespace {

bool is_pending() noexcept {
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    return sigismember(&pending, SIGXFSZ) == 1;
}

}  // namespace

NoFileSizeSignal::NoFileSizeSignal() noexcept {
    sigemptyset(&signal_);
    sigaddset(&signal_, SIGXFSZ);
    was_pending_ = is_pending();
    pthread_sigmask(SIG_BLOCK, &signal_, &before_);
}

NoFileSizeSignal::~NoFileSizeSignal() {
    int taken;
    if (!was_pending_ && is_pending()) sigwait(&signal_, &taken);  // returns at once
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

#else

NoFileSizeSignal::NoFileSizeSignal() noexcept = default;
NoFileSizeSignal::~NoFileSizeSignal() = default;

#endif

}  // namespace gptoss
