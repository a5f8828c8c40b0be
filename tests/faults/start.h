// What can go wrong before there is a device: no loader, no driver, and every result that the functions of the instance
// may have. The library makes one instance for the process, so each fault has a process of its own.
#pragma once

#include <cstdint>
#include <string>

namespace gptoss::test {

// About n faults, at least one of each kind. Before this process uses Vulkan. checkpoint: any model's path.
void start_faults(uint64_t n, const std::string& checkpoint);

}  // namespace gptoss::test
