// Failures of what lies below the library, at the n-th opportunity: every Vulkan call goes through a pointer that is
// replaced here, and malloc, operator new, pread, pthread_create and dlopen are this program's own. What the driver
// itself allocates does not fail: not every driver survives that.
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
    Allocation,    // malloc and its like, std::bad_alloc by operator new
    NoMemory,      // and from then on every one
    Read,          // pread fails, ends early, is interrupted, or gives a part only
    Thread,        // pthread_create
    Result,        // of one Vulkan function
};

// Opens the Vulkan loader and replaces its functions. Once, before the library's first use of Vulkan.
void install();
// While true the loader is not found; before install.
void hide_loader(bool hidden);

// From now on the n-th opportunity fails; none if n is 0, which only counts.
void arm(Kind kind, uint64_t n);
// From now on the n-th call of a Vulkan function gives this VkResult. VK_INCOMPLETE and kShrinks are for calls that
// fill in a list, which then lacks its last element.
void arm_result(const char* function, int result, uint64_t n);
constexpr int kShrinks = 1000;  // VK_SUCCESS
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

// Blocks of memory that were allocated and not freed, by anyone; 0 under a sanitizer, which has its own allocator.
int64_t live_blocks();

// Vulkan objects that were made and not destroyed.
int64_t live_objects();
// Their numbers by the calls that make them.
std::string live_objects_text();

}  // namespace gptoss::test::inject
