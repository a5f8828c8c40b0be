// Ctrl-C stops what the program is doing, not the program.
#pragma once

#include <gptoss.hpp>

namespace chat {

// From now on SIGINT sets a flag and cancels the watched context's running call. Call it before other threads start.
void catch_interrupts();

bool interrupted();
void clear_interrupt();

// While it lives, an interrupt cancels what the context is computing.
class CancelOnInterrupt {
  public:
    explicit CancelOnInterrupt(const gptoss::Context& context);
    ~CancelOnInterrupt();
    CancelOnInterrupt(const CancelOnInterrupt&) = delete;
};

}  // namespace chat
