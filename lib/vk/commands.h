// Command buffers that dispatch kernels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vk/buffer.h"
#include "vk/pipelines.h"

namespace gptoss::vk {

// How long the dispatches of a kernel took together.
struct KernelTime {
    std::string name;
    double microseconds = 0;
    uint32_t dispatches = 0;
};

// A command buffer of its own pool: recorded, submitted any number of times, waited for. One thread at a time.
class Commands {
  public:
    Commands(const Device& device, const Pipelines& pipelines);
    ~Commands();
    Commands(const Commands&) = delete;
    Commands& operator=(const Commands&) = delete;

    void begin();
    template <typename Args>
    void dispatch(const Kernel& kernel, const Args& args, uint32_t x, uint32_t y = 1, uint32_t z = 1) {
        dispatch_bytes(kernel, &args, sizeof(Args), x, y, z);
    }
    // Everything before is done and visible to everything after.
    void barrier();
    void copy(const Buffer& from, uint64_t from_offset, const Buffer& to, uint64_t to_offset, uint64_t size);
    // A few words, a multiple of 4 bytes, that the command buffer itself carries.
    void update(const Buffer& to, uint64_t offset, const void* data, uint64_t size);
    void zero(const Buffer& buffer);
    void end();

    void submit();
    // Waits for the last submit; throws DeviceLost. Returns at once if nothing is running.
    void wait();
    // Ends what is recorded, submits it and waits for it.
    void finish();
    // Whether the last submit is done; does not wait. Throws DeviceLost.
    bool done();

    uint32_t dispatches() const { return dispatches_; }
    uint32_t barriers() const { return barriers_; }

    // Before begin(): time every dispatch of what is recorded next.
    void enable_profile();
    // After wait(): the times by kernel, in the order of first use.
    std::vector<KernelTime> profile() const;

  private:
    void dispatch_bytes(const Kernel& kernel, const void* args, uint32_t size, uint32_t x, uint32_t y, uint32_t z);
    void release() noexcept;

    const Device& device_;
    VkPipelineLayout layout_;
    VkCommandPool pool_ = VK_NULL_HANDLE;
    VkCommandBuffer commands_ = VK_NULL_HANDLE;
    VkFence fence_ = VK_NULL_HANDLE;
    bool running_ = false;
    uint32_t dispatches_ = 0;
    uint32_t barriers_ = 0;
    VkQueryPool timestamps_ = VK_NULL_HANDLE;  // two a dispatch
    std::vector<const Kernel*> timed_;
};

}  // namespace gptoss::vk
