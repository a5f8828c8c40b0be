// Copies between device buffers and host memory, through a staging buffer of bounded size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vk/buffer.h"
#include "vk/commands.h"

namespace gptoss::vk {

class Transfer {
  public:
    // memory: Readback for read() alone, Upload for write() alone. most: bytes of all that will be copied, or more.
    Transfer(const Device& device, const Pipelines& pipelines, Memory memory, uint64_t most);

    // The host's memory is filled by finish(), or before.
    void read(const Buffer& from, uint64_t offset, uint64_t size, std::byte* to);
    // The device's memory is filled by finish(), or before; the host's may go at once.
    void write(const Buffer& to, uint64_t offset, uint64_t size, const std::byte* from);
    void finish();

  private:
    uint64_t make_room(uint64_t size);

    struct Read {
        uint64_t staged;
        uint64_t size;
        std::byte* to;
    };
    Buffer staging_;
    Commands commands_;
    uint64_t used_ = 0;
    std::vector<Read> reads_;
};

}  // namespace gptoss::vk
