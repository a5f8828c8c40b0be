// Compute pipelines by name.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "vk/device.h"

namespace gptoss::vk {

// A pipeline: one SPIR-V module with its specialization constants set.
struct Kernel {
    VkPipeline pipeline = VK_NULL_HANDLE;
    std::string name;
};

// The pipelines of a device, each built at first use. Safe from many threads.
class Pipelines {
  public:
    // cached: what cache_data() gave for this device and driver, or "".
    explicit Pipelines(const Device& device, const std::string& cached = "");
    ~Pipelines();
    Pipelines(const Pipelines&) = delete;
    Pipelines& operator=(const Pipelines&) = delete;

    // constants: the values of constant_id 0, 1, …; subgroup: the size of its subgroups, 0 for the device's own; the
    // reference stays valid as long as this object.
    const Kernel& get(const std::string& name, const std::vector<uint32_t>& constants, uint32_t subgroup = 0);
    VkPipelineLayout layout() const { return layout_; }
    // What the driver keeps of the pipelines built so far, so that it builds them faster; "" if nothing.
    std::string cache_data() const;

  private:
    std::unique_ptr<Kernel> build(const std::string& name, const std::vector<uint32_t>& constants,
                                  uint32_t subgroup) const;

    const Device& device_;
    VkPipelineLayout layout_ = VK_NULL_HANDLE;
    VkPipelineCache cache_ = VK_NULL_HANDLE;
    std::mutex mutex_;
    using Key = std::tuple<std::string, std::vector<uint32_t>, uint32_t>;  // what get is asked for
    std::map<Key, std::unique_ptr<Kernel>> kernels_;
};

}  // namespace gptoss::vk
