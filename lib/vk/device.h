// One Vulkan device with one compute queue. Knows no model.
#pragma once

#include <volk.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "error.h"

namespace gptoss::vk {

// Throws the Error that a result stands for; what names the call or the thing it was for. A view: a message that memory
// is too short for must not lose what a call has just made.
void check(VkResult result, std::string_view what);

// What a device is and can do, read once.
struct DeviceInfo {
    uint32_t index = 0;
    VkPhysicalDevice physical = VK_NULL_HANDLE;
    std::string name;
    std::string driver;
    VkPhysicalDeviceType type = VK_PHYSICAL_DEVICE_TYPE_OTHER;
    std::string unsupported;  // why gpt-oss cannot run on it; "" if it can
    bool coopmat = false;     // 16x16x16 float16 products with float32 sums in a subgroup
    uint32_t subgroup_size = 0;
    uint32_t shared_memory = 0;  // bytes a workgroup
    uint32_t max_workgroup = 0;  // invocations
    uint32_t max_groups_y = 0;
    uint64_t max_allocation = 0;    // bytes
    uint64_t memory_size = 0;       // of the largest device-local heap, bytes
    uint64_t memory_available = 0;  // what is free of it now
    float timestamp_period = 0;     // ns a tick; 0 if the queue has no timestamps
    uint32_t queue_family = 0;
};

// The devices of this machine; empty where there is no Vulkan loader or no driver.
std::vector<DeviceInfo> enumerate_devices();

// The device that a user means: an index, a part of a name, or (NULL) the most capable one that is supported.
// Throws UnsupportedSystem or InvalidArgument.
DeviceInfo choose_device(const char* wanted);

class Device {
  public:
    explicit Device(const DeviceInfo& info);
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    const DeviceInfo& info() const { return info_; }
    VkDevice handle() const { return device_; }
    const VkPhysicalDeviceMemoryProperties& memory() const { return memory_; }

    // Queues a command buffer; fence is signalled when it is done. Safe from many threads.
    void submit(VkCommandBuffer commands, VkFence fence) const;

    VolkDeviceTable vk{};

  private:
    DeviceInfo info_;
    VkDevice device_ = VK_NULL_HANDLE;
    VkQueue queue_ = VK_NULL_HANDLE;
    VkPhysicalDeviceMemoryProperties memory_{};
    mutable std::mutex queue_mutex_;
};

}  // namespace gptoss::vk
