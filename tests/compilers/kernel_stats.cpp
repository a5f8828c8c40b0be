// What a driver's compiler makes of the kernels of a forward pass. No GPU is needed: Mesa's drivers compile for
// hardware that is not there (see run.sh).
//
// Nothing here knows which kernels there are: it records the forward passes of gpt-oss-20b's head grouping in each
// tuning candidate and dense type, as the library does, and asks the driver about every pipeline that this builds.
#include <volk.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "forward/forward.h"
#include "forward/sampling.h"
#include "spirv.h"
#include "tuning/autotune.h"
#include "tuning/self_test_model.h"
#include "vk/gpu.h"

using namespace gptoss;

namespace {

using Statistics = std::map<std::string, double>;

// One pipeline as it was asked for, and the driver's own statistics of it.
struct Compiled {
    std::string kernel;
    std::vector<uint32_t> constants;
    Statistics statistics;
};

PFN_vkCreateDevice real_create_device;
PFN_vkCreateShaderModule real_create_module;
PFN_vkCreateComputePipelines real_create_pipelines;
PFN_vkGetPipelineExecutablePropertiesKHR executables_of;
PFN_vkGetPipelineExecutableStatisticsKHR statistics_of;
std::map<VkShaderModule, std::string> modules;
std::vector<Compiled> compiled;

// The library's own request for a device, with pipeline statistics, which it has no use for itself.
VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo* asked,
                                             const VkAllocationCallbacks* allocator, VkDevice* device) {
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR feature{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR, const_cast<void*>(asked->pNext),
        VK_TRUE};
    std::vector<const char*> extensions(asked->ppEnabledExtensionNames,
                                        asked->ppEnabledExtensionNames + asked->enabledExtensionCount);
    extensions.push_back(VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME);
    VkDeviceCreateInfo create = *asked;
    create.pNext = &feature;
    create.enabledExtensionCount = static_cast<uint32_t>(extensions.size());
    create.ppEnabledExtensionNames = extensions.data();
    return real_create_device(physical, &create, allocator, device);
}

VKAPI_ATTR VkResult VKAPI_CALL create_module(VkDevice device, const VkShaderModuleCreateInfo* asked,
                                             const VkAllocationCallbacks* allocator, VkShaderModule* module) {
    const VkResult result = real_create_module(device, asked, allocator, module);
    for (const std::string_view name : spirv_names())
        if (spirv(name).data() == asked->pCode) modules[*module] = name;
    return result;
}

double value_of(const VkPipelineExecutableStatisticKHR& s) {
    switch (s.format) {
        case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR:
            return s.value.b32;
        case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:
            return static_cast<double>(s.value.i64);
        case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR:
            return s.value.f64;
        default:
            return static_cast<double>(s.value.u64);
    }
}

// Where a driver makes several programs of one kernel, the largest figure of any.
Statistics statistics(VkDevice device, VkPipeline made) {
    const VkPipelineInfoKHR pipeline{VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, nullptr, made};
    uint32_t programs = 0;
    vk::check(executables_of(device, &pipeline, &programs, nullptr), "vkGetPipelineExecutablePropertiesKHR");
    Statistics result;
    for (uint32_t i = 0; i < programs; i++) {
        const VkPipelineExecutableInfoKHR program{VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, nullptr, made, i};
        uint32_t count = 0;
        vk::check(statistics_of(device, &program, &count, nullptr), "vkGetPipelineExecutableStatisticsKHR");
        std::vector<VkPipelineExecutableStatisticKHR> all(count, {VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR});
        vk::check(statistics_of(device, &program, &count, all.data()), "vkGetPipelineExecutableStatisticsKHR");
        for (const auto& s : all) {
            double& largest = result[s.name];
            largest = std::max(largest, value_of(s));
        }
    }
    return result;
}

VKAPI_ATTR VkResult VKAPI_CALL create_pipelines(VkDevice device, VkPipelineCache, uint32_t count,
                                                const VkComputePipelineCreateInfo* asked,
                                                const VkAllocationCallbacks* allocator, VkPipeline* pipelines) {
    VkComputePipelineCreateInfo create = *asked;
    create.flags |= VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR;
    const VkResult result = real_create_pipelines(device, VK_NULL_HANDLE, count, &create, allocator, pipelines);
    if (result != VK_SUCCESS) return result;
    const VkSpecializationInfo& constants = *asked->stage.pSpecializationInfo;
    const auto* values = static_cast<const uint32_t*>(constants.pData);
    compiled.push_back(
        {modules.at(asked->stage.module), {values, values + constants.mapEntryCount}, statistics(device, *pipelines)});
    return result;
}

// gpt-oss-20b as far as kernels are concerned.
model::KernelNeeds needs_of_20b(uint32_t dense, bool kv_f16) {
    io::Checkpoint checkpoint;
    io::Config& c = checkpoint.config;
    c.n_heads = 64;
    c.n_kv_heads = 8;
    c.n_experts = 8;  // few, so that a small batch fills the largest tiles of one
    c.n_active_experts = 4;
    checkpoint.embedding.type = checkpoint.lm_head.type = io::DType::BF16;
    checkpoint.layers.resize(1);
    io::LayerTensors& layer = checkpoint.layers.front();
    layer.q.type = layer.out.type = layer.router.type = io::DType::BF16;
    return {checkpoint, dense, kv_f16};
}

// Every row count's forward pass, recorded and not run.
void record(const std::shared_ptr<vk::Gpu>& gpu, const model::KernelNeeds& needs, const model::Tuning& tuning) {
    const model::Miniature miniature(needs);
    const model::Network network(gpu, miniature.checkpoint, needs.kv_f16, tuning, {}, {});
    constexpr uint32_t kMost = 256, kMostRows = 32;
    const model::Activations activations(network, kMost, kMostRows);
    const model::KvLayout layout(network.config, needs.kv_f16);
    const model::KvTables tables(network.device, layout, kMostRows);
    const model::Sampler sampler(network, kMostRows);
    const model::LoraUse use{.qkv = true, .out = true, .gate_up = true, .down = true, .max_rank = 16};
    const model::LoraBuffers lora_buffers(network, kMost, use);
    const std::optional<model::LoraBatch> lora{{lora_buffers, use}};
    vk::Commands commands(network.device, network.pipelines);
    for (uint32_t rows = 1; rows <= kMost; rows *= 2) {
        const uint32_t n_logits = std::min(rows, kMostRows);
        commands.begin();
        record_forward(commands, network, activations, tables, rows, 0, network.config.n_layers, n_logits, lora);
        sampler.record(commands, n_logits, activations.logits.address(), activations.tokens.address());
        commands.end();
    }
}

// What the table says of a pipeline; drivers have other names for the same. -1 where the driver does not say.
struct Column {
    const char* name;
    std::vector<const char*> statistics;  // of which those that there are, added up
};
const Column kColumns[] = {
    {"registers", {"VGPRs", "Number of GPRs", "GPRs", "Registers used", "Max live registers"}},
    {"spills",
     {"Spilled VGPRs", "Spilled SGPRs", "Spills to memory", "Fills from memory", "Spills", "Fills", "Spill count",
      "Fill count"}},
    {"memory", {"Scratch size", "SLM size", "Scratch", "LDP Count", "STP Count", "Scratch Memory Size"}},
    {"occupancy", {"Subgroups per SIMD", "Max warps/SM", "Threads", "Max Waves Per Core"}},
    {"instructions", {"Instructions", "Instruction count", "Instruction Count"}},
    {"cycles", {"Inverse Throughput", "Static cycle count", "ALU", "Cycle Count"}},
};

double column(const Statistics& statistics, const Column& column) {
    double sum = -1;
    for (const char* name : column.statistics)
        if (const auto at = statistics.find(name); at != statistics.end()) sum = std::max(sum, 0.0) + at->second;
    return sum;
}

// Everything that the library may build for the device, in the shapes that a model of 20b's head grouping has.
void record_all(const std::shared_ptr<vk::Gpu>& gpu) {
    const vk::DeviceInfo& info = gpu->device.info();
    for (const uint32_t dense : {UINT32_MAX, uint32_t{WEIGHT_Q8}}) {
        const model::KernelNeeds needs = needs_of_20b(dense, true);
        const uint32_t group = needs.config.n_heads / needs.config.n_kv_heads;
        std::vector<model::Tuning> tunings = model::tuning_candidates(info, group, model::Tier::Default);
        if (info.integer_dot)
            for (const auto& t : model::tuning_candidates(info, group, model::Tier::Integer)) tunings.push_back(t);
        // and the shapes that autotuning measures
        model::measured_tuning(*gpu, needs, tunings.front(), [&](const model::Tuning& t, bool) {
            tunings.push_back(t);
            return 1.0;
        });
        for (const model::Tuning& tuning : tunings) {
            model::Tuning exact = tuning;
            exact.coopmat_batch = UINT32_MAX;
            record(gpu, needs, exact);
            for (uint32_t tile = 32; tuning.coopmat() && tile <= tuning.coopmat_tokens; tile *= 2) {
                model::Tuning tiles = tuning;
                tiles.coopmat_tokens = tile;
                tiles.coopmat_groups = 1;
                record(gpu, needs, tiles);
            }
        }
    }
}

// The lowest occupancy that a kernel may have, in the unit of the chip's driver: an eighth of the most that the chip
// has for cooperative matrices, which hold a tile of sums in registers and blocks of both factors in shared memory, a
// sixth for attention, which holds the sums of eight queries, and a quarter for everything else.
double floor_of(const Compiled& c, double most) {
    if (c.kernel.ends_with("_coopmat")) return most / 8;
    return c.kernel == "attn_attend" ? most / 6 : most / 4;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::string chip = argc > 1 ? argv[1] : "device";
        const std::vector<vk::DeviceInfo> devices = vk::enumerate_devices(false);
        if (devices.empty()) throw Error(Status::UnsupportedSystem, "no device");
        const vk::DeviceInfo& info = devices[0];
        std::fprintf(stderr, "%s: %s (%s), subgroups of %u%s%s\n", chip.c_str(), info.name.c_str(), info.driver.c_str(),
                     info.subgroup_size, info.coopmat.m ? ", cooperative matrices" : "",
                     info.integer_dot ? ", integer dot products" : "");
        real_create_device = vkCreateDevice;
        vkCreateDevice = create_device;
        const auto gpu = std::make_shared<vk::Gpu>(info, "");
        vkCreateDevice = real_create_device;
        const VkDevice device = gpu->device.handle();
        executables_of = reinterpret_cast<PFN_vkGetPipelineExecutablePropertiesKHR>(
            vkGetDeviceProcAddr(device, "vkGetPipelineExecutablePropertiesKHR"));
        statistics_of = reinterpret_cast<PFN_vkGetPipelineExecutableStatisticsKHR>(
            vkGetDeviceProcAddr(device, "vkGetPipelineExecutableStatisticsKHR"));
        if (!executables_of || !statistics_of)
            throw Error(Status::UnsupportedSystem, "the driver has no VK_KHR_pipeline_executable_properties");
        real_create_pipelines = gpu->device.vk.vkCreateComputePipelines;
        gpu->device.vk.vkCreateComputePipelines = create_pipelines;
        real_create_module = gpu->device.vk.vkCreateShaderModule;
        gpu->device.vk.vkCreateShaderModule = create_module;
        record_all(gpu);
        double most = 0;
        for (const Compiled& c : compiled) most = std::max(most, column(c.statistics, kColumns[3]));
        int failures = 0;
        for (const Compiled& c : compiled) {
            std::string line = chip + "," + c.kernel + ",";
            for (const uint32_t constant : c.constants)
                line += (line.back() == ',' ? "" : " ") + std::to_string(constant);
            for (const Column& each : kColumns) {
                const double value = column(c.statistics, each);
                line += ',' + (value < 0 ? std::string() : std::to_string(std::llround(value)));
            }
            std::puts(line.c_str());
            const auto fail = [&](const std::string& what) {
                std::fprintf(stderr, "%s: kernel %s %s: %s\n", chip.c_str(), c.kernel.c_str(), line.c_str(),
                             what.c_str());
                failures++;
            };
            if (column(c.statistics, kColumns[1]) > 0) fail("it spills registers");
            if (column(c.statistics, kColumns[2]) > 0) fail("it keeps variables in memory");
            if (column(c.statistics, kColumns[3]) < floor_of(c, most)) fail("its occupancy is below its floor");
        }
        std::fprintf(stderr, "%s: %zu pipelines, %d faults\n", chip.c_str(), compiled.size(), failures);
        return failures > 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "kernel_stats: %s\n", e.what());
        return 1;
    }
}
