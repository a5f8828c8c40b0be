// How keys and values lie in device memory, and the tables by which kernels find them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "args.h"
#include "io/config.h"
#include "vk/commands.h"

namespace gptoss::model {

constexpr uint32_t kSegmentSlots = 512;  // positions of a segment

// A sequence keeps the last positions of its sliding layers in one ring, (n_sliding, 2, ring_slots) slots, and those of
// its full layers in segments, (n_full, 2, kSegmentSlots) slots: of each layer the keys, then the values. A slot is a
// position's (n_kv_heads, 64) numbers.
struct KvLayout {
    KvLayout(const io::Config& config, bool kv_f16);

    const std::vector<bool> sliding;  // (n_layers)
    const uint32_t n_sliding, n_full;
    const uint32_t n_kv_heads;
    const uint32_t window;
    const uint32_t max_segments;
    // Bytes of the keys or the values of a position. A window is short, so float32 there costs little memory, and is
    // what keeps the logits close to those of a float32 cache: rounding in the first layers is what later layers
    // enlarge.
    const uint64_t slot_bytes, ring_slot_bytes;

    uint64_t ring_bytes(uint32_t slots) const { return uint64_t{n_sliding} * 2 * slots * ring_slot_bytes; }
    // How many segments n positions take: none where no layer is a full one.
    uint32_t segments(uint32_t n) const { return n_full ? (n + kSegmentSlots - 1) / kSegmentSlots : 0; }
    uint64_t segment_bytes() const { return uint64_t{n_full} * 2 * kSegmentSlots * slot_bytes; }
    // Slots of a ring for the window of a batch's first token, the batch itself, and decode steps ahead that may be
    // undone at no cost.
    uint32_t ring_slots(uint32_t max_tokens, uint32_t max_batch) const;
};

// Where each of a few sequences has its keys and values: args::Cache of every layer, and the addresses they refer to.
class KvTables {
  public:
    KvTables(const vk::Device& device, const KvLayout& layout, uint32_t count);

    // What a kernel gets for a layer: of the caches from there on, a token's `sequence` is the index of its own.
    uint64_t caches(uint32_t layer) const { return buffer_.address() + layer * sizeof(args::Cache); }
    uint32_t sequence(uint32_t index) const { return index * stride_; }
    // Fills one of them in. What was recorded before may still use the others.
    void record(vk::Commands& commands, uint32_t index, uint64_t ring, uint32_t ring_slots,
                std::span<const uint64_t> segments) const;

    // The device memory that they take, bytes.
    static uint64_t footprint(const KvLayout& layout, uint32_t count);

  private:
    static uint32_t stride_of(const KvLayout& layout);

    const KvLayout& layout_;
    const uint32_t stride_;  // of a table, in args::Cache
    const vk::Buffer buffer_;
};

}  // namespace gptoss::model
