#include "vk/buffer.h"

#include <utility>

namespace gptoss::vk {

namespace {

constexpr VkMemoryPropertyFlags kLocal = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
constexpr VkMemoryPropertyFlags kHost = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
constexpr VkMemoryPropertyFlags kCached = kHost | VK_MEMORY_PROPERTY_HOST_CACHED_BIT;

// Room behind every buffer. llvmpipe ends a loop by masking the lanes off, and then runs its body once more; that of
// Mesa 26 does not mask a load whose address is the same for all lanes. Pipelines' loops step by at most 4 kB.
constexpr uint64_t kSlack = 16 << 10;

// The type with the flags, without the others, and with the largest heap (a card's small window of mapped memory
// loses); UINT32_MAX if there is none.
uint32_t find_type(const VkPhysicalDeviceMemoryProperties& memory, uint32_t allowed, VkMemoryPropertyFlags flags,
                   VkMemoryPropertyFlags without = 0) {
    uint32_t best = UINT32_MAX;
    const auto heap_size = [&](uint32_t t) { return memory.memoryHeaps[memory.memoryTypes[t].heapIndex].size; };
    for (uint32_t t = 0; t < memory.memoryTypeCount; t++)
        if ((allowed >> t & 1) && (memory.memoryTypes[t].propertyFlags & (flags | without)) == flags &&
            (best == UINT32_MAX || heap_size(t) > heap_size(best)))
            best = t;
    return best;
}

uint32_t choose_type(const VkPhysicalDeviceMemoryProperties& memory, uint32_t allowed, Memory use) {
    const auto heap_of = [&](uint32_t t) { return memory.memoryTypes[t].heapIndex; };
    if (use == Memory::Device) {
        const uint32_t local = find_type(memory, allowed, kLocal);
        const uint32_t mapped = find_type(memory, allowed, kLocal | kHost);
        if (mapped != UINT32_MAX && local != UINT32_MAX && heap_of(mapped) == heap_of(local)) return mapped;
        return local;
    }
    if (use == Memory::Host) {
        const uint32_t host = find_type(memory, allowed, kHost, kLocal);
        return host != UINT32_MAX ? host : find_type(memory, allowed, kHost);
    }
    const uint32_t cached = find_type(memory, allowed, kCached);
    return use == Memory::Readback && cached != UINT32_MAX ? cached : find_type(memory, allowed, kHost);
}

}  // namespace

uint64_t Buffer::footprint(uint64_t size) {
    constexpr uint64_t page = 4096;  // as much as drivers round up to
    return size == 0 ? 0 : (size + kSlack + page - 1) / page * page;
}

Buffer::Buffer(const Device& device, uint64_t size, Memory memory, const std::string& what)
    : device_(&device), size_(size) {
    if (size == 0) return;
    if (size > device.info().max_allocation)
        throw Error(Status::InsufficientResources, what + " needs one allocation of " + std::to_string(size) +
                                                       " bytes; the device allows " +
                                                       std::to_string(device.info().max_allocation));
    try {
        VkBufferCreateInfo create{VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
        create.size = footprint(size);
        create.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                       VK_BUFFER_USAGE_TRANSFER_DST_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT;
        check(device.vk.vkCreateBuffer(device.handle(), &create, nullptr, &buffer_), what);
        VkMemoryRequirements needs{};
        device.vk.vkGetBufferMemoryRequirements(device.handle(), buffer_, &needs);
        const uint32_t type = choose_type(device.memory(), needs.memoryTypeBits, memory);
        if (type == UINT32_MAX)
            throw Error(Status::UnsupportedSystem, what + ": the device has no memory of that kind");
        if (memory == Memory::Device) {
            device.take(needs.size, what);
            taken_ = needs.size;
        }
        VkMemoryAllocateFlagsInfo flags{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO};
        flags.flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT;
        VkMemoryAllocateInfo allocate{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, &flags};
        allocate.allocationSize = needs.size;
        allocate.memoryTypeIndex = type;
        check(device.vk.vkAllocateMemory(device.handle(), &allocate, nullptr, &memory_),
              what + " (" + std::to_string(size) + " bytes)");
        check(device.vk.vkBindBufferMemory(device.handle(), buffer_, memory_, 0), what);
        VkBufferDeviceAddressInfo info{VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO};
        info.buffer = buffer_;
        address_ = device.vk.vkGetBufferDeviceAddress(device.handle(), &info);
        if (device.memory().memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) {
            void* mapped = nullptr;
            check(device.vk.vkMapMemory(device.handle(), memory_, 0, VK_WHOLE_SIZE, 0, &mapped), what);
            data_ = static_cast<std::byte*>(mapped);
        }
    } catch (...) {
        release();
        throw;
    }
}

Buffer::~Buffer() { release(); }

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    if (this == &other) return *this;
    release();
    device_ = std::exchange(other.device_, nullptr);
    buffer_ = std::exchange(other.buffer_, VK_NULL_HANDLE);
    memory_ = std::exchange(other.memory_, VK_NULL_HANDLE);
    address_ = std::exchange(other.address_, 0);
    size_ = std::exchange(other.size_, 0);
    taken_ = std::exchange(other.taken_, 0);
    data_ = std::exchange(other.data_, nullptr);
    return *this;
}

void Buffer::release() noexcept {
    if (!device_) return;
    if (buffer_) device_->vk.vkDestroyBuffer(device_->handle(), buffer_, nullptr);
    if (memory_) device_->vk.vkFreeMemory(device_->handle(), memory_, nullptr);
    device_->give_back(taken_);
    taken_ = 0;
    buffer_ = VK_NULL_HANDLE;
    memory_ = VK_NULL_HANDLE;
    device_ = nullptr;
}

}  // namespace gptoss::vk
