#include <cstdio>

#include "api/common.h"
#include "tuning/candidates.h"
#include "vk/bandwidth.h"
#include "vk/device.h"

using namespace gptoss;
using namespace gptoss::api;

namespace {

gptoss_device_type type_of(VkPhysicalDeviceType type) {
    switch (type) {
        case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
            return gptoss_device_type_integrated_gpu;
        case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
            return gptoss_device_type_discrete_gpu;
        case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
            return gptoss_device_type_virtual_gpu;
        case VK_PHYSICAL_DEVICE_TYPE_CPU:
            return gptoss_device_type_cpu;
        default:
            return gptoss_device_type_other;
    }
}

}  // namespace

gptoss_status gptoss_device_count(uint32_t* count_out) {
    if (count_out) *count_out = 0;
    return guard([&] {
        require(count_out, "count_out");
        *count_out = static_cast<uint32_t>(vk::enumerate_devices().size());
    });
}

gptoss_status gptoss_device_get_info(uint32_t index, gptoss_device_info* info_out) {
    return guard([&] {
        write_struct(gptoss_device_info{}, info_out, "info_out");
        const auto devices = vk::enumerate_devices();
        if (index >= devices.size())
            throw Error(Status::InvalidArgument,
                        "device " + std::to_string(index) + ": there are " + std::to_string(devices.size()));
        const vk::DeviceInfo& device = devices[index];
        gptoss_device_info info{};
        std::snprintf(info.name, sizeof info.name, "%s", device.name.c_str());
        std::snprintf(info.driver, sizeof info.driver, "%s", device.driver.c_str());
        info.type = type_of(device.type);
        model::Tuning tuning;
        model::use_coopmat(tuning, device);
        info.tier = static_cast<gptoss_kernel_tier>(tuning.tier());
        info.memory_size = device.memory_size;
        info.memory_available = device.memory_available;
        info.supported = device.unsupported.empty();
        info.subgroup_size = device.subgroup_size;
        info.max_allocation_size = device.max_allocation;
        std::snprintf(info.uuid, sizeof info.uuid, "%s", device.uuid.c_str());
        write_struct(info, info_out, "info_out");
    });
}

gptoss_status gptoss_device_measure_bandwidth(uint32_t index, double* bytes_per_second_out) {
    if (bytes_per_second_out) *bytes_per_second_out = 0;
    return guard([&] {
        require(bytes_per_second_out, "bytes_per_second_out");
        *bytes_per_second_out = vk::measure_copy_bandwidth(vk::choose_device(std::to_string(index).c_str()));
    });
}
