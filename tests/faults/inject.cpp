#include "inject.h"

#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>
#include <volk.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string_view>
#include <tuple>

namespace gptoss::test::inject {

namespace {

enum Scope : int { kTest, kLibrary, kDriver };
thread_local int scope = kTest;

std::atomic<Kind> armed_kind{Kind::DeviceLost};
std::atomic<bool> armed{false};
std::atomic<uint64_t> fails_at{0}, seen{0};
std::atomic<bool> gone{false};  // a device that is lost for good

// Whether this opportunity is the one that fails.
bool fails(Kind kind) {
    if (!armed.load(std::memory_order_relaxed) || armed_kind != kind || scope != kLibrary) return false;
    return ++seen == fails_at;
}

bool fails_to_allocate() {
    if (fails(Kind::Allocation)) return true;
    fails(Kind::NoMemory);
    return armed.load(std::memory_order_relaxed) && armed_kind == Kind::NoMemory && scope == kLibrary && fails_at > 0 &&
           seen >= fails_at;
}

std::atomic<int64_t> blocks{0};
std::atomic<bool> loader_hidden{false};
const char* armed_function = "";
int armed_result = 0;

struct Driver {
    Driver() : before(scope) { scope = kDriver; }
    ~Driver() { scope = before; }
    int before;
};

// How many objects each call has made, less those destroyed. Fixed, so that counting allocates nothing.
struct Live {
    const char* name;
    std::atomic<int64_t> count{0};
};
Live live[] = {{"Device"},    {"Buffer"},       {"Memory"},           {"Fence"},         {"CommandPool"},
               {"QueryPool"}, {"ShaderModule"}, {"ComputePipelines"}, {"PipelineCache"}, {"PipelineLayout"}};

Live* find_live(std::string_view name) {
    if (name == "Pipeline") name = "ComputePipelines";
    for (Live& l : live)
        if (name == l.name) return &l;
    return nullptr;
}

// What a call can fail with, by the specification.
VkResult failure_of(std::string_view name) {
    if (name == armed_function && armed_result < 0 && fails(Kind::Result)) return static_cast<VkResult>(armed_result);
    const bool waits = name == "vkWaitForFences" || name == "vkDeviceWaitIdle";
    const bool loses = waits || name == "vkQueueSubmit" || name == "vkCreateDevice" || name == "vkGetQueryPoolResults";
    if (gone && loses && name != "vkCreateDevice") return VK_ERROR_DEVICE_LOST;
    if (loses && fails(Kind::DeviceLost)) return VK_ERROR_DEVICE_LOST;
    if (loses && fails(Kind::DeviceGone)) {
        gone = name != "vkCreateDevice";
        return VK_ERROR_DEVICE_LOST;
    }
    if (name == "vkWaitForFences" && fails(Kind::Timeout)) return VK_TIMEOUT;
    if (fails(Kind::HostMemory)) return VK_ERROR_OUT_OF_HOST_MEMORY;
    if (!name.starts_with("vkEnumerate") && fails(Kind::DeviceMemory)) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    return VK_SUCCESS;
}

// The function of the driver behind Tag, replaced by call.
template <typename Tag, typename Function>
struct Wrapper;
template <typename Tag, typename R, typename... A>
struct Wrapper<Tag, R(VKAPI_PTR*)(A...)> {
    static inline R(VKAPI_PTR* real)(A...) = nullptr;

    static VKAPI_ATTR R VKAPI_CALL call(A... arguments) {
        constexpr std::string_view name = Tag::name;
        if constexpr (std::is_same_v<R, VkResult>) {
            const VkResult failure = failure_of(name);
            if (failure != VK_SUCCESS) {
                // what runs on a lost device ends; what is waited for without success goes on
                if (failure == VK_ERROR_DEVICE_LOST && name == "vkWaitForFences") real(arguments...);
                return failure;
            }
            VkResult result;
            {
                const Driver driver;
                result = real(arguments...);
            }
            if (uint32_t* const listed = length_of_list(arguments...))
                if (name == armed_function && armed_result > 0 && *listed > 0 && fails(Kind::Result)) {
                    --*listed;
                    return armed_result == kShrinks ? VK_SUCCESS : static_cast<VkResult>(armed_result);
                }
            if (result == VK_SUCCESS) count(name, 1);
            return result;
        } else {
            if constexpr (name.starts_with("vkDestroy") || name.starts_with("vkFree"))
                if (named(arguments...)) count(name, -1);
            if (name == "vkDestroyDevice") gone = false;
            const Driver driver;
            return real(arguments...);
        }
    }

  private:
    static void count(std::string_view name, int change) {
        for (const std::string_view verb : {"vkCreate", "vkAllocate", "vkDestroy", "vkFree"})
            if (name.starts_with(verb))
                if (Live* l = find_live(name.substr(verb.size()))) l->count += change;
    }
    // The count before a list that is to be filled in, the last two arguments; nullptr if there is none.
    static uint32_t* length_of_list(const A&... arguments) {
        const auto all = std::tie(arguments...);
        if constexpr (sizeof...(A) >= 3) {
            using Count = std::tuple_element_t<sizeof...(A) - 2, std::tuple<A...>>;
            if constexpr (std::is_same_v<Count, uint32_t*>)
                if (std::get<sizeof...(A) - 1>(all)) return std::get<sizeof...(A) - 2>(all);
        }
        return nullptr;
    }
    // Whether the object to destroy is any: the second argument, or the first and only one.
    static bool named(const A&... arguments) {
        const auto all = std::tie(arguments...);
        if constexpr (sizeof...(A) == 2) return std::get<0>(all) != VK_NULL_HANDLE;
        if constexpr (sizeof...(A) == 3) return std::get<1>(all) != VK_NULL_HANDLE;
        return false;
    }
};

// clang-format off
#define FUNCTIONS_OF_A_DEVICE(X) \
    X(vkAllocateCommandBuffers) X(vkAllocateMemory) X(vkBeginCommandBuffer) X(vkBindBufferMemory) \
    X(vkCmdBindPipeline) X(vkCmdCopyBuffer) X(vkCmdDispatch) X(vkCmdFillBuffer) X(vkCmdPipelineBarrier) \
    X(vkCmdPushConstants) X(vkCmdResetQueryPool) X(vkCmdUpdateBuffer) X(vkCmdWriteTimestamp) X(vkCreateBuffer) \
    X(vkCreateCommandPool) X(vkCreateComputePipelines) X(vkCreateFence) X(vkCreatePipelineCache) \
    X(vkCreatePipelineLayout) X(vkCreateQueryPool) X(vkCreateShaderModule) X(vkDestroyBuffer) \
    X(vkDestroyCommandPool) X(vkDestroyDevice) X(vkDestroyFence) X(vkDestroyPipeline) X(vkDestroyPipelineCache) \
    X(vkDestroyPipelineLayout) X(vkDestroyQueryPool) X(vkDestroyShaderModule) X(vkDeviceWaitIdle) \
    X(vkEndCommandBuffer) X(vkFreeMemory) X(vkGetBufferDeviceAddress) X(vkGetBufferMemoryRequirements) \
    X(vkGetDeviceQueue) X(vkGetPipelineCacheData) X(vkGetQueryPoolResults) X(vkMapMemory) X(vkQueueSubmit) \
    X(vkResetCommandPool) X(vkResetFences) X(vkWaitForFences)
#define FUNCTIONS_OF_THE_INSTANCE(X) \
    X(vkCreateDevice) X(vkDestroyInstance) X(vkEnumerateDeviceExtensionProperties) X(vkEnumeratePhysicalDevices) \
    X(vkGetPhysicalDeviceFeatures2) X(vkGetPhysicalDeviceMemoryProperties) X(vkGetPhysicalDeviceMemoryProperties2) \
    X(vkGetPhysicalDeviceProperties) X(vkGetPhysicalDeviceProperties2) X(vkGetPhysicalDeviceQueueFamilyProperties)
// clang-format on

#define TAG(function)                                       \
    struct Tag_##function {                                 \
        static constexpr std::string_view name = #function; \
    };
FUNCTIONS_OF_A_DEVICE(TAG)
FUNCTIONS_OF_THE_INSTANCE(TAG)
#define FUNCTIONS_OF_THE_LOADER(X) \
    X(vkCreateInstance) X(vkEnumerateInstanceExtensionProperties) X(vkEnumerateInstanceVersion)
FUNCTIONS_OF_THE_LOADER(TAG)
#ifdef VK_KHR_cooperative_matrix
TAG(vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)
#endif

PFN_vkGetDeviceProcAddr get_device_proc_addr;
PFN_vkGetInstanceProcAddr get_instance_proc_addr;

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL wrapped_device_proc_addr(VkDevice device, const char* name) {
    const Driver driver;
    const PFN_vkVoidFunction function = get_device_proc_addr(device, name);
    if (!function) return nullptr;
#define WRAP_IF_NAMED(f)                                       \
    if (std::strcmp(name, #f) == 0) {                          \
        using W = Wrapper<Tag_##f, PFN_##f>;                   \
        W::real = reinterpret_cast<PFN_##f>(function);         \
        return reinterpret_cast<PFN_vkVoidFunction>(&W::call); \
    }
    FUNCTIONS_OF_A_DEVICE(WRAP_IF_NAMED)
    return function;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL wrapped_instance_proc_addr(VkInstance instance, const char* name) {
    const Driver driver;
    const PFN_vkVoidFunction function = get_instance_proc_addr(instance, name);
    if (!function) return nullptr;
    FUNCTIONS_OF_THE_INSTANCE(WRAP_IF_NAMED)
    FUNCTIONS_OF_THE_LOADER(WRAP_IF_NAMED)
#ifdef VK_KHR_cooperative_matrix
    WRAP_IF_NAMED(vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)
#endif
    if (std::strcmp(name, "vkGetDeviceProcAddr") == 0) {
        get_device_proc_addr = reinterpret_cast<PFN_vkGetDeviceProcAddr>(function);
        return reinterpret_cast<PFN_vkVoidFunction>(&wrapped_device_proc_addr);
    }
    return function;
}

}  // namespace

void install() {
    if (volkInitialize() != VK_SUCCESS) return;
    get_instance_proc_addr = vkGetInstanceProcAddr;
    volkInitializeCustom(wrapped_instance_proc_addr);
}

void hide_loader(bool hidden) { loader_hidden = hidden; }

void arm(Kind kind, uint64_t n) {
    seen = 0;
    fails_at = n;
    armed_kind = kind;
    armed = true;
}

void arm_result(const char* function, int result, uint64_t n) {
    armed_function = function;
    armed_result = result;
    arm(Kind::Result, n);
}

uint64_t disarm() {
    armed = false;
    return seen;
}

bool fired() { return fails_at > 0 && seen >= fails_at; }

InLibrary::InLibrary() : before_(scope) { scope = kLibrary; }
InLibrary::~InLibrary() { scope = before_; }
InTest::InTest() : before_(scope) { scope = kTest; }
InTest::~InTest() { scope = before_; }

int64_t live_blocks() { return blocks; }

int64_t live_objects() {
    int64_t sum = 0;
    for (const Live& l : live) sum += l.count;
    return sum;
}

std::string live_objects_text() {
    std::string text;
    for (const Live& l : live)
        if (l.count != 0) text += std::string(text.empty() ? "" : ", ") + l.name + " " + std::to_string(l.count);
    return text.empty() ? "none" : text;
}

}  // namespace gptoss::test::inject

using namespace gptoss::test::inject;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// Sanitizers have a malloc of their own: only operator new fails, every form of it with its own delete.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
    return fails_to_allocate() ? nullptr : std::malloc(size ? size : 1);
}
void* operator new(size_t size) {
    if (void* const memory = operator new(size, std::nothrow)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#else
// operator new calls malloc.
extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void __libc_free(void* memory);

void* malloc(size_t size) {
    void* const memory = fails_to_allocate() ? nullptr : __libc_malloc(size);
    memory ? void(blocks++) : void(errno = ENOMEM);
    return memory;
}
void* calloc(size_t count, size_t size) {
    void* const memory = fails_to_allocate() ? nullptr : __libc_calloc(count, size);
    memory ? void(blocks++) : void(errno = ENOMEM);
    return memory;
}
void* realloc(void* old, size_t size) {
    if (!old) return malloc(size);
    if (size > 0 && fails_to_allocate()) {
        errno = ENOMEM;
        return nullptr;
    }
    if (size == 0) blocks--;
    return __libc_realloc(old, size);
}
void free(void* memory) {
    if (memory) blocks--;
    __libc_free(memory);
}
}
#endif

extern "C" {

// Visible, for the Vulkan loader to call it: a driver that crashes in its own constructors is nothing to find here.
__attribute__((visibility("default"))) void* dlopen(const char* file, int mode) {
    using Open = void* (*)(const char*, int);
    static const auto real = reinterpret_cast<Open>(dlsym(RTLD_NEXT, "dlopen"));
    if (loader_hidden && file && std::strstr(file, "libvulkan.so")) return nullptr;
    const Driver driver;
    return real(file, mode);
}

// A thread belongs to whom it was made by. Visible, for the standard library to call it.
__attribute__((visibility("default"))) int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                                          void* (*start)(void*), void* argument) {
    using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
    static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
    struct Start {
        void* (*start)(void*);
        void* argument;
        int scope;
    };
    if (fails(Kind::Thread)) return EAGAIN;
    const int mine = scope;
    const Driver driver;  // what a thread itself takes
    auto* const given = static_cast<Start*>(std::malloc(sizeof(Start)));
    if (!given) return EAGAIN;
    *given = {start, argument, mine};
    const auto run = [](void* start_of) -> void* {
        const Start s = *static_cast<Start*>(start_of);
        std::free(start_of);
        scope = s.scope;
        return s.start(s.argument);
    };
    const int result = create(thread, attributes, run, given);
    if (result != 0) std::free(given);
    return result;
}

ssize_t pread(int file, void* to, size_t size, off_t offset) {
    using Read = ssize_t (*)(int, void*, size_t, off_t);
    static const auto real = reinterpret_cast<Read>(dlsym(RTLD_NEXT, "pread"));
    if (!fails(Kind::Read)) return real(file, to, size, offset);
    switch (fails_at % 4) {
        case 0:
            errno = EIO;
            return -1;
        case 1:
            return 0;
        case 2:
            errno = EINTR;
            return -1;
        default:
            return real(file, to, size - size / 2, offset);
    }
}
}
