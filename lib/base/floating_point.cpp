#include "base/floating_point.h"

#include <cstdint>

namespace gptoss {

namespace {

thread_local DefaultFloatingPoint* running = nullptr;  // the innermost one of this thread

void set_default() noexcept {
    std::fesetenv(FE_DFL_ENV);
#if defined(__aarch64__)
    // FE_DFL_ENV leaves alternative half precision, default NaNs and the flushing of float16 as they are.
    asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
#endif
}

}  // namespace

DefaultFloatingPoint::DefaultFloatingPoint() noexcept : outer_(running) {
    std::fegetenv(&before_);
    set_default();
    running = this;
}

DefaultFloatingPoint::~DefaultFloatingPoint() {
    running = outer_;
    std::fesetenv(&before_);
}

CallersFloatingPoint::CallersFloatingPoint() noexcept : call_(running) {
    if (call_) std::fesetenv(&call_->before_);
}

CallersFloatingPoint::~CallersFloatingPoint() {
    if (!call_) return;
    std::fegetenv(&call_->before_);
    set_default();
}

}  // namespace gptoss
