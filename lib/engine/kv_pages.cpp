#include "engine/kv_pages.h"

#include <algorithm>
#include <atomic>

#include "base/error.h"
#include "engine/state.h"

namespace gptoss::model {

namespace {

uint64_t next_version() {
    static std::atomic<uint64_t> last{0};
    return ++last;
}

}  // namespace

KvPages::KvPages(const KvLayout& layout, KvPool& pool, uint32_t max_tokens, uint32_t max_batch)
    : layout_(&layout), pool_(&pool), ring_slots_(layout.ring_slots(max_tokens, max_batch)), version_(next_version()) {}

uint64_t KvPages::footprint(const KvLayout& layout, uint32_t max_tokens, uint32_t max_batch) {
    const uint64_t ring = layout.ring_bytes(layout.ring_slots(max_tokens, max_batch));
    const uint32_t n_segments = layout.segments(max_tokens);
    return KvPool::footprint(ring, 1) + KvPool::footprint(layout.ring_bytes(layout.window), 1) +
           KvPool::footprint(layout.segment_bytes(), n_segments);
}

void KvPages::set(Page ring, std::vector<Page> segments) {
    ring_ = std::move(ring);
    segments_ = std::move(segments);
    version_ = next_version();
}

Page KvPages::new_ring() const {
    return layout_->n_sliding ? pool_->take(layout_->ring_bytes(ring_slots_), "sliding-window cache") : nullptr;
}

Page KvPages::new_segment() const { return pool_->take(layout_->segment_bytes(), "key-value cache"); }

Page KvPages::new_snapshot() const {
    return pool_->take(layout_->ring_bytes(layout_->window), "snapshot of the sliding-window cache");
}

void KvPages::record_table(vk::Commands& commands, const KvTables& tables, uint32_t index) const {
    std::vector<uint64_t> addresses;
    for (const Page& segment : segments_) addresses.push_back(segment->address());
    tables.record(commands, index, ring_ ? ring_->address() : tables.caches(0), ring_slots_, addresses);
}

uint64_t KvPages::bytes() const {
    const auto bytes_of = [](const Page& page) { return page ? KvPool::footprint(page->size(), 1) : 0; };
    uint64_t sum = bytes_of(ring_);
    for (const Page& segment : segments_) sum += bytes_of(segment);
    for (const Snapshot& s : snapshots_) sum += bytes_of(s.ring);
    return sum;
}

uint64_t KvPages::bytes_read(uint32_t position) const {
    const uint64_t in_window = std::min(position + 1, layout_->window);
    return 2 * (layout_->n_sliding * in_window * layout_->ring_slot_bytes +
                layout_->n_full * (position + 1ull) * layout_->slot_bytes);
}

// Whether a segment is there and this sequence's alone.
bool KvPages::own(uint32_t segment) const { return segment < segments_.size() && segments_[segment].use_count() == 1; }

bool KvPages::holds(uint32_t first, uint32_t end) const {
    if (!own_ring()) return false;
    for (uint32_t i = first / kSegmentSlots; i < layout_->segments(end); i++)
        if (!own(i)) return false;
    return true;
}

void KvPages::reserve(uint32_t first, uint32_t end) {
    if (holds(first, end)) return;
    const uint32_t begin = first / kSegmentSlots, stop = layout_->segments(end);
    std::vector<Page> next;
    for (uint32_t i = 0; i < std::max<size_t>(segments_.size(), stop); i++)
        next.push_back(i < begin || i >= stop || own(i) ? segments_[i] : new_segment());
    Page ring = own_ring() ? ring_ : new_ring();
    // of what others hold too, what stays is copied
    const uint64_t kept = first % kSegmentSlots * layout_->slot_bytes;
    const bool copies_segment = kept > 0 && begin < stop && next[begin] != segments_[begin],
               copies_ring = ring_ && ring != ring_;
    if (copies_segment || copies_ring)
        pool_->copy([&](vk::Commands& commands) {
            for (uint32_t part = 0; copies_segment && part < layout_->n_full * 2; part++) {
                const uint64_t at = part * kSegmentSlots * layout_->slot_bytes;
                const Page &from = segments_[begin], &to = next[begin];
                commands.copy(from->buffer(), from->offset() + at, to->buffer(), to->offset() + at, kept);
            }
            if (copies_ring)
                commands.copy(ring_->buffer(), ring_->offset(), ring->buffer(), ring->offset(),
                              layout_->ring_bytes(ring_slots_));
        });
    set(std::move(ring), std::move(next));
}

void KvPages::will_write(uint32_t first, uint32_t n) {
    high_water_ = std::max(high_water_, first + n);
    // a snapshot of tokens that are being replaced is of another timeline
    while (!snapshots_.empty() && snapshots_.back().position > first) snapshots_.pop_back();
}

// The first position that the token at `position` sees.
uint32_t KvPages::window_start(uint32_t position) const { return position - std::min(position, layout_->window - 1); }

uint32_t KvPages::ring_first() const { return high_water_ - std::min(high_water_, ring_slots_); }

uint32_t KvPages::rewind(uint32_t position) {
    if (has_window(position)) return position;
    while (!snapshots_.empty() && snapshots_.back().position > position) snapshots_.pop_back();
    if (snapshots_.empty()) {
        high_water_ = 0;
        return 0;
    }
    const uint32_t to = snapshots_.back().position;
    high_water_ = UINT32_MAX;  // if this fails, the ring has nothing
    if (!own_ring()) {
        Page ring = new_ring();
        set(std::move(ring), std::move(segments_));
    }
    pool_->copy([&](vk::Commands& commands) { record_window(commands, snapshots_.back().ring, false, ring_, to); });
    const uint32_t start = window_start(to);
    high_water_ = start == 0 ? to : start + ring_slots_;  // the ring now has the window, and nothing before it
    return to;
}

void KvPages::save(uint32_t position) {
    if (layout_->n_sliding == 0 || position == 0) return;
    if (!snapshots_.empty() && snapshots_.back().position == position) return;
    Page copy;
    try {
        copy = new_snapshot();
    } catch (const Error& e) {
        if (e.status() != Status::InsufficientMemory) throw;
        return;  // going back will compute more again
    }
    pool_->copy([&](vk::Commands& commands) { record_window(commands, ring_, true, copy, position); });
    if (snapshots_.size() == kMaxSnapshots) snapshots_.pop_front();
    snapshots_.push_back({position, std::move(copy)});
}

// Calls f(part, position, its slot in the ring, count) for positions [first, end) of the ring, in pieces that do not
// wrap around.
template <typename F>
void KvPages::for_window(uint32_t first, uint32_t end, const F& f) const {
    for (uint32_t part = 0; part < layout_->n_sliding * 2; part++)
        for (uint32_t p = first; p < end;) {
            const uint32_t slot = p % ring_slots_, n = std::min(end - p, ring_slots_ - slot);
            f(part, p, slot, n);
            p += n;
        }
}

// Between the ring and a snapshot, where the window's slots lie in order.
void KvPages::record_window(vk::Commands& commands, const Page& from, bool from_ring, const Page& to,
                            uint32_t position) const {
    const uint32_t start = window_start(position);
    for_window(start, position, [&](uint32_t part, uint32_t p, uint32_t slot, uint32_t n) {
        const uint64_t in_ring = (uint64_t{part} * ring_slots_ + slot) * layout_->ring_slot_bytes;
        const uint64_t in_copy = (uint64_t{part} * layout_->window + p - start) * layout_->ring_slot_bytes;
        commands.copy(from->buffer(), from->offset() + (from_ring ? in_ring : in_copy), to->buffer(),
                      to->offset() + (from_ring ? in_copy : in_ring), n * layout_->ring_slot_bytes);
    });
}

void KvPages::share(const KvPages& other, uint32_t n) {
    const size_t used = std::min<size_t>(other.segments_.size(), layout_->segments(n));
    std::vector<Page> shared(other.segments_.begin(), other.segments_.begin() + static_cast<ptrdiff_t>(used));
    snapshots_ = other.snapshots_;
    set(other.ring_, std::move(shared));
    high_water_ = other.high_water_;
}

std::vector<KvPages::Piece> KvPages::pieces(uint32_t n, uint32_t ring_first) const {
    std::vector<Piece> pieces;
    uint64_t at = 0;
    const uint32_t n_ring = n - ring_first, first = std::max(ring_first, n - std::min(n, ring_slots_));
    for_window(first, n, [&](uint32_t part, uint32_t p, uint32_t slot, uint32_t count) {
        pieces.push_back(
            {&ring_->buffer(), ring_->offset() + (uint64_t{part} * ring_slots_ + slot) * layout_->ring_slot_bytes,
             count * layout_->ring_slot_bytes, (uint64_t{part} * n_ring + p - ring_first) * layout_->ring_slot_bytes});
    });
    at = uint64_t{layout_->n_sliding} * 2 * n_ring * layout_->ring_slot_bytes;
    const auto add = [&](const Page& page, uint64_t part_bytes, uint32_t parts, uint64_t bytes) {
        for (uint32_t part = 0; part < parts; part++, at += bytes)
            pieces.push_back({&page->buffer(), page->offset() + part * part_bytes, bytes, at});
    };
    for (const Snapshot& s : snapshots_)
        if (s.position <= n)
            add(s.ring, layout_->window * layout_->ring_slot_bytes, layout_->n_sliding * 2,
                (s.position - window_start(s.position)) * layout_->ring_slot_bytes);
    for (uint32_t i = 0; i < layout_->segments(n); i++)
        add(segments_[i], kSegmentSlots * layout_->slot_bytes, layout_->n_full * 2,
            std::min(kSegmentSlots, n - i * kSegmentSlots) * layout_->slot_bytes);
    return pieces;
}

std::vector<uint32_t> KvPages::snapshot_positions(uint32_t n) const {
    std::vector<uint32_t> positions;
    for (const Snapshot& s : snapshots_)
        if (s.position <= n) positions.push_back(s.position);
    return positions;
}

void KvPages::begin_restore(uint32_t n, uint32_t ring_first, std::span<const uint32_t> snapshot_positions) {
    if (n > 0) reserve(0, n);
    for (const uint32_t position : snapshot_positions) snapshots_.push_back({position, new_snapshot()});
    const uint32_t first = std::max(ring_first, n - std::min(n, ring_slots_));
    high_water_ = first == 0 ? n : first + ring_slots_;
}

}  // namespace gptoss::model
