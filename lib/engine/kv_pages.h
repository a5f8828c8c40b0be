// Keys and values of one sequence: a ring for the sliding layers, segments of positions for the full ones, and copies
// of the ring's window that it can go back to. All are pages that forks share until one of them writes.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "engine/kv_pool.h"
#include "forward/kv_layout.h"

namespace gptoss::model {

class KvPages {
  public:
    // max_batch: the most tokens that are written at once; max_tokens: the most positions it will be asked to hold.
    // Takes no device memory yet.
    KvPages(const KvLayout& layout, KvPool& pool, uint32_t max_tokens, uint32_t max_batch);

    // Makes room for positions [first, end), in pages that no other sequence shares then; those below first stay.
    // Throws InsufficientMemory; what it held stays.
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
    // Into new pages of the same sizes: what the other holds of its first n positions. Nothing may be computing the
    // other's sequence.
    void share(const KvPages& other, uint32_t n);

    // Another number whenever a page takes another's place.
    uint64_t version() const { return version_; }
    void record_table(vk::Commands& commands, const KvTables& tables, uint32_t index) const;

    // A piece of a saved state, and where it lies on the device.
    struct Piece {
        const vk::Buffer* buffer;
        uint64_t offset;
        uint64_t size;
        uint64_t at;  // bytes after the first piece
    };
    // What n positions are restored from, in the order of state.h; ring_first: the first position of the saved ring,
    // whose slots that this ring has no room for are left out.
    std::vector<Piece> pieces(uint32_t n, uint32_t ring_first) const;
    // The first position that the ring still has.
    uint32_t ring_first() const;
    // Whether the ring has all that the token at `position` sees; it does not where a rewind failed.
    bool has_window(uint32_t position) const { return ring_first() <= window_start(position); }
    // Rising; those of at most n tokens.
    std::vector<uint32_t> snapshot_positions(uint32_t n) const;
    // Makes new pages those of n positions whose pieces are still to be written.
    void begin_restore(uint32_t n, uint32_t ring_first, std::span<const uint32_t> snapshot_positions);

    // Device memory held now, bytes. Pages that are shared are counted in each of the sequences.
    uint64_t bytes() const;
    // What pages take once max_tokens were written as one prompt.
    static uint64_t footprint(const KvLayout& layout, uint32_t max_tokens, uint32_t max_batch);
    // Bytes of keys and values that the token at a position reads.
    uint64_t bytes_read(uint32_t position) const;

  private:
    struct Snapshot {
        uint32_t position;
        Page ring;  // (n_sliding, 2, window) slots
    };

    bool own(uint32_t segment) const;
    bool own_ring() const { return layout_->n_sliding == 0 || (ring_ && ring_.use_count() == 1); }
    Page new_ring() const;
    Page new_segment() const;
    Page new_snapshot() const;
    uint32_t window_start(uint32_t position) const;
    void set(Page ring, std::vector<Page> segments);
    void record_window(vk::Commands& commands, const Page& from, bool from_ring, const Page& to,
                       uint32_t position) const;
    template <typename F>
    void for_window(uint32_t first, uint32_t end, const F& f) const;

    const KvLayout* layout_;
    KvPool* pool_;
    uint32_t ring_slots_;
    uint32_t high_water_ = 0;         // the ring holds no position below this less ring_slots_
    Page ring_;                       // (n_sliding, 2, ring_slots_) slots; NULL before the first token
    std::vector<Page> segments_;      // in the order of their positions
    std::deque<Snapshot> snapshots_;  // by position
    uint64_t version_;
};

}  // namespace gptoss::model
