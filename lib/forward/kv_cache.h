// Keys and values of one timeline: a ring for the sliding layers, segments of positions for the full ones.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "engine/state.h"
#include "forward/network.h"

namespace gptoss::model {

class KvCache {
  public:
    // max_batch: the most tokens that are written at once; max_tokens: the most positions it will be asked to hold.
    KvCache(const Network& network, uint32_t max_tokens, uint32_t max_batch);

    // Makes room for positions [first, end), which no other cache shares then; those below first stay. Throws
    // InsufficientMemory; what it held stays.
    void reserve(uint32_t first, uint32_t end);
    // Whether positions [first, end) can be written as it is.
    bool holds(uint32_t first, uint32_t end) const;
    // Before positions [first, first + n) are written.
    void will_write(uint32_t first, uint32_t n);
    // Goes back to the state after `position` tokens, or after fewer where the ring has been overwritten since: returns
    // after how many. Exact: nothing computed later remains in reach.
    uint32_t rewind(uint32_t position);
    // Keeps a copy of the ring as it is after `position` tokens, so that rewind can return to it.
    void save(uint32_t position);

    // Into a new cache of the same sizes: what the other holds of its first n positions. Segments are shared until one
    // of both writes to them. Nothing may be running on the other.
    void share(const KvCache& other, uint32_t n);

    // A piece of a saved state, and where it lies on the device.
    struct Piece {
        const vk::Buffer* buffer;
        uint64_t offset;
        uint64_t size;
        uint64_t at;  // bytes after the first piece
    };
    // What the states of this cache's timeline have in common.
    StateShape state_shape() const;
    // What a cache of n positions is restored from, in the order of state.h; ring_first: the first position of the
    // saved ring, whose slots that this ring has no room for are left out.
    std::vector<Piece> pieces(uint32_t n, uint32_t ring_first) const;
    // The first position that the ring still has.
    uint32_t ring_first() const;
    // Whether the ring has all that the token at `position` sees; it does not where a rewind failed.
    bool has_window(uint32_t position) const { return ring_first() <= window_start(position); }
    // Rising; those of at most n tokens.
    std::vector<uint32_t> snapshot_positions(uint32_t n) const;
    // Makes a new cache one of n positions whose pieces are still to be written.
    void begin_restore(uint32_t n, uint32_t ring_first, std::span<const uint32_t> snapshot_positions);

    // The device address of args::Cache of a layer, one sequence.
    uint64_t table(uint32_t layer) const { return table_.address() + layer * sizeof(args::Cache); }
    // Device memory held now, bytes. Segments that are shared are counted in each of the caches.
    uint64_t bytes() const;
    // What a new cache takes, and one that max_tokens were written to as one prompt.
    struct Footprint {
        uint64_t at_first, full;
    };
    static Footprint footprint(const io::Config& config, bool kv_f16, uint32_t max_tokens, uint32_t max_batch);
    // Bytes of keys and values that the token at a position reads.
    uint64_t bytes_read(uint32_t position) const;

  private:
    struct Sizes {
        Sizes(const io::Config& config, bool kv_f16, uint32_t max_tokens, uint32_t max_batch);

        const uint32_t n_sliding, n_full;  // layers
        const uint32_t ring_slots;
        const uint32_t max_segments;
        // Bytes of the keys or the values of a position. A window is short, so float32 there costs little memory, and
        // is what keeps the logits close to those of a float32 cache: rounding in the first layers is what later layers
        // enlarge.
        const uint64_t slot_bytes, ring_slot_bytes;
        const uint64_t ring, snapshot, segment, table;  // bytes
    };

    // (n_full, 2, kSegmentSlots) slots: of each full layer the keys, then the values.
    using Segment = std::shared_ptr<const vk::Buffer>;
    struct Snapshot {
        uint32_t position;
        std::shared_ptr<const vk::Buffer> ring;  // (n_sliding, 2, window) slots
    };

    bool own(uint32_t segment) const;
    Segment new_segment() const;
    std::shared_ptr<const vk::Buffer> new_snapshot() const;
    uint32_t window_start(uint32_t position) const;
    void record_segments(const std::vector<Segment>& segments);
    void set_segments(std::vector<Segment> segments);
    void record_window(const vk::Buffer& from, bool from_ring, const vk::Buffer& to, uint32_t position);
    template <typename F>
    void for_window(uint32_t first, uint32_t end, const F& f) const;

    const Network& network_;
    const Sizes sizes_;
    uint32_t high_water_ = 0;         // the ring holds no position below this less ring_slots
    const vk::Buffer ring_;           // (n_sliding, 2, ring_slots) slots: keys, then values
    std::vector<Segment> segments_;   // in the order of their positions
    std::deque<Snapshot> snapshots_;  // by position
    vk::Buffer table_;                // (n_layers) args::Cache, the address of the ring, (max_segments) addresses
    bool table_current_ = false;      // it has the addresses of segments_
    vk::Commands commands_;
};

}  // namespace gptoss::model
