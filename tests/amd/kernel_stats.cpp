// What a driver's compiler makes of every kernel: registers, spills, shared memory, occupancy. Needs no GPU: Mesa's AMD
// driver compiles for a GPU that is not there (see run.sh). Fails if a kernel does not compile or spills a register.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "args.h"
#include "spirv.h"
#include "tuning/candidates.h"
#include "vk/device.h"

using namespace gptoss;

namespace {

struct Variant {
    std::string kernel;
    std::string what;
    std::vector<uint32_t> constants;
    uint32_t subgroup = 0;
};

// The kernels as the forward pass of gpt-oss-20b builds them; see model/graph.cpp.
std::vector<Variant> variants(const model::Tuning& t, const vk::DeviceInfo& device) {
    const uint32_t one = t.lanes * t.decode_splits, many = t.lanes * t.batch_splits, tokens = t.batch_tokens;
    std::vector<Variant> list;
    const std::pair<const char*, uint32_t> dense[] = {{"bf16", WEIGHT_BF16}, {"q8", WEIGHT_Q8}};
    for (const auto& [name, weight] : dense) {
        const std::string s = name;
        list.push_back({"embed", s, {32, 32, 1, weight}});
        for (const bool batch : {false, true}) {
            const uint32_t group = batch ? many : one, n = batch ? tokens : 1;
            const std::string what = s + (batch ? ", batch" : ", one token");
            list.push_back({"qkv", what, {group, t.lanes, n, weight, 1}});
            list.push_back({"out", what, {group, t.lanes, n, weight}});
            list.push_back({"linear", what, {group, t.lanes, n, weight}});
        }
    }
    list.push_back({"attention", "8 queries", {t.attention_workgroup, 8, 1, t.attention_keys}});
    list.push_back({"combine", "", {}});
    list.push_back({"gate_up", "one token", {one, t.lanes, 1, WEIGHT_MXFP4, 4, 0}});
    list.push_back({"down", "one token", {one, t.lanes, 1, WEIGHT_MXFP4, 4}});
    list.push_back({"topk", "", {4}});
    list.push_back({"group", "", {}});
    list.push_back({"gate_up", "batch", {many, t.lanes, tokens, WEIGHT_MXFP4, 4, 1}});
    list.push_back({"down_slots", "batch", {many, t.lanes, tokens, WEIGHT_MXFP4}});
    list.push_back({"merge", "", {}});
    list.push_back({"sample_prepare", "", {128}});
    list.push_back({"sample", "", {128}});
    const std::string integer = std::to_string(t.integer_tokens) + " tokens";
    if (device.integer_dot) {
        list.push_back({"round", "", {64, 32}});
        list.push_back({"gate_up_integer", integer, {many, t.lanes, t.integer_tokens, WEIGHT_MXFP4}});
        list.push_back({"down_integer", integer, {many, t.lanes, t.integer_tokens, WEIGHT_MXFP4}});
    }
    if (t.coopmat_batch == UINT32_MAX) return list;
    const vk::CoopmatShape& c = device.coopmat;
    const auto add = [&](const char* kernel, const std::string& what, uint32_t weight, uint32_t tile,
                         uint32_t terms = 1) {
        list.push_back({kernel,
                        what + ", " + std::to_string(tile) + " tokens",
                        {c.subgroup * t.coopmat_subgroups, c.subgroup, tile, weight, 1, terms, c.m, c.n, c.k, 32 / c.m},
                        c.subgroup});
    };
    list.push_back({"halve", "", {128, 32}});
    for (uint32_t tile = 32; tile <= t.coopmat_tokens; tile *= 2) {
        for (const auto& [name, weight] : dense)
            if (2 * tile <= t.coopmat_tokens) add("qkv_coopmat", name, weight, tile, 2);
        for (const auto& [name, weight] : dense) add("out_coopmat", name, weight, tile);
        add("gate_up_coopmat", "mxfp4", WEIGHT_MXFP4, tile);
        add("down_coopmat", "mxfp4", WEIGHT_MXFP4, tile);
    }
    return list;
}

// A device with pipeline statistics, which the library itself has no use for.
class StatsDevice {
  public:
    explicit StatsDevice(const vk::DeviceInfo& info) {
        const float priority = 1;
        VkDeviceQueueCreateInfo queue{VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
        queue.queueFamilyIndex = info.queue_family;
        queue.queueCount = 1;
        queue.pQueuePriorities = &priority;
        VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR stats{
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR};
        stats.pipelineExecutableInfo = VK_TRUE;
        VkPhysicalDeviceVulkan12Features f12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, &stats};
        f12.bufferDeviceAddress = VK_TRUE;
        std::vector<const char*> extensions = {VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME};
        VkPhysicalDeviceSubgroupSizeControlFeatures sizes{
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES};
        sizes.subgroupSizeControl = sizes.computeFullSubgroups = VK_TRUE;
        if (info.sizes_subgroups) {
            extensions.push_back(VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
            stats.pNext = &sizes;
        }
        f12.shaderFloat16 = info.coopmat.m > 0;
#ifdef VK_KHR_cooperative_matrix
        VkPhysicalDeviceCooperativeMatrixFeaturesKHR coopmat{
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
        coopmat.cooperativeMatrix = VK_TRUE;
        if (info.coopmat.m) {
            extensions.push_back(VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
            f12.vulkanMemoryModel = f12.vulkanMemoryModelDeviceScope = VK_TRUE;
            sizes.pNext = &coopmat;
        }
#endif
        VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR integer_dot{
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR, f12.pNext, VK_TRUE};
        if (info.integer_dot) {
            extensions.push_back(VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
            f12.pNext = &integer_dot;
        }
        VkDeviceCreateInfo create{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, &f12};
        create.queueCreateInfoCount = 1;
        create.pQueueCreateInfos = &queue;
        create.enabledExtensionCount = static_cast<uint32_t>(extensions.size());
        create.ppEnabledExtensionNames = extensions.data();
        vk::check(vkCreateDevice(info.physical, &create, nullptr, &device_), "vkCreateDevice");
        volkLoadDeviceTable(&vk_, device_);
        const VkPushConstantRange range{VK_SHADER_STAGE_COMPUTE_BIT, 0, 128};
        VkPipelineLayoutCreateInfo layout{VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
        layout.pushConstantRangeCount = 1;
        layout.pPushConstantRanges = &range;
        vk::check(vk_.vkCreatePipelineLayout(device_, &layout, nullptr, &layout_), "vkCreatePipelineLayout");
    }
    ~StatsDevice() {
        vk_.vkDestroyPipelineLayout(device_, layout_, nullptr);
        vk_.vkDestroyDevice(device_, nullptr);
    }
    StatsDevice(const StatsDevice&) = delete;
    StatsDevice& operator=(const StatsDevice&) = delete;

    std::map<std::string, double> compile(const Variant& variant) const {
        const auto code = spirv(variant.kernel);
        if (code.empty()) throw Error(Status::InternalError, "no kernel " + variant.kernel);
        VkShaderModuleCreateInfo module_info{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
        module_info.codeSize = code.size_bytes();
        module_info.pCode = code.data();
        VkShaderModule module = VK_NULL_HANDLE;
        vk::check(vk_.vkCreateShaderModule(device_, &module_info, nullptr, &module), variant.kernel);
        std::vector<VkSpecializationMapEntry> entries;
        for (uint32_t i = 0; i < variant.constants.size(); i++) entries.push_back({i, i * 4, 4});
        const VkSpecializationInfo specialization{static_cast<uint32_t>(entries.size()), entries.data(),
                                                  variant.constants.size() * 4, variant.constants.data()};
        VkComputePipelineCreateInfo create{VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO};
        create.flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR;
        create.stage = {VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                        nullptr,
                        0,
                        VK_SHADER_STAGE_COMPUTE_BIT,
                        module,
                        "main",
                        &specialization};
        VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size{
            VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO};
        size.requiredSubgroupSize = variant.subgroup;
        if (variant.subgroup) {
            create.stage.flags = VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT;
            create.stage.pNext = &size;
        }
        create.layout = layout_;
        VkPipeline pipeline = VK_NULL_HANDLE;
        vk::check(vk_.vkCreateComputePipelines(device_, VK_NULL_HANDLE, 1, &create, nullptr, &pipeline),
                  variant.kernel);
        vk_.vkDestroyShaderModule(device_, module, nullptr);
        VkPipelineExecutableInfoKHR executable{VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR};
        executable.pipeline = pipeline;
        uint32_t count = 0;
        vk::check(vk_.vkGetPipelineExecutableStatisticsKHR(device_, &executable, &count, nullptr), variant.kernel);
        std::vector<VkPipelineExecutableStatisticKHR> all(count, {VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR});
        vk::check(vk_.vkGetPipelineExecutableStatisticsKHR(device_, &executable, &count, all.data()), variant.kernel);
        vk_.vkDestroyPipeline(device_, pipeline, nullptr);
        std::map<std::string, double> result;
        for (const auto& s : all)
            result[s.name] =
                s.format == VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR ? s.value.f64 : double(s.value.u64);
        return result;
    }

  private:
    VkDevice device_ = VK_NULL_HANDLE;
    VkPipelineLayout layout_ = VK_NULL_HANDLE;
    VolkDeviceTable vk_{};
};

}  // namespace

int main() {
    try {
        const std::vector<vk::DeviceInfo> devices = vk::enumerate_devices(false);
        if (devices.empty()) throw Error(Status::UnsupportedSystem, "no device");
        const vk::DeviceInfo& info = devices[0];
        const StatsDevice device(info);
        std::printf("%s (%s), subgroups of %u", info.name.c_str(), info.driver.c_str(), info.subgroup_size);
        const vk::CoopmatShape& c = info.coopmat;
        if (c.m) std::printf(", cooperative matrices %u x %u x %u in subgroups of %u", c.m, c.n, c.k, c.subgroup);
        std::printf("\n\n");
        std::printf(
            "| kernel | variant | VGPRs | SGPRs | spilled | shared memory | subgroups a SIMD | instructions | "
            "inverse throughput |\n|---|---|---|---|---|---|---|---|---|\n");
        bool spilled = false;
        for (const Variant& v : variants(model::tuning_for_device(info), info)) {
            auto s = device.compile(v);
            const double spills = s["Spilled VGPRs"] + s["Spilled SGPRs"];
            spilled = spilled || spills > 0;
            std::printf("| %s | %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n", v.kernel.c_str(),
                        v.what.c_str(), s["VGPRs"], s["SGPRs"], spills, s["LDS size"], s["Subgroups per SIMD"],
                        s["Instructions"], s["Inverse Throughput"]);
        }
        std::printf("\n");
        if (spilled) std::fprintf(stderr, "a kernel spills registers\n");
        return spilled;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "kernel_stats: %s\n", e.what());
        return 1;
    }
}
