#include "forward/kv_layout.h"

#include <algorithm>
#include <cstring>

namespace gptoss::model {

namespace {

constexpr uint32_t kUndone = 32;  // decode steps that may be undone

}  // namespace

KvLayout::KvLayout(const io::Config& config, bool kv_f16)
    : sliding(config.sliding.begin(), config.sliding.end()),
      n_sliding(static_cast<uint32_t>(std::count(sliding.begin(), sliding.end(), true))),
      n_full(config.n_layers - n_sliding),
      n_kv_heads(config.n_kv_heads),
      window(config.window),
      max_segments((config.max_context + kSegmentSlots - 1) / kSegmentSlots),
      slot_bytes(uint64_t{config.n_kv_heads} * HEAD_DIM * (kv_f16 ? 2 : 4)),
      ring_slot_bytes(uint64_t{config.n_kv_heads} * HEAD_DIM * 4) {}

uint32_t KvLayout::ring_slots(uint32_t max_tokens, uint32_t max_batch) const {
    return static_cast<uint32_t>(
        std::min<uint64_t>(max_tokens + uint64_t{kUndone}, uint64_t{window} + max_batch + kUndone));
}

// The caches, the ring's address, the segments' addresses.
uint32_t KvTables::stride_of(const KvLayout& layout) {
    const uint64_t bytes = layout.sliding.size() * sizeof(args::Cache) + 8ull * (1 + layout.max_segments);
    return static_cast<uint32_t>((bytes + sizeof(args::Cache) - 1) / sizeof(args::Cache));
}

uint64_t KvTables::footprint(const KvLayout& layout, uint32_t count) {
    return vk::Buffer::footprint(count * stride_of(layout) * sizeof(args::Cache));
}

KvTables::KvTables(const vk::Device& device, const KvLayout& layout, uint32_t count)
    : layout_(layout),
      stride_(stride_of(layout)),
      buffer_(device, count * stride_ * sizeof(args::Cache), vk::Memory::Device, "tables of keys and values") {}

void KvTables::record(vk::Commands& commands, uint32_t index, uint64_t ring, uint32_t ring_slots,
                      std::span<const uint64_t> segments) const {
    const uint64_t at = sequence(index) * sizeof(args::Cache), address = buffer_.address() + at;
    const uint64_t ring_list = address + layout_.sliding.size() * sizeof(args::Cache), segment_list = ring_list + 8;
    std::vector<args::Cache> caches;
    uint32_t ring_row = 0, segment_row = 0;  // each part follows the one before
    for (const bool sliding : layout_.sliding) {
        uint32_t& row = sliding ? ring_row : segment_row;
        const uint32_t slots = sliding ? ring_slots : kSegmentSlots, part = slots * layout_.n_kv_heads;
        caches.push_back(
            {sliding ? ring_list : segment_list, slots, sliding ? 1 : layout_.max_segments, row, row + part});
        row += 2 * part;
    }
    // where there is no segment, the table's own address, for loads that a device makes and does not use
    std::vector<uint64_t> addresses(1 + layout_.max_segments, address);
    addresses[0] = ring;
    std::copy(segments.begin(), segments.end(), addresses.begin() + 1);
    commands.update(buffer_, at, caches.data(), caches.size() * sizeof(args::Cache));
    commands.update(buffer_, ring_list - buffer_.address(), addresses.data(), addresses.size() * 8);
}

}  // namespace gptoss::model
