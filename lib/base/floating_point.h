// The floating-point environment of a thread: rounding, what becomes of subnormals, and which exceptions are signals.
// The library, and the threads that are made while one of its calls runs, compute in the default one.
#pragma once

#include <cfenv>
#include <cstdint>

namespace gptoss {

struct FloatingPointState {
    std::fenv_t environment{};
    uint32_t control = 0;  // of SSE, where the environment is without it
};

// Sets the default environment for as long as it lives, then the one before it again.
class DefaultFloatingPoint {
  public:
    DefaultFloatingPoint() noexcept;
    ~DefaultFloatingPoint();
    DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
    DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;

  private:
    friend class CallersFloatingPoint;

    FloatingPointState before_;
    DefaultFloatingPoint* outer_;
};

// Sets the environment that this thread's call into the library came with, while the call runs code of the caller's.
// The caller's changes to it stay.
class CallersFloatingPoint {
  public:
    CallersFloatingPoint() noexcept;
    ~CallersFloatingPoint();
    CallersFloatingPoint(const CallersFloatingPoint&) = delete;
    CallersFloatingPoint& operator=(const CallersFloatingPoint&) = delete;

  private:
    DefaultFloatingPoint* const call_;  // NULL on a thread that is in no call
};

}  // namespace gptoss
