#include "vk/pipelines.h"

#include <algorithm>

#include "base/platform.h"
#include "spirv.h"

namespace gptoss::vk {

namespace {
constexpr uint32_t kMaxArgs = 128;  // what every device offers as push constants, bytes
}  // namespace

Pipelines::Pipelines(const Device& device, const std::string& cached) : device_(device) {
    const VkPushConstantRange range{VK_SHADER_STAGE_COMPUTE_BIT, 0, kMaxArgs};
    VkPipelineLayoutCreateInfo layout{VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
    layout.pushConstantRangeCount = 1;
    layout.pPushConstantRanges = &range;
    check(device.vk.vkCreatePipelineLayout(device.handle(), &layout, nullptr, &layout_), "vkCreatePipelineLayout");
    VkPipelineCacheCreateInfo cache{VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    cache.initialDataSize = cached.size();
    cache.pInitialData = cached.data();
    // without a cache pipelines only take longer to build
    if (device.vk.vkCreatePipelineCache(device.handle(), &cache, nullptr, &cache_) != VK_SUCCESS)
        cache_ = VK_NULL_HANDLE;
}

std::string Pipelines::cache_data() const {
    const auto get = [&](size_t* size, void* data) {
        return cache_ ? device_.vk.vkGetPipelineCacheData(device_.handle(), cache_, size, data) : VK_ERROR_UNKNOWN;
    };
    size_t size = 0;
    if (get(&size, nullptr) != VK_SUCCESS) return "";
    std::string data(size, '\0');
    if (get(&size, data.data()) != VK_SUCCESS) return "";  // grown since: another thread builds a pipeline
    data.resize(size);
    return data;
}

Pipelines::~Pipelines() {
    for (const auto& [key, kernel] : kernels_)
        if (kernel) device_.vk.vkDestroyPipeline(device_.handle(), kernel->pipeline, nullptr);  // one may have failed
    device_.vk.vkDestroyPipelineCache(device_.handle(), cache_, nullptr);
    device_.vk.vkDestroyPipelineLayout(device_.handle(), layout_, nullptr);
}

const Kernel& Pipelines::get(const std::string& name, const std::vector<uint32_t>& constants, uint32_t subgroup) {
    std::lock_guard lock(mutex_);
    const auto [at, added] = kernels_.try_emplace({name, constants, subgroup});
    if (!added) return *at->second;
    try {
        at->second = build(name, constants, subgroup);
    } catch (...) {
        kernels_.erase(at);
        throw;
    }
    return *at->second;
}

// All that may run out of host memory comes before what would be lost by it.
std::unique_ptr<Kernel> Pipelines::build(const std::string& name, const std::vector<uint32_t>& constants,
                                         uint32_t subgroup) const {
    const auto code = spirv(name);
    if (code.empty()) throw Error(Status::InternalError, "this build has no kernel " + name);
    const std::string what = "kernel " + name;
    auto kernel = std::make_unique<Kernel>();
    kernel->name = name;
    std::vector<VkSpecializationMapEntry> entries;
    for (uint32_t i = 0; i < constants.size(); i++) entries.push_back({i, i * 4, 4});
    const VkSpecializationInfo specialization{static_cast<uint32_t>(entries.size()), entries.data(),
                                              constants.size() * 4, constants.data()};
    VkShaderModuleCreateInfo module_info{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
    module_info.codeSize = code.size_bytes();
    module_info.pCode = code.data();
    VkShaderModule module = VK_NULL_HANDLE;
    check(device_.vk.vkCreateShaderModule(device_.handle(), &module_info, nullptr, &module), what);
    VkComputePipelineCreateInfo create{VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO};
    create.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
    create.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
    create.stage.module = module;
    create.stage.pName = "main";
    create.stage.pSpecializationInfo = &specialization;
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size{
        VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO};
    size.requiredSubgroupSize = subgroup;
    if (subgroup && device_.info().sizes_subgroups) {
        create.stage.flags = VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT;
        create.stage.pNext = &size;
    }
    create.layout = layout_;
    const platform::NoFileSizeSignal none;  // drivers keep what they compile
    const VkResult result =
        device_.vk.vkCreateComputePipelines(device_.handle(), cache_, 1, &create, nullptr, &kernel->pipeline);
    device_.vk.vkDestroyShaderModule(device_.handle(), module, nullptr);
    check(result, what);
    return kernel;
}

}  // namespace gptoss::vk
