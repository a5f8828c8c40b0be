// A driver that says it has smaller limits than it has, and a watch over what the library then asks of it.
#pragma once

#include <volk.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace gptoss::test {

struct Limits {
    // What every device of Vulkan 1.2 has, or as the comment says.
    uint64_t max_allocation = 1 << 30;
    uint32_t shared_memory = 16 << 10;
    uint32_t max_workgroup = 128;
    uint32_t subgroup_size = 32;  // says the driver: kernels still run with its own
    uint32_t max_push_constants = 128;
    uint32_t max_storage_range = 128 << 20;
    uint32_t max_groups = 65535;
    VkPhysicalDeviceType type = VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;  // whose kernels are launched otherwise
};

// While it lives, devices have these limits.
class SimulatedLimits {
  public:
    explicit SimulatedLimits(const Limits& limits);
    ~SimulatedLimits();

    // What was beyond them, and how many pipelines and dispatches were looked at.
    std::vector<std::string> violations() const;
    size_t pipelines() const;
    size_t dispatches() const;
};

// What a compute shader takes with these specialization constants.
struct ShaderNeeds {
    uint32_t workgroup[3] = {1, 1, 1};
    uint64_t shared_memory = 0;  // bytes
};
ShaderNeeds needs_of(std::span<const uint32_t> spirv, std::span<const uint32_t> constants);

}  // namespace gptoss::test
