// Keys and values of one sequence: a ring for the sliding layers and segments of positions for the full ones. Both are
// pages that others may share: forks, and the cache of prefixes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kv_pool.h"
#include "forward/kv_layout.h"

namespace gptoss::model {

// A copy of what a ring held of positions [first, position): all that the token at `position` sees, and the one before
// it where that is there.
struct Window {
    uint32_t first = 0, position = 0;
    Page page{};  // (n_sliding, 2, window) slots; NULL where no layer slides
};

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
    // Whether the ring has all that the token at `position` sees: it has not where it was overwritten since, nor after
    // a failure.
    bool has_window(uint32_t position) const { return ring_first() <= window_start(position); }
    // Copies the ring's window as it is after `position` tokens. Throws InsufficientMemory.
    Window copy_window(uint32_t position) const;
    // Whether the ring can go back to `position` with it.
    bool reaches(const Window& window, uint32_t position) const {
        return position <= window.position && window.first <= window_start(position);
    }
    // Makes the ring what it was after `position` tokens. Throws InsufficientMemory.
    void go_back(const Window& window, uint32_t position);
    // The ring holds nothing any more.
    void go_to_start() { high_water_ = 0; }
    // Lets all pages go.
    void clear() { set(nullptr, {}), high_water_ = 0; }
    // The segments of the first n positions, which others may read from now on: before this sequence writes there
    // again it takes a copy. Nothing may be computing the sequence.
    std::vector<Page> lend(uint32_t n);
    // Reads others' segments from now on. The ring is as it was.
    void borrow(std::span<const Page> segments);
    // Into new pages of the same sizes: what the other holds of its first n positions. Nothing may be computing the
    // other's sequence.
    void share(KvPages& other, uint32_t n);

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
    std::vector<Piece> pieces(uint32_t n, uint32_t ring_first, std::span<const Window> windows) const;
    // The first position that the ring still has.
    uint32_t ring_first() const;
    // Makes new pages those of n positions whose pieces are still to be written, and new windows.
    std::vector<Window> begin_restore(uint32_t n, uint32_t ring_first, std::span<const uint32_t> windows);

    // Device memory held now, bytes. Pages that are shared are counted in each of the sequences.
    uint64_t bytes() const;
    // What pages take once max_tokens were written.
    static uint64_t footprint(const KvLayout& layout, uint32_t max_tokens, uint32_t max_batch);
    // Bytes of keys and values that the token at a position reads.
    uint64_t bytes_read(uint32_t position) const;

  private:
    struct Segment {
        Page page;
        // The first slot that nobody else reads, though others hold the page: this sequence goes on writing there.
        uint32_t own_from = kSegmentSlots;
    };

    bool own(uint32_t segment, uint32_t slot) const;
    bool own_ring() const { return layout_->n_sliding == 0 || (ring_ && ring_.use_count() == 1); }
    Page new_ring() const;
    Page new_segment() const;
    Page new_window() const;
    uint32_t window_start(uint32_t position) const;
    void set(Page ring, std::vector<Segment> segments);
    void record_window(vk::Commands& commands, const Window& window, uint32_t first, uint32_t end,
                       bool from_ring) const;
    template <typename F>
    void for_window(uint32_t first, uint32_t end, const F& f) const;

    const KvLayout* layout_;
    KvPool* pool_;
    uint32_t ring_slots_;
    uint32_t high_water_ = 0;        // the ring holds no position below this less ring_slots_
    Page ring_;                      // (n_sliding, 2, ring_slots_) slots; NULL before the first token
    std::vector<Segment> segments_;  // in the order of their positions
    uint64_t version_;
};

}  // namespace gptoss::model
