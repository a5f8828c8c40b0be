#include "base/floating_point.h"

#include <cstdint>

#if defined(_WIN32) && defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace gptoss {

namespace {

thread_local DefaultFloatingPoint* running = nullptr;  // the innermost one of this thread

#if defined(_WIN32) && defined(__x86_64__)
// mingw-w64's environment is that of the x87 unit alone: the register of SSE beside it.
void keep_control(FloatingPointState& state) noexcept { state.control = _mm_getcsr(); }
void set_control(uint32_t control) noexcept { _mm_setcsr(control); }
#else
void keep_control(FloatingPointState&) noexcept {}
void set_control(uint32_t) noexcept {}
#endif

void keep(FloatingPointState& state) noexcept {
    std::fegetenv(&state.environment);
    keep_control(state);
}

void set(const FloatingPointState& state) noexcept {
    std::fesetenv(&state.environment);
    set_control(state.control);
}

void set_default() noexcept {
    std::fesetenv(FE_DFL_ENV);
    set_control(0x1F80);
#if defined(__aarch64__)
    // FE_DFL_ENV leaves alternative half precision, default NaNs and the flushing of float16 as they are.
    asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
#endif
}

}  // namespace

DefaultFloatingPoint::DefaultFloatingPoint() noexcept : outer_(running) {
    keep(before_);
    set_default();
    running = this;
}

DefaultFloatingPoint::~DefaultFloatingPoint() {
    running = outer_;
    set(before_);
}

CallersFloatingPoint::CallersFloatingPoint() noexcept : call_(running) {
    if (call_) set(call_->before_);
}

CallersFloatingPoint::~CallersFloatingPoint() {
    if (!call_) return;
    keep(call_->before_);
    set_default();
}

}  // namespace gptoss
