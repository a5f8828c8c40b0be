#include "engine/kv_pages.h"

#include <algorithm>
#include <atomic>

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
    return KvPool::footprint(ring, 1) + KvPool::footprint(layout.segment_bytes(), n_segments);
}

void KvPages::set(Page ring, std::vector<Segment> segments) {
    ring_ = std::move(ring);
    segments_ = std::move(segments);
    version_ = next_version();
}

Page KvPages::new_ring() const {
    return layout_->n_sliding ? pool_->take(layout_->ring_bytes(ring_slots_), "sliding-window cache") : nullptr;
}

Page KvPages::new_segment() const { return pool_->take(layout_->segment_bytes(), "key-value cache"); }

Page KvPages::new_window() const {
    if (layout_->n_sliding == 0) return nullptr;
    return pool_->take(layout_->ring_bytes(layout_->window), "copy of the sliding-window cache");
}

void KvPages::record_table(vk::Commands& commands, const KvTables& tables, uint32_t index) const {
    std::vector<uint64_t> addresses;
    for (const Segment& segment : segments_) addresses.push_back(segment.page->address());
    tables.record(commands, index, ring_ ? ring_->address() : tables.caches(0), ring_slots_, addresses);
}

uint64_t KvPages::bytes() const {
    const auto bytes_of = [](const Page& page) { return page ? KvPool::footprint(page->size(), 1) : 0; };
    uint64_t sum = bytes_of(ring_);
    for (const Segment& segment : segments_) sum += bytes_of(segment.page);
    return sum;
}

uint64_t KvPages::bytes_read(uint32_t position) const {
    const uint64_t in_window = std::min(position + 1, layout_->window);
    return 2 * (layout_->n_sliding * in_window * layout_->ring_slot_bytes +
                layout_->n_full * (position + 1ull) * layout_->slot_bytes);
}

// Whether a segment is there and nobody else's from the slot on.
bool KvPages::own(uint32_t segment, uint32_t slot) const {
    if (segment >= segments_.size()) return false;
    const Segment& s = segments_[segment];
    return s.page.use_count() == 1 || slot >= s.own_from;
}

bool KvPages::holds(uint32_t first, uint32_t end) const {
    if (!own_ring()) return false;
    for (uint32_t i = first / kSegmentSlots; i < layout_->segments(end); i++)
        if (!own(i, i == first / kSegmentSlots ? first % kSegmentSlots : 0)) return false;
    return true;
}

void KvPages::reserve(uint32_t first, uint32_t end) {
    if (holds(first, end)) return;
    const uint32_t begin = first / kSegmentSlots, stop = layout_->segments(end);
    std::vector<Segment> next;
    for (uint32_t i = 0; i < std::max<size_t>(segments_.size(), stop); i++)
        next.push_back(i < begin || i >= stop || own(i, i == begin ? first % kSegmentSlots : 0)
                           ? segments_[i]
                           : Segment{new_segment()});
    Page ring = own_ring() ? ring_ : new_ring();
    // of what others hold too, what stays is copied
    const uint64_t kept = first % kSegmentSlots * layout_->slot_bytes;
    const bool copies_segment = kept > 0 && begin < stop && next[begin].page != segments_[begin].page,
               copies_ring = ring_ && ring != ring_;
    if (copies_segment || copies_ring)
        pool_->copy([&](vk::Commands& commands) {
            for (uint32_t part = 0; copies_segment && part < layout_->n_full * 2; part++) {
                const uint64_t at = part * kSegmentSlots * layout_->slot_bytes;
                const Page &from = segments_[begin].page, &to = next[begin].page;
                commands.copy(from->buffer(), from->offset() + at, to->buffer(), to->offset() + at, kept);
            }
            if (copies_ring)
                commands.copy(ring_->buffer(), ring_->offset(), ring->buffer(), ring->offset(),
                              layout_->ring_bytes(ring_slots_));
        });
    set(std::move(ring), std::move(next));
}

void KvPages::will_write(uint32_t first, uint32_t n) { high_water_ = std::max(high_water_, first + n); }

// The first position that the token at `position` sees.
uint32_t KvPages::window_start(uint32_t position) const { return position - std::min(position, layout_->window - 1); }

uint32_t KvPages::ring_first() const {
    return layout_->n_sliding ? high_water_ - std::min(high_water_, ring_slots_) : 0;
}

Window KvPages::copy_window(uint32_t position) const {
    const uint32_t seen = layout_->n_sliding ? std::min(position, layout_->window) : position;
    Window copy{std::max(ring_first(), position - seen), position, new_window()};
    if (copy.page)
        pool_->copy([&](vk::Commands& commands) { record_window(commands, copy, copy.first, position, true); });
    return copy;
}

void KvPages::go_back(const Window& window, uint32_t position) {
    high_water_ = UINT32_MAX;  // if this fails, the ring has nothing
    if (!own_ring()) {
        Page ring = new_ring();
        set(std::move(ring), std::move(segments_));
    }
    const uint32_t start = window_start(position);
    if (window.page)
        pool_->copy([&](vk::Commands& commands) { record_window(commands, window, start, position, false); });
    high_water_ = start == 0 ? position : start + ring_slots_;  // the ring now has the window, and nothing before it
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

// Copies positions [first, end) between the ring and a window.
void KvPages::record_window(vk::Commands& commands, const Window& window, uint32_t first, uint32_t end,
                            bool from_ring) const {
    for_window(first, end, [&](uint32_t part, uint32_t p, uint32_t slot, uint32_t n) {
        const uint64_t bytes = n * layout_->ring_slot_bytes;
        const uint64_t in_ring = ring_->offset() + (uint64_t{part} * ring_slots_ + slot) * layout_->ring_slot_bytes;
        const uint64_t in_copy =
            window.page->offset() + (uint64_t{part} * layout_->window + p - window.first) * layout_->ring_slot_bytes;
        if (from_ring)
            commands.copy(ring_->buffer(), in_ring, window.page->buffer(), in_copy, bytes);
        else
            commands.copy(window.page->buffer(), in_copy, ring_->buffer(), in_ring, bytes);
    });
}

std::vector<Page> KvPages::lend(uint32_t n) {
    std::vector<Page> lent;
    for (uint32_t i = 0; i < std::min<size_t>(segments_.size(), layout_->segments(n)); i++) {
        Segment& s = segments_[i];
        lent.push_back(s.page);
        // counted without the one that has just been taken
        const uint32_t own_from = s.page.use_count() == 2 ? 0 : s.own_from;
        s.own_from = std::max(own_from, std::min(n - i * kSegmentSlots, kSegmentSlots));
    }
    return lent;
}

void KvPages::borrow(std::span<const Page> segments) {
    std::vector<Segment> borrowed;
    for (const Page& page : segments) borrowed.push_back({page});
    set(std::move(ring_), std::move(borrowed));
}

void KvPages::share(KvPages& other, uint32_t n) {
    borrow(other.lend(n));
    ring_ = other.ring_;
    high_water_ = other.high_water_;
}

std::vector<KvPages::Piece> KvPages::pieces(uint32_t n, uint32_t ring_first, std::span<const Window> windows) const {
    std::vector<Piece> pieces;
    uint64_t at = 0;
    const uint32_t n_ring = n - ring_first, first = std::max(ring_first, n - std::min(n, ring_slots_));
    for_window(first, n, [&](uint32_t part, uint32_t p, uint32_t slot, uint32_t count) {
        pieces.push_back(
            {&ring_->buffer(), ring_->offset() + (uint64_t{part} * ring_slots_ + slot) * layout_->ring_slot_bytes,
             count * layout_->ring_slot_bytes, (uint64_t{part} * n_ring + p - ring_first) * layout_->ring_slot_bytes});
    });
    at = uint64_t{layout_->n_sliding} * 2 * n_ring * layout_->ring_slot_bytes;
    const auto add = [&](const Page& page, uint64_t first, uint64_t part_bytes, uint32_t parts, uint64_t bytes) {
        for (uint32_t part = 0; part < parts; part++, at += bytes)
            pieces.push_back({&page->buffer(), first + part * part_bytes, bytes, at});
    };
    for (const Window& w : windows) {
        const uint32_t start = window_start(w.position);
        add(w.page, w.page->offset() + (start - w.first) * layout_->ring_slot_bytes,
            layout_->window * layout_->ring_slot_bytes, layout_->n_sliding * 2,
            (w.position - start) * layout_->ring_slot_bytes);
    }
    for (uint32_t i = 0; i < layout_->segments(n); i++)
        add(segments_[i].page, segments_[i].page->offset(), kSegmentSlots * layout_->slot_bytes, layout_->n_full * 2,
            std::min(kSegmentSlots, n - i * kSegmentSlots) * layout_->slot_bytes);
    return pieces;
}

std::vector<Window> KvPages::begin_restore(uint32_t n, uint32_t ring_first, std::span<const uint32_t> windows) {
    if (n > 0) reserve(0, n);
    std::vector<Window> made;
    for (const uint32_t position : windows) made.push_back({window_start(position), position, new_window()});
    const uint32_t first = std::max(ring_first, n - std::min(n, ring_slots_));
    high_water_ = first == 0 ? n : first + ring_slots_;
    return made;
}

}  // namespace gptoss::model
