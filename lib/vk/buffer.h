// Device memory with an address that kernels follow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "vk/device.h"

namespace gptoss::vk {

enum class Memory {
    Device,    // read and written by kernels; mapped as well where the device's memory is the host's
    Host,      // the host's memory, written by it and read by kernels: slow for them, and there is more of it
    Upload,    // host-visible, written by the host
    Readback,  // host-visible and cached where there is such, read by the host
};

class Buffer {
  public:
    Buffer() = default;
    // what names the buffer in the error when memory is short. size 0 gives an empty buffer.
    Buffer(const Device& device, uint64_t size, Memory memory, const std::string& what);
    ~Buffer();
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept;

    // The memory that a buffer of a size takes, bytes: more than the size.
    static uint64_t footprint(uint64_t size);

    uint64_t size() const { return size_; }
    uint64_t footprint() const { return footprint(size_); }
    VkBuffer handle() const { return buffer_; }
    VkDeviceAddress address() const { return address_; }
    // The mapping, coherent; NULL if the host cannot reach it.
    std::byte* data() const { return data_; }
    template <typename T>
    T* as() const {
        return reinterpret_cast<T*>(data_);
    }

  private:
    void release() noexcept;

    const Device* device_ = nullptr;
    VkBuffer buffer_ = VK_NULL_HANDLE;
    VkDeviceMemory memory_ = VK_NULL_HANDLE;
    VkDeviceAddress address_ = 0;
    uint64_t size_ = 0;
    uint64_t taken_ = 0;  // of the device's memory
    std::byte* data_ = nullptr;
};

}  // namespace gptoss::vk
