// Which process this is: a fork copies memory, and handles with it, but no other thread and no device.
#pragma once

namespace gptoss {

// How many forks lie between the process that loaded the library and this one.
unsigned fork_count() noexcept;

// Throws the InvalidState of a process that was forked while a device was open.
[[noreturn]] void refuse_after_fork();

}  // namespace gptoss
