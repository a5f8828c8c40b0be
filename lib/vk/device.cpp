#define VOLK_IMPLEMENTATION
#include "vk/device.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <span>

#include "base/platform.h"
#include "base/process.h"

namespace gptoss::vk {

void check(VkResult result, std::string_view call) {
    if (result >= VK_SUCCESS) return;
    const std::string what(call);
    switch (result) {
        case VK_ERROR_OUT_OF_HOST_MEMORY:
            throw Error(Status::InsufficientMemory, what + ": out of host memory");
        case VK_ERROR_OUT_OF_DEVICE_MEMORY:
            throw Error(Status::InsufficientMemory, what + ": out of device memory");
        case VK_ERROR_TOO_MANY_OBJECTS:
            throw Error(Status::InsufficientResources, what + ": too many objects");
        case VK_ERROR_DEVICE_LOST:
            throw Error(Status::DeviceLost, what + ": the device was lost");
        case VK_ERROR_INITIALIZATION_FAILED:
            throw Error(Status::UnsupportedSystem, what + ": the driver could not be initialized");
        case VK_ERROR_LAYER_NOT_PRESENT:
            throw Error(Status::UnsupportedSystem, what + ": a layer that is asked for is not installed");
        case VK_ERROR_EXTENSION_NOT_PRESENT:
        case VK_ERROR_FEATURE_NOT_PRESENT:
            throw Error(Status::UnsupportedSystem, what + ": the driver lacks what it said it has");
        default:
            throw Error(Status::UnsupportedSystem, what + ": Vulkan error " + std::to_string(result));
    }
}

namespace {

// What an enumerating function lists: enumerate(&count, nullptr) counts, and with an array fills in up to count of it.
// A list that has grown between the two is asked for again, a few times; one that has shrunk is as long as it is now.
template <typename T, typename F>
std::vector<T> list_of(const F& enumerate, std::string_view call, const T& blank = {}) {
    for (int tries = 8;; tries--) {
        uint32_t count = 0;
        check(enumerate(&count, nullptr), call);
        if (count == 0) return {};
        std::vector<T> list(count, blank);
        const VkResult result = enumerate(&count, list.data());
        check(result, call);
        list.resize(std::min<size_t>(count, list.size()), blank);
        if (result != VK_INCOMPLETE || tries == 1) return list;
    }
}

bool has_extension(const std::vector<VkExtensionProperties>& extensions, const char* name) {
    return std::any_of(extensions.begin(), extensions.end(),
                       [&](const auto& e) { return std::strcmp(e.extensionName, name) == 0; });
}

std::vector<VkExtensionProperties> instance_extensions() {
    return list_of<VkExtensionProperties>(
        [](uint32_t* count, VkExtensionProperties* list) {
            return vkEnumerateInstanceExtensionProperties(nullptr, count, list);
        },
        "vkEnumerateInstanceExtensionProperties");
}

// The instance while anything uses it. None of this has a destructor: handles may be released as late as at exit.
std::mutex instance_mutex;
VkInstance made = VK_NULL_HANDLE;
size_t users = 0;
std::atomic<unsigned> busy{0};          // threads that wait for the mutex or hold it
std::atomic<bool> lost_to_fork{false};  // the instance is the parent's, whose driver has no threads here

[[maybe_unused]] const int registered = platform::on_fork([] {
    if (busy > 0 || users > 0) lost_to_fork = true;
});

class Locked {
  public:
    Locked() {
        busy++;
        instance_mutex.lock();
    }
    ~Locked() {
        instance_mutex.unlock();
        busy--;
    }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
};

// NULL where there is no loader or no driver.
VkInstance make_instance() {
    // a loader that is open stays so, whatever became of the instance
    if (!vkGetInstanceProcAddr && volkInitialize() != VK_SUCCESS) return VK_NULL_HANDLE;
    uint32_t version = VK_API_VERSION_1_0;  // of a loader without the function
    if (vkEnumerateInstanceVersion) check(vkEnumerateInstanceVersion(&version), "vkEnumerateInstanceVersion");
    if (version < VK_API_VERSION_1_2) return VK_NULL_HANDLE;
    VkApplicationInfo app{VK_STRUCTURE_TYPE_APPLICATION_INFO};
    app.pEngineName = "libgptoss";
    app.apiVersion = VK_API_VERSION_1_2;
    VkInstanceCreateInfo create{VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
    create.pApplicationInfo = &app;
    // shows devices that lack parts of Vulkan, such as those over Metal
    const char* const portability = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
    if (has_extension(instance_extensions(), portability)) {
        create.flags = VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR;
        create.enabledExtensionCount = 1;
        create.ppEnabledExtensionNames = &portability;
    }
    VkInstance created = VK_NULL_HANDLE;
    const VkResult result = vkCreateInstance(&create, nullptr, &created);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER) return VK_NULL_HANDLE;  // a loader without any driver
    check(result, "vkCreateInstance");
    volkLoadInstanceOnly(created);
    return created;
}

void leave_instance(const void*) {
    if (lost_to_fork) return;
    const Locked locked;
    if (--users > 0) return;
    vkDestroyInstance(made, nullptr);
    made = VK_NULL_HANDLE;
}

// The process has one instance: its first user makes it, its last one destroys it and ends the driver's threads. Empty
// where there is no loader or no driver. Throws InvalidState in a process that was forked while there was one.
std::shared_ptr<const void> use_instance() {
    if (lost_to_fork) refuse_after_fork();
    VkInstance instance = VK_NULL_HANDLE;
    {
        const Locked locked;
        if (!made) made = make_instance();
        if (!made) return nullptr;
        instance = made;
        users++;
    }
    return {instance, leave_instance};  // which is called here, and takes the lock, where there is no memory for it
}

std::vector<VkExtensionProperties> device_extensions(VkPhysicalDevice physical) {
    return list_of<VkExtensionProperties>(
        [&](uint32_t* count, VkExtensionProperties* list) {
            return vkEnumerateDeviceExtensionProperties(physical, nullptr, count, list);
        },
        "vkEnumerateDeviceExtensionProperties");
}

[[maybe_unused]] constexpr uint32_t kAmd = 0x1002, kIntel = 0x8086, kApple = 0x106b, kQualcomm = 0x5143;

#ifdef VK_KHR_cooperative_matrix

// The shape that the kernels can use of those that the device has, the largest.
CoopmatShape coopmat_shape(VkPhysicalDevice physical, uint32_t vendor, uint32_t default_subgroup,
                           const VkPhysicalDeviceSubgroupSizeControlProperties& sizes) {
    if (!vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR) return {};
    const auto all = list_of<VkCooperativeMatrixPropertiesKHR>(
        [&](uint32_t* count, VkCooperativeMatrixPropertiesKHR* list) {
            return vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR(physical, count, list);
        },
        "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR", {VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR});
    CoopmatShape best;
    for (const auto& s : all) {
        const auto usable = [](uint32_t size) { return size == 8 || size == 16; };
        if (!usable(s.MSize) || !usable(s.NSize) || !usable(s.KSize) || s.AType != VK_COMPONENT_TYPE_FLOAT16_KHR ||
            s.BType != VK_COMPONENT_TYPE_FLOAT16_KHR || s.CType != VK_COMPONENT_TYPE_FLOAT32_KHR ||
            s.ResultType != VK_COMPONENT_TYPE_FLOAT32_KHR || s.scope != VK_SCOPE_SUBGROUP_KHR ||
            s.saturatingAccumulation)
            continue;
        if (s.MSize * s.NSize * s.KSize > best.m * best.n * best.k) best = {s.MSize, s.NSize, s.KSize, 0};
    }
    // AMD's units work on either size, and the smaller keeps more of a matrix in a lane's registers; Intel's have a
    // lane for each column
    const uint32_t wanted = vendor == kAmd ? 32 : vendor == kIntel ? best.n : default_subgroup;
    best.subgroup = wanted >= sizes.minSubgroupSize && wanted <= sizes.maxSubgroupSize ? wanted : default_subgroup;
    return best;
}
#endif

// Whether dot products of packed bytes are instructions. Where they are emulated they only cost registers, except on a
// CPU, which has no others.
bool has_integer_units(VkPhysicalDevice physical, VkPhysicalDeviceType type) {
    VkPhysicalDeviceShaderIntegerDotProductPropertiesKHR integer{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES_KHR};
    VkPhysicalDeviceProperties2 properties{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, &integer};
    vkGetPhysicalDeviceProperties2(physical, &properties);
    return integer.integerDotProduct4x8BitPackedSignedAccelerated || type == VK_PHYSICAL_DEVICE_TYPE_CPU;
}

uint32_t compute_queue_family(VkPhysicalDevice physical, uint32_t* timestamp_bits) {
    uint32_t count = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, nullptr);
    std::vector<VkQueueFamilyProperties> families(count);
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, families.data());
    for (uint32_t i = 0; i < count; i++)
        if (families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) {
            *timestamp_bits = families[i].timestampValidBits;
            return i;
        }
    return UINT32_MAX;
}

std::string hex(std::span<const uint8_t> bytes) {
    std::string text;
    for (const uint8_t byte : bytes)
        for (const int shift : {4, 0}) text += "0123456789abcdef"[byte >> shift & 15];
    return text;
}

std::string uuid_text(std::span<const uint8_t, VK_UUID_SIZE> uuid) {
    std::string text = hex(uuid);
    for (const size_t dash : {8, 13, 18, 23}) text.insert(dash, "-");
    return text;
}

std::string identity_of(const VkPhysicalDeviceProperties& basic, const VkPhysicalDeviceVulkan11Properties& p11) {
    return std::to_string(basic.vendorID) + " " + std::to_string(basic.deviceID) + " " +
           std::to_string(basic.driverVersion) + " " + std::to_string(basic.apiVersion) + " " +
           hex(basic.pipelineCacheUUID) + " " + hex(p11.deviceUUID) + " " + hex(p11.driverUUID);
}

DeviceInfo describe(VkPhysicalDevice physical, uint32_t index) {
    DeviceInfo info;
    info.index = index;
    info.physical = physical;
    VkPhysicalDeviceProperties basic{};
    vkGetPhysicalDeviceProperties(physical, &basic);
    info.name = basic.deviceName;
    info.type = basic.deviceType;
    if (basic.apiVersion < VK_API_VERSION_1_2) {
        info.unsupported = "it has Vulkan " + std::to_string(VK_API_VERSION_MAJOR(basic.apiVersion)) + "." +
                           std::to_string(VK_API_VERSION_MINOR(basic.apiVersion)) + ", 1.2 is needed";
        return info;
    }
    const auto extensions = device_extensions(physical);
    VkPhysicalDeviceVulkan11Properties p11{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES};
    VkPhysicalDeviceVulkan12Properties p12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES, &p11};
    VkPhysicalDeviceSubgroupSizeControlProperties sizes{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES};
    const bool asks_sizes = has_extension(extensions, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    if (asks_sizes) p11.pNext = &sizes;
    VkPhysicalDeviceMaintenance4PropertiesKHR maintenance{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES_KHR};
    maintenance.maxBufferSize = UINT64_MAX;
    if (has_extension(extensions, VK_KHR_MAINTENANCE_4_EXTENSION_NAME)) {
        maintenance.pNext = p11.pNext;
        p11.pNext = &maintenance;
    }
    VkPhysicalDeviceProperties2 properties{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, &p12};
    vkGetPhysicalDeviceProperties2(physical, &properties);
    info.driver = std::string(p12.driverName) + " " + p12.driverInfo;
    info.uuid = uuid_text(p11.deviceUUID);
    info.identity = identity_of(basic, p11);
    info.subgroup_size = p11.subgroupSize;
    constexpr auto kHoneykrisp = static_cast<VkDriverId>(26);  // older headers lack its name
    info.few_registers = basic.vendorID == kQualcomm || basic.vendorID == kApple || p12.driverID == kHoneykrisp;
    // a buffer is a little larger than what was asked for, and kernels count its 4-byte words in 32 bits
    info.max_allocation = std::min<uint64_t>({p11.maxMemoryAllocationSize, maintenance.maxBufferSize, 1ull << 34});
    info.max_allocation -= std::min<uint64_t>(info.max_allocation, 1 << 16);
    info.shared_memory = basic.limits.maxComputeSharedMemorySize;
    info.max_workgroup = std::min(basic.limits.maxComputeWorkGroupInvocations, basic.limits.maxComputeWorkGroupSize[0]);
    info.max_groups =
        *std::min_element(basic.limits.maxComputeWorkGroupCount, basic.limits.maxComputeWorkGroupCount + 3);

    VkPhysicalDeviceVulkan12Features f12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    VkPhysicalDeviceFeatures2 features{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &f12};
    VkPhysicalDeviceSubgroupSizeControlFeatures size_control{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES};
    if (asks_sizes) f12.pNext = &size_control;
#ifdef VK_KHR_cooperative_matrix
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coopmat{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    const bool asks_coopmat = has_extension(extensions, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    coopmat.pNext = f12.pNext;
    if (asks_coopmat) f12.pNext = &coopmat;
#endif
    VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR integer_dot{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR, f12.pNext, VK_FALSE};
    if (has_extension(extensions, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME)) f12.pNext = &integer_dot;
    vkGetPhysicalDeviceFeatures2(physical, &features);
    info.integer_dot = integer_dot.shaderIntegerDotProduct && has_integer_units(physical, info.type);
    const auto subgroup_needs =
        VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_ARITHMETIC_BIT | VK_SUBGROUP_FEATURE_BALLOT_BIT;
    uint32_t timestamp_bits = 0;
    info.queue_family = compute_queue_family(physical, &timestamp_bits);
    if (timestamp_bits) info.timestamp_period = basic.limits.timestampPeriod;
    if (!f12.bufferDeviceAddress)
        info.unsupported = "it lacks bufferDeviceAddress";
    else if ((p11.subgroupSupportedOperations & subgroup_needs) != subgroup_needs ||
             !(p11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT))
        info.unsupported = "it lacks subgroup arithmetic or ballots in compute shaders";
    else if (info.queue_family == UINT32_MAX)
        info.unsupported = "it has no compute queue";
    else if (info.subgroup_size < 4)
        info.unsupported = "its subgroups have fewer than 4 invocations";
    else if (info.max_workgroup < 128)
        info.unsupported = "its workgroups hold fewer than 128 invocations";
    info.sizes_subgroups = size_control.subgroupSizeControl && size_control.computeFullSubgroups &&
                           sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT;
    if (!info.sizes_subgroups) sizes.minSubgroupSize = sizes.maxSubgroupSize = info.subgroup_size;
#ifdef VK_KHR_cooperative_matrix
    if (asks_coopmat && coopmat.cooperativeMatrix && f12.shaderFloat16 && f12.vulkanMemoryModel &&
        f12.vulkanMemoryModelDeviceScope)
        info.coopmat = coopmat_shape(physical, basic.vendorID, info.subgroup_size, sizes);
#endif

    return info;
}

int rank(VkPhysicalDeviceType type) {
    switch (type) {
        case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
            return 4;
        case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
            return 3;
        case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
            return 2;
        case VK_PHYSICAL_DEVICE_TYPE_OTHER:
            return 1;
        default:
            return 0;
    }
}

// ASCII alone, whatever the locale.
std::string lower_case(std::string_view text) {
    std::string lower(text);
    for (char& c : lower)
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    return lower;
}

DeviceInfo find_device(const char* wanted) {
    const auto devices = enumerate_devices();
    if (devices.empty())
        throw Error(Status::UnsupportedSystem, "no Vulkan device: there is no Vulkan loader, or no driver it can use");
    if (!wanted || !*wanted)
        return *std::max_element(devices.begin(), devices.end(), [](const DeviceInfo& a, const DeviceInfo& b) {
            const auto key = [](const DeviceInfo& d) {
                return std::tuple(d.unsupported.empty(), rank(d.type), d.memory_size);
            };
            return key(a) < key(b);
        });
    const std::string_view text(wanted);
    const auto refuse = [&](const std::string& why) {
        throw Error(Status::InvalidArgument, "no Vulkan device \"" + std::string(text) + "\": " + why);
    };
    const std::string there_are = devices.size() == 1 ? "there is one, device 0, \"" + devices[0].name + "\""
                                                      : "there are " + std::to_string(devices.size()) +
                                                            ", from device 0, \"" + devices[0].name + "\"";
    if (text.find_first_not_of("0123456789") == text.npos) {  // digits are never a part of a name
        size_t index = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
        if (error != std::errc() || index >= devices.size()) refuse(there_are);
        return devices[index];
    }
    const std::string name = lower_case(text);
    for (const DeviceInfo& d : devices)
        if (!d.uuid.empty() && (name == d.uuid || name == "gpu-" + d.uuid)) return d;
    for (const DeviceInfo& d : devices)
        if (lower_case(d.name).find(name) != std::string::npos) return d;
    refuse("no name has this part and no UUID is this; " + there_are);
    return {};
}

}  // namespace

void query_memory(DeviceInfo& device) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 memory{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    const bool has_budget = has_extension(device_extensions(device.physical), VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    if (has_budget) memory.pNext = &budget;
    vkGetPhysicalDeviceMemoryProperties2(device.physical, &memory);
    device.memory_size = device.memory_available = 0;
    for (uint32_t h = 0; h < memory.memoryProperties.memoryHeapCount; h++) {
        const VkMemoryHeap& heap = memory.memoryProperties.memoryHeaps[h];
        if (!(heap.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) || heap.size < device.memory_size) continue;
        device.memory_size = heap.size;
        device.memory_available = heap.size;
        if (has_budget)
            device.memory_available = budget.heapBudget[h] - std::min(budget.heapUsage[h], budget.heapBudget[h]);
    }
    const uint64_t host = platform::memory_available();
    if (device.type == VK_PHYSICAL_DEVICE_TYPE_CPU && host != UINT64_MAX) {
        // its memory is the host's, whatever small heap an old driver names
        device.memory_available = std::max(device.memory_available, host);
        device.memory_size = std::max(device.memory_size, device.memory_available);
    }
}

std::vector<DeviceInfo> enumerate_devices(bool memory) {
    const platform::NoFileSizeSignal none;  // drivers open caches of their own
    const std::shared_ptr<const void> instance = use_instance();
    if (!instance) return {};
    const auto handles = list_of<VkPhysicalDevice>(
        [&](uint32_t* count, VkPhysicalDevice* list) {
            const VkResult result = vkEnumeratePhysicalDevices(made, count, list);
            if (result != VK_ERROR_INITIALIZATION_FAILED) return result;
            *count = 0;  // what the loader answers without any driver
            return VK_SUCCESS;
        },
        "vkEnumeratePhysicalDevices");
    std::vector<DeviceInfo> devices;
    for (uint32_t i = 0; i < handles.size(); i++) {
        devices.push_back(describe(handles[i], i));
        devices.back().instance = instance;
    }
    if (memory)
        for (DeviceInfo& device : devices) query_memory(device);
    return devices;
}

DeviceInfo choose_device(const char* wanted) {
    const DeviceInfo device = find_device(wanted);
    if (!device.unsupported.empty())
        throw Error(Status::UnsupportedSystem,
                    "device \"" + device.name + "\" cannot run gpt-oss: " + device.unsupported);
    return device;
}

Device::Device(const DeviceInfo& info) : info_(info) {
    const platform::NoFileSizeSignal none;  // drivers open caches of their own
    const float priority = 1;
    VkDeviceQueueCreateInfo queue{VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
    queue.queueFamilyIndex = info.queue_family;
    queue.queueCount = 1;
    queue.pQueuePriorities = &priority;
    VkPhysicalDeviceVulkan12Features f12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    f12.bufferDeviceAddress = VK_TRUE;
    std::vector<const char*> extensions;
#ifdef VK_KHR_cooperative_matrix
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coopmat{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    coopmat.cooperativeMatrix = VK_TRUE;
    if (info.coopmat.m) {
        extensions.push_back(VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
        f12.shaderFloat16 = VK_TRUE;
        f12.vulkanMemoryModel = VK_TRUE;
        f12.vulkanMemoryModelDeviceScope = VK_TRUE;  // atomics of kernels have that scope
        f12.pNext = &coopmat;
    }
#endif
    VkPhysicalDeviceSubgroupSizeControlFeatures sizes{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES};
    sizes.subgroupSizeControl = sizes.computeFullSubgroups = VK_TRUE;
    if (info.sizes_subgroups) {
        extensions.push_back(VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
        sizes.pNext = f12.pNext;
        f12.pNext = &sizes;
    }
    VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR integer_dot{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR, f12.pNext, VK_TRUE};
    if (info.integer_dot) {
        extensions.push_back(VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
        f12.pNext = &integer_dot;
    }
    // a device that has it must be asked for it; kernels use nothing that it leaves out
    constexpr const char* kPortabilitySubset = "VK_KHR_portability_subset";
    if (has_extension(device_extensions(info.physical), kPortabilitySubset)) extensions.push_back(kPortabilitySubset);
    VkDeviceCreateInfo create{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, &f12};
    create.queueCreateInfoCount = 1;
    create.pQueueCreateInfos = &queue;
    create.enabledExtensionCount = static_cast<uint32_t>(extensions.size());
    create.ppEnabledExtensionNames = extensions.data();
    const std::string what = "vkCreateDevice for \"" + info.name + "\"";
    check(vkCreateDevice(info.physical, &create, nullptr, &device_), what);
    volkLoadDeviceTable(&vk, device_);
    // A driver that has run stays loaded: not all of them survive being unloaded, and most take long to load.
    platform::keep_loaded(reinterpret_cast<void (*)()>(vk.vkQueueSubmit));
    vk.vkGetDeviceQueue(device_, info.queue_family, 0, &queue_);
    vkGetPhysicalDeviceMemoryProperties(info.physical, &memory_);
}

Device::~Device() {
    vk.vkDeviceWaitIdle(device_);
    vk.vkDestroyDevice(device_, nullptr);
}

uint64_t Device::available() const {
    if (budget_) return budget_ - std::min(allocated(), budget_);
    DeviceInfo now = info_;
    query_memory(now);
    return now.memory_available;
}

void Device::take(uint64_t bytes, const std::string& what) const {
    const uint64_t before = allocated_.fetch_add(bytes);
    if (!budget_ || before + bytes <= budget_) return;
    allocated_ -= bytes;
    throw Error(Status::InsufficientMemory, what + " needs " + std::to_string(bytes) +
                                                " bytes of device memory: of the budget of " + std::to_string(budget_) +
                                                " bytes " + std::to_string(before) + " are taken");
}

void Device::submit(VkCommandBuffer commands, VkFence fence) const {
    VkSubmitInfo submit{VK_STRUCTURE_TYPE_SUBMIT_INFO};
    submit.commandBufferCount = 1;
    submit.pCommandBuffers = &commands;
    std::lock_guard lock(queue_mutex_);
    check(vk.vkQueueSubmit(queue_, 1, &submit, fence), "vkQueueSubmit");
}

}  // namespace gptoss::vk
