#include "limits.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <utility>

#include "support.h"

namespace gptoss::test {

namespace {

// The part of SPIR-V that says how large a workgroup and its shared memory are.
class Module {
  public:
    Module(std::span<const uint32_t> code, std::span<const uint32_t> constants) : constants_(constants) {
        for (size_t at = 5; at < code.size();) {
            const uint32_t count = code[at] >> 16;
            if (count == 0 || at + count > code.size()) throw std::runtime_error("malformed SPIR-V");
            read(code[at] & 0xffff, code.subspan(at + 1, count - 1));
            at += count;
        }
    }

    ShaderNeeds needs() const {
        ShaderNeeds needs;
        for (int i = 0; i < 3; i++) {
            needs.workgroup[i] = local_size_[i];
            if (workgroup_size_) needs.workgroup[i] = values_.at(composites_.at(workgroup_size_)[i]);
        }
        for (const uint32_t type : shared_) needs.shared_memory += bytes_of(pointees_.at(type));
        return needs;
    }

  private:
    using Words = std::span<const uint32_t>;
    enum Op : uint32_t {
        ExecutionMode = 16,
        TypeBool = 20,
        TypeInt = 21,
        TypeFloat = 22,
        TypeVector = 23,
        TypeArray = 28,
        TypeStruct = 30,
        TypePointer = 32,
        ConstantTrue = 41,
        ConstantFalse = 42,
        Constant = 43,
        ConstantComposite = 44,
        SpecConstantTrue = 48,
        SpecConstantFalse = 49,
        SpecConstant = 50,
        SpecConstantComposite = 51,
        SpecConstantOp = 52,
        Variable = 59,
        Decorate = 71,
    };
    struct Type {
        uint32_t op = 0;
        std::vector<uint32_t> words;
    };

    void read(uint32_t op, Words w) {
        constexpr uint32_t kLocalSize = 17, kSpecId = 1, kBuiltIn = 11, kWorkgroupSize = 25, kWorkgroup = 4;
        switch (op) {
            case ExecutionMode:
                if (w[1] == kLocalSize) std::copy_n(&w[2], 3, local_size_);
                break;
            case Decorate:
                if (w[1] == kSpecId) spec_ids_[w[0]] = w[2];
                if (w[1] == kBuiltIn && w[2] == kWorkgroupSize) workgroup_size_ = w[0];
                break;
            case TypeBool:
            case TypeInt:
            case TypeFloat:
            case TypeVector:
            case TypeArray:
            case TypeStruct:
                types_[w[0]] = {op, {w.begin() + 1, w.end()}};
                break;
            case TypePointer:
                if (w[1] == kWorkgroup) pointees_[w[0]] = w[2];
                break;
            case ConstantTrue:
            case ConstantFalse:
                values_[w[1]] = op == ConstantTrue;
                break;
            case Constant:
                values_[w[1]] = w[2];
                break;
            case SpecConstantTrue:
            case SpecConstantFalse:
                values_[w[1]] = specialized(w[1], op == SpecConstantTrue);
                break;
            case SpecConstant:
                values_[w[1]] = specialized(w[1], w[2]);
                break;
            case ConstantComposite:
            case SpecConstantComposite:
                composites_[w[1]] = {w.begin() + 2, w.end()};
                break;
            case SpecConstantOp:
                if (const auto value = compute(w[2], w.subspan(3))) values_[w[1]] = *value;
                break;
            case Variable:
                if (w[2] == kWorkgroup) shared_.push_back(w[0]);
                break;
        }
    }

    uint32_t specialized(uint32_t id, uint32_t otherwise) const {
        const auto spec = spec_ids_.find(id);
        return spec != spec_ids_.end() && spec->second < constants_.size() ? constants_[spec->second] : otherwise;
    }

    // None where an operand is no integer: an array's length cannot depend on it.
    std::optional<uint32_t> compute(uint32_t op, Words operands) const {
        uint32_t v[3] = {};
        for (size_t i = 0; i < std::min<size_t>(3, operands.size()); i++) {
            const auto at = values_.find(operands[i]);
            if (at == values_.end()) return std::nullopt;
            v[i] = at->second;
        }
        switch (op) {
            case 128:
                return v[0] + v[1];
            case 130:
                return v[0] - v[1];
            case 132:
                return v[0] * v[1];
            case 134:
                return v[1] ? v[0] / v[1] : 0;
            case 137:
                return v[1] ? v[0] % v[1] : 0;
            case 166:
                return v[0] || v[1];
            case 167:
                return v[0] && v[1];
            case 168:
                return !v[0];
            case 169:
                return v[0] ? v[1] : v[2];
            case 170:
            case 164:
                return v[0] == v[1];
            case 171:
            case 165:
                return v[0] != v[1];
            case 172:
                return v[0] > v[1];
            case 174:
                return v[0] >= v[1];
            case 176:
                return v[0] < v[1];
            case 178:
                return v[0] <= v[1];
            case 194:
                return v[0] >> v[1];
            case 196:
                return v[0] << v[1];
            case 197:
                return v[0] | v[1];
            case 199:
                return v[0] & v[1];
            default:
                return std::nullopt;
        }
    }

    uint64_t bytes_of(uint32_t type) const {
        const Type& t = types_.at(type);
        switch (t.op) {
            case TypeBool:
                return 4;
            case TypeInt:
            case TypeFloat:
                return t.words[0] / 8;
            case TypeVector:
                return bytes_of(t.words[0]) * t.words[1];
            case TypeArray:
                return bytes_of(t.words[0]) * values_.at(t.words[1]);
            default: {
                uint64_t sum = 0;
                for (const uint32_t member : t.words) sum += bytes_of(member);
                return sum;
            }
        }
    }

    Words constants_;
    uint32_t local_size_[3] = {1, 1, 1};
    uint32_t workgroup_size_ = 0;
    std::map<uint32_t, uint32_t> spec_ids_, values_, pointees_;
    std::map<uint32_t, std::vector<uint32_t>> composites_;
    std::map<uint32_t, Type> types_;
    std::vector<uint32_t> shared_;
};

// The driver's functions, and what is said to their callers.
struct State {
    Limits limits;
    PFN_vkGetPhysicalDeviceProperties get_properties;
    PFN_vkGetPhysicalDeviceProperties2 get_properties2;
#ifdef VK_KHR_cooperative_matrix
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get_coopmat;
#endif
    PFN_vkGetDeviceProcAddr get_address;
    PFN_vkAllocateMemory allocate;
    PFN_vkCreatePipelineLayout create_layout;
    PFN_vkCreateShaderModule create_module;
    PFN_vkCreateComputePipelines create_pipelines;
    PFN_vkCmdDispatch dispatch;
    std::map<VkShaderModule, std::vector<uint32_t>> modules;
    std::vector<std::string> violations;
    size_t pipelines = 0, dispatches = 0;

    void at_most(const std::string& what, uint64_t got, uint64_t most) {
        if (got > most) violations.push_back(what + " " + std::to_string(got) + ", at most " + std::to_string(most));
    }
};
State state;

void lower(VkPhysicalDeviceProperties& p) {
    const Limits& l = state.limits;
    p.deviceType = l.type;
    p.limits.maxComputeSharedMemorySize = l.shared_memory;
    p.limits.maxComputeWorkGroupInvocations = l.max_workgroup;
    p.limits.maxComputeWorkGroupSize[0] = p.limits.maxComputeWorkGroupSize[1] = l.max_workgroup;
    p.limits.maxComputeWorkGroupSize[2] = std::min(64u, l.max_workgroup);
    for (uint32_t& n : p.limits.maxComputeWorkGroupCount) n = l.max_groups;
    p.limits.maxPushConstantsSize = l.max_push_constants;
    p.limits.maxStorageBufferRange = l.max_storage_range;
}

VkResult allocate(VkDevice device, const VkMemoryAllocateInfo* info, const VkAllocationCallbacks* callbacks,
                  VkDeviceMemory* memory) {
    state.at_most("an allocation of", info->allocationSize, state.limits.max_allocation);
    return state.allocate(device, info, callbacks, memory);
}

VkResult create_layout(VkDevice device, const VkPipelineLayoutCreateInfo* info, const VkAllocationCallbacks* callbacks,
                       VkPipelineLayout* layout) {
    // nothing is bound: a storage buffer's range has no part in it
    state.at_most("descriptor sets", info->setLayoutCount, 0);
    for (uint32_t i = 0; i < info->pushConstantRangeCount; i++)
        state.at_most("push constants", info->pPushConstantRanges[i].offset + info->pPushConstantRanges[i].size,
                      state.limits.max_push_constants);
    return state.create_layout(device, info, callbacks, layout);
}

VkResult create_module(VkDevice device, const VkShaderModuleCreateInfo* info, const VkAllocationCallbacks* callbacks,
                       VkShaderModule* module) {
    const VkResult result = state.create_module(device, info, callbacks, module);
    if (result == VK_SUCCESS) state.modules[*module] = {info->pCode, info->pCode + info->codeSize / 4};
    return result;
}

VkResult create_pipelines(VkDevice device, VkPipelineCache cache, uint32_t n, const VkComputePipelineCreateInfo* infos,
                          const VkAllocationCallbacks* callbacks, VkPipeline* pipelines) {
    for (uint32_t i = 0; i < n; i++) {
        const VkSpecializationInfo* given = infos[i].stage.pSpecializationInfo;
        std::vector<uint32_t> constants;
        for (uint32_t c = 0; given && c < given->mapEntryCount; c++) {
            const VkSpecializationMapEntry& entry = given->pMapEntries[c];
            constants.resize(std::max<size_t>(constants.size(), entry.constantID + 1));
            constants[entry.constantID] = static_cast<const uint32_t*>(given->pData)[entry.offset / 4];
        }
        const ShaderNeeds needs = needs_of(state.modules.at(infos[i].stage.module), constants);
        const uint64_t invocations = uint64_t{needs.workgroup[0]} * needs.workgroup[1] * needs.workgroup[2];
        state.at_most("invocations of a workgroup", invocations, state.limits.max_workgroup);
        state.at_most("shared memory", needs.shared_memory, state.limits.shared_memory);
        state.pipelines++;
    }
    return state.create_pipelines(device, cache, n, infos, callbacks, pipelines);
}

void dispatch(VkCommandBuffer commands, uint32_t x, uint32_t y, uint32_t z) {
    state.at_most("workgroups", std::max({x, y, z}), state.limits.max_groups);
    state.dispatches++;
    state.dispatch(commands, x, y, z);
}

PFN_vkVoidFunction get_address(VkDevice device, const char* name) {
    const PFN_vkVoidFunction real = state.get_address(device, name);
    const auto watched = [&](auto& original, auto ours) {
        original = reinterpret_cast<std::remove_reference_t<decltype(original)>>(real);
        return reinterpret_cast<PFN_vkVoidFunction>(ours);
    };
    const std::string called = name;
    if (called == "vkAllocateMemory") return watched(state.allocate, allocate);
    if (called == "vkCreatePipelineLayout") return watched(state.create_layout, create_layout);
    if (called == "vkCreateShaderModule") return watched(state.create_module, create_module);
    if (called == "vkCreateComputePipelines") return watched(state.create_pipelines, create_pipelines);
    if (called == "vkCmdDispatch") return watched(state.dispatch, dispatch);
    return real;
}

}  // namespace

ShaderNeeds needs_of(std::span<const uint32_t> spirv, std::span<const uint32_t> constants) {
    return Module(spirv, constants).needs();
}

SimulatedLimits::SimulatedLimits(const Limits& limits) {
    keep_instance();
    state = {.limits = limits};
    state.get_properties = vkGetPhysicalDeviceProperties;
    state.get_properties2 = vkGetPhysicalDeviceProperties2;
    state.get_address = vkGetDeviceProcAddr;
    vkGetPhysicalDeviceProperties = [](VkPhysicalDevice device, VkPhysicalDeviceProperties* out) {
        state.get_properties(device, out);
        lower(*out);
    };
    vkGetPhysicalDeviceProperties2 = [](VkPhysicalDevice device, VkPhysicalDeviceProperties2* out) {
        state.get_properties2(device, out);
        lower(out->properties);
        for (auto* next = static_cast<VkBaseOutStructure*>(out->pNext); next; next = next->pNext) {
            // as a GPU with units for them, which a processor lacks
            if (next->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES_KHR)
                reinterpret_cast<VkPhysicalDeviceShaderIntegerDotProductPropertiesKHR*>(next)
                    ->integerDotProduct4x8BitPackedSignedAccelerated = VK_TRUE;
            if (next->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES) continue;
            auto* p11 = reinterpret_cast<VkPhysicalDeviceVulkan11Properties*>(next);
            p11->maxMemoryAllocationSize = state.limits.max_allocation;
            p11->subgroupSize = state.limits.subgroup_size;
        }
    };
#ifdef VK_KHR_cooperative_matrix
    // the real ones are for the real size of subgroups
    state.get_coopmat = std::exchange(vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR, nullptr);
#endif
    vkGetDeviceProcAddr = get_address;
}

SimulatedLimits::~SimulatedLimits() {
    vkGetPhysicalDeviceProperties = state.get_properties;
    vkGetPhysicalDeviceProperties2 = state.get_properties2;
#ifdef VK_KHR_cooperative_matrix
    vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR = state.get_coopmat;
#endif
    vkGetDeviceProcAddr = state.get_address;
}

std::vector<std::string> SimulatedLimits::violations() const { return state.violations; }
size_t SimulatedLimits::pipelines() const { return state.pipelines; }
size_t SimulatedLimits::dispatches() const { return state.dispatches; }

}  // namespace gptoss::test
