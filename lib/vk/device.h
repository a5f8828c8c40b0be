// One Vulkan device with one compute queue. Knows no model.
#pragma once

#include <volk.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace gptoss::vk {

// Throws the Error that a result stands for; what names the call or the thing it was for. A view: a message that memory
// is too short for must not lose what a call has just made.
void check(VkResult result, std::string_view what);

// The product that a device's matrix units do in one step, by a subgroup: (m, k) x (k, n), float16 with float32 sums.
struct CoopmatShape {
    uint32_t m = 0;  // 0: the device has none
    uint32_t n = 0;
    uint32_t k = 0;
    uint32_t subgroup = 0;  // the size of subgroups to ask for
};

// What a device is and can do, read once.
struct DeviceInfo {
    std::shared_ptr<const void> instance;  // what physical belongs to
    uint32_t index = 0;
    VkPhysicalDevice physical = VK_NULL_HANDLE;
    std::string name;
    std::string driver;
    std::string uuid;      // in 8-4-4-4-12 hexadecimal digits; "" where the driver is too old to tell
    std::string identity;  // the device, its driver and its driver's version, by their numbers
    VkPhysicalDeviceType type = VK_PHYSICAL_DEVICE_TYPE_OTHER;
    std::string unsupported;  // why gpt-oss cannot run on it; "" if it can
    CoopmatShape coopmat;
    bool integer_dot = false;      // has dot products of packed bytes
    bool few_registers = false;    // an invocation has 128 or fewer before its compiler spills; no query tells
    bool sizes_subgroups = false;  // takes a size of subgroups for each pipeline
    uint32_t subgroup_size = 0;
    uint32_t shared_memory = 0;     // bytes a workgroup
    uint32_t max_workgroup = 0;     // invocations
    uint32_t max_groups = 0;        // workgroups of a dispatch, in any dimension
    uint64_t max_allocation = 0;    // bytes
    uint64_t memory_size = 0;       // of the largest device-local heap, bytes
    uint64_t memory_available = 0;  // what was free of it; see query_memory
    float timestamp_period = 0;     // ns a tick; 0 if the queue has no timestamps
    uint32_t queue_family = 0;
};

// The devices of this machine; empty where there is no Vulkan loader or no driver.
// memory: also how much memory they have; drivers that stand in for hardware may not survive being asked.
std::vector<DeviceInfo> enumerate_devices(bool memory = true);

// The device that a user means: an index, a UUID, a part of a name, or (NULL) the most capable one that is supported.
// Throws UnsupportedSystem or InvalidArgument.
DeviceInfo choose_device(const char* wanted);

// Reads memory_size and memory_available, as they are now.
void query_memory(DeviceInfo& device);

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

    // The most device memory that buffers may take together, bytes; 0 for no limit but the device's own.
    uint64_t budget() const { return budget_; }
    void set_budget(uint64_t bytes) { budget_ = bytes; }  // before others use the device
    // Device memory that buffers hold, bytes.
    uint64_t allocated() const { return allocated_; }
    // Device memory for which there is room now: within the budget, else what the driver says is free.
    uint64_t available() const;
    // What buffers do before they allocate device memory, and after they free it; take throws InsufficientMemory.
    void take(uint64_t bytes, const std::string& what) const;
    void give_back(uint64_t bytes) const { allocated_ -= bytes; }

    VolkDeviceTable vk{};

  private:
    DeviceInfo info_;
    VkDevice device_ = VK_NULL_HANDLE;
    VkQueue queue_ = VK_NULL_HANDLE;
    VkPhysicalDeviceMemoryProperties memory_{};
    mutable std::mutex queue_mutex_;
    uint64_t budget_ = 0;
    mutable std::atomic<uint64_t> allocated_{0};
};

}  // namespace gptoss::vk
