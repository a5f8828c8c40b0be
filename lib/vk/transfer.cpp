#include "vk/transfer.h"

#include <algorithm>
#include <cstring>

namespace gptoss::vk {

namespace {
constexpr uint64_t kStaging = 16 << 20;  // enough that waiting for each fill costs little
}

Transfer::Transfer(const Device& device, const Pipelines& pipelines, Memory memory, uint64_t most)
    : staging_(device, std::min(most, kStaging), memory, "staging"), commands_(device, pipelines) {}

// Room for a piece of at most `size` bytes, at used_; returns how many.
uint64_t Transfer::make_room(uint64_t size) {
    if (used_ == staging_.size()) finish();
    if (used_ == 0) {
        commands_.begin();
        commands_.barrier();
    }
    return std::min(size, staging_.size() - used_);
}

void Transfer::read(const Buffer& from, uint64_t offset, uint64_t size, std::byte* to) {
    while (size > 0) {
        const uint64_t n = make_room(size);
        commands_.copy(from, offset, staging_, used_, n);
        reads_.push_back({used_, n, to});
        used_ += n, offset += n, to += n, size -= n;
    }
}

void Transfer::write(const Buffer& to, uint64_t offset, uint64_t size, const std::byte* from) {
    while (size > 0) {
        const uint64_t n = make_room(size);
        std::memcpy(staging_.data() + used_, from, n);
        commands_.copy(staging_, used_, to, offset, n);
        used_ += n, offset += n, from += n, size -= n;
    }
}

void Transfer::finish() {
    if (used_ == 0) return;
    commands_.finish();
    for (const Read& read : reads_) std::memcpy(read.to, staging_.data() + read.staged, read.size);
    reads_.clear();
    used_ = 0;
}

}  // namespace gptoss::vk
