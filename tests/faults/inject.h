// Failures of what lies below the library, at the n-th opportunity: every Vulkan call goes through a pointer that is
// replaced here, and operator new, pread and pthread_create are this program's own. What the driver itself allocates
// does not fail: not every driver survives that.
#pragma once

#include <cstdint>
#include <string>

namespace gptoss::test::inject {

enum class Kind {
    DeviceLost,    // once, by a submit, a wait, or when a device is made
    DeviceGone,    // and from then on, until the device is destroyed
    DeviceMemory,  // VK_ERROR_OUT_OF_DEVICE_MEMORY by any call that may
    HostMemory,    // VK_ERROR_OUT_OF_HOST_MEMORY, likewise
    Timeout,       // VK_TIMEOUT by a wait that has no limit
    Allocation,    // std::bad_alloc by operator new
    Read,          // pread fails, ends early, is interrupted, or gives a part only
};

// Once, before any model is loaded and after the first enumeration of devices.
void install();

// From now on the n-th opportunity fails; none if n is 0, which only counts.
void arm(Kind kind, uint64_t n);
// Ends that; how many opportunities there were.
uint64_t disarm();
bool fired();

// Opportunities are those of the library: on the threads that it makes, and on this one in such a scope.
class InLibrary {
  public:
    InLibrary();
    ~InLibrary();

  private:
    int before_;
};
// In a callback: the test's own code.
class InTest {
  public:
    InTest();
    ~InTest();

  private:
    int before_;
};

// Vulkan objects that were made and not destroyed.
int64_t live_objects();
// Their numbers by the calls that make them.
std::string live_objects_text();

}  // namespace gptoss::test::inject
