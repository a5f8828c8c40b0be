#include "forward/kv_cache.h"

#include <algorithm>

#include "base/error.h"

namespace gptoss::model {

namespace {

constexpr uint32_t kInFlight = 32;  // decode steps that may be undone at no cost

}  // namespace

KvCache::Sizes::Sizes(const io::Config& config, bool kv_f16, uint32_t max_tokens, uint32_t max_batch)
    : n_sliding(static_cast<uint32_t>(std::count(config.sliding.begin(), config.sliding.end(), true))),
      n_full(config.n_layers - n_sliding),
      // the window of the batch's first token, the batch itself, and steps ahead that may be thrown away
      ring_slots(static_cast<uint32_t>(
          std::min<uint64_t>(max_tokens + uint64_t{kInFlight}, uint64_t{config.window} + max_batch + kInFlight))),
      max_segments((max_tokens + kSegmentSlots - 1) / kSegmentSlots),
      slot_bytes(uint64_t{config.n_kv_heads} * HEAD_DIM * (kv_f16 ? 2 : 4)),
      ring_slot_bytes(uint64_t{config.n_kv_heads} * HEAD_DIM * 4),
      ring(uint64_t{n_sliding} * 2 * ring_slots * ring_slot_bytes),
      snapshot(uint64_t{n_sliding} * 2 * config.window * ring_slot_bytes),
      segment(uint64_t{n_full} * 2 * kSegmentSlots * slot_bytes),
      table(config.n_layers * sizeof(args::Cache) + 8 + 8ull * max_segments) {}

KvCache::Footprint KvCache::footprint(const io::Config& config, bool kv_f16, uint32_t max_tokens, uint32_t max_batch) {
    const Sizes sizes(config, kv_f16, max_tokens, max_batch);
    const uint64_t first = vk::Buffer::footprint(sizes.ring) + vk::Buffer::footprint(sizes.table);
    return {first,
            first + sizes.max_segments * vk::Buffer::footprint(sizes.segment) + vk::Buffer::footprint(sizes.snapshot)};
}

KvCache::KvCache(const Network& network, uint32_t max_tokens, uint32_t max_batch)
    : network_(network),
      sizes_(network.config, network.kv_f16, max_tokens, max_batch),
      ring_(network.device, sizes_.ring, vk::Memory::Device, "sliding-window cache"),
      table_(network.device, sizes_.table, vk::Memory::Device, "cache table"),
      commands_(network.device, network.pipelines) {
    const io::Config& config = network.config;
    const uint64_t rows_bytes = config.n_layers * sizeof(args::Cache);

    std::vector<args::Cache> rows;
    const uint64_t ring_list = table_.address() + rows_bytes, segment_list = ring_list + 8;
    uint32_t ring_row = 0, segment_row = 0;  // each part follows the one before
    for (uint32_t layer = 0; layer < config.n_layers; layer++) {
        const bool sliding = config.sliding[layer];
        uint32_t& row = sliding ? ring_row : segment_row;
        const uint32_t slots = sliding ? sizes_.ring_slots : kSegmentSlots, part = slots * config.n_kv_heads;
        rows.push_back({sliding ? ring_list : segment_list, slots, sliding ? 1 : sizes_.max_segments, row, row + part});
        row += 2 * part;
    }
    const uint64_t ring_address = ring_.address();
    commands_.begin();
    commands_.update(table_, 0, rows.data(), rows_bytes);
    commands_.update(table_, rows_bytes, &ring_address, 8);
    record_segments({});
    commands_.finish();
    set_segments({});
}

// The addresses of the segments; where there is none, the table's own, for loads that a device makes and does not use.
void KvCache::record_segments(const std::vector<Segment>& segments) {
    table_current_ = false;
    std::vector<uint64_t> addresses(sizes_.max_segments, table_.address());
    for (size_t i = 0; i < segments.size(); i++) addresses[i] = segments[i]->address();
    commands_.update(table_, table_.size() - 8ull * sizes_.max_segments, addresses.data(), 8ull * sizes_.max_segments);
}

// Once the commands that record_segments was part of are done.
void KvCache::set_segments(std::vector<Segment> segments) {
    segments_ = std::move(segments);
    table_current_ = true;
}

KvCache::Segment KvCache::new_segment() const {
    return std::make_shared<const vk::Buffer>(network_.device, sizes_.segment, vk::Memory::Device, "key-value cache");
}

std::shared_ptr<const vk::Buffer> KvCache::new_snapshot() const {
    return std::make_shared<const vk::Buffer>(network_.device, sizes_.snapshot, vk::Memory::Device,
                                              "snapshot of the sliding-window cache");
}

uint64_t KvCache::bytes() const {
    uint64_t sum = ring_.footprint() + table_.footprint();
    for (const Segment& s : segments_) sum += s->footprint();
    for (const Snapshot& s : snapshots_) sum += s.ring->footprint();
    return sum;
}

uint64_t KvCache::bytes_read(uint32_t position) const {
    const uint64_t in_window = std::min(position + 1, network_.config.window);
    return 2 * (sizes_.n_sliding * in_window * sizes_.ring_slot_bytes +
                sizes_.n_full * (position + 1ull) * sizes_.slot_bytes);
}

// Whether a segment is there and this cache's alone.
bool KvCache::own(uint32_t segment) const { return segment < segments_.size() && segments_[segment].use_count() == 1; }

bool KvCache::holds(uint32_t first, uint32_t end) const {
    if (!table_current_) return false;
    for (uint32_t i = first / kSegmentSlots; i < (end + kSegmentSlots - 1) / kSegmentSlots; i++)
        if (!own(i)) return false;
    return true;
}

void KvCache::reserve(uint32_t first, uint32_t end) {
    if (holds(first, end)) return;
    const uint32_t begin = first / kSegmentSlots, stop = (end + kSegmentSlots - 1) / kSegmentSlots;
    std::vector<Segment> next;
    for (uint32_t i = 0; i < std::max<size_t>(segments_.size(), stop); i++)
        next.push_back(i < begin || i >= stop || own(i) ? segments_[i] : new_segment());
    commands_.begin();
    commands_.barrier();
    if (const uint64_t kept = first % kSegmentSlots * sizes_.slot_bytes; kept > 0 && next[begin] != segments_[begin])
        for (uint32_t part = 0; part < sizes_.n_full * 2; part++) {
            const uint64_t at = part * kSegmentSlots * sizes_.slot_bytes;
            commands_.copy(*segments_[begin], at, *next[begin], at, kept);
        }
    record_segments(next);
    commands_.finish();
    set_segments(std::move(next));
}

void KvCache::will_write(uint32_t first, uint32_t n) {
    high_water_ = std::max(high_water_, first + n);
    // a snapshot of tokens that are being replaced is of another timeline
    while (!snapshots_.empty() && snapshots_.back().position > first) snapshots_.pop_back();
}

// The first position that the token at `position` sees.
uint32_t KvCache::window_start(uint32_t position) const {
    return position - std::min(position, network_.config.window - 1);
}

uint32_t KvCache::ring_first() const { return high_water_ - std::min(high_water_, sizes_.ring_slots); }

uint32_t KvCache::rewind(uint32_t position) {
    if (has_window(position)) return position;
    while (!snapshots_.empty() && snapshots_.back().position > position) snapshots_.pop_back();
    if (snapshots_.empty()) {
        high_water_ = 0;
        return 0;
    }
    const uint32_t to = snapshots_.back().position;
    high_water_ = UINT32_MAX;  // if this fails, the ring has nothing
    commands_.begin();
    commands_.barrier();
    record_window(*snapshots_.back().ring, false, ring_, to);
    commands_.finish();
    const uint32_t start = window_start(to);
    high_water_ = start == 0 ? to : start + sizes_.ring_slots;  // the ring now has the window, and nothing before it
    return to;
}

void KvCache::save(uint32_t position) {
    if (sizes_.n_sliding == 0 || position == 0) return;
    if (!snapshots_.empty() && snapshots_.back().position == position) return;
    std::shared_ptr<const vk::Buffer> copy;
    try {
        copy = new_snapshot();
    } catch (const Error& e) {
        if (e.status() != Status::InsufficientMemory) throw;
        return;  // going back will compute more again
    }
    commands_.begin();
    commands_.barrier();
    record_window(ring_, true, *copy, position);
    commands_.finish();
    if (snapshots_.size() == kMaxSnapshots) snapshots_.pop_front();
    snapshots_.push_back({position, std::move(copy)});
}

// Calls f(part, position, its slot in the ring, count) for positions [first, end) of the ring, in pieces that do not
// wrap around.
template <typename F>
void KvCache::for_window(uint32_t first, uint32_t end, const F& f) const {
    for (uint32_t part = 0; part < sizes_.n_sliding * 2; part++)
        for (uint32_t p = first; p < end;) {
            const uint32_t slot = p % sizes_.ring_slots, n = std::min(end - p, sizes_.ring_slots - slot);
            f(part, p, slot, n);
            p += n;
        }
}

// Between the ring and a snapshot, where the window's slots lie in order.
void KvCache::record_window(const vk::Buffer& from, bool from_ring, const vk::Buffer& to, uint32_t position) {
    const uint32_t start = window_start(position);
    for_window(start, position, [&](uint32_t part, uint32_t p, uint32_t slot, uint32_t n) {
        const uint64_t in_ring = (uint64_t{part} * sizes_.ring_slots + slot) * sizes_.ring_slot_bytes;
        const uint64_t in_copy = (uint64_t{part} * network_.config.window + p - start) * sizes_.ring_slot_bytes;
        commands_.copy(from, from_ring ? in_ring : in_copy, to, from_ring ? in_copy : in_ring,
                       n * sizes_.ring_slot_bytes);
    });
}

void KvCache::share(const KvCache& other, uint32_t n) {
    const size_t used = std::min<size_t>(other.segments_.size(), (n + kSegmentSlots - 1) / kSegmentSlots);
    std::vector<Segment> shared(other.segments_.begin(), other.segments_.begin() + static_cast<ptrdiff_t>(used));
    std::deque<Snapshot> snapshots = other.snapshots_;
    commands_.begin();
    commands_.barrier();
    if (ring_.size()) commands_.copy(other.ring_, 0, ring_, 0, ring_.size());
    record_segments(shared);
    commands_.finish();
    set_segments(std::move(shared));
    snapshots_ = std::move(snapshots);
    high_water_ = other.high_water_;
}

StateShape KvCache::state_shape() const {
    const io::Config& c = network_.config;
    return {network_.fingerprint,  network_.kv_f16 ? 2u : 4u, c.vocab,       c.window,
            c.max_context,         sizes_.n_sliding,          sizes_.n_full, sizes_.slot_bytes,
            sizes_.ring_slot_bytes};
}

std::vector<KvCache::Piece> KvCache::pieces(uint32_t n, uint32_t ring_first) const {
    std::vector<Piece> pieces;
    uint64_t at = 0;
    const uint32_t n_ring = n - ring_first, first = std::max(ring_first, n - std::min(n, sizes_.ring_slots));
    for_window(first, n, [&](uint32_t part, uint32_t p, uint32_t slot, uint32_t count) {
        pieces.push_back({&ring_, (uint64_t{part} * sizes_.ring_slots + slot) * sizes_.ring_slot_bytes,
                          count * sizes_.ring_slot_bytes,
                          (uint64_t{part} * n_ring + p - ring_first) * sizes_.ring_slot_bytes});
    });
    at = uint64_t{sizes_.n_sliding} * 2 * n_ring * sizes_.ring_slot_bytes;
    const auto add = [&](const vk::Buffer& buffer, uint64_t part_bytes, uint32_t parts, uint64_t bytes) {
        for (uint32_t part = 0; part < parts; part++, at += bytes)
            pieces.push_back({&buffer, part * part_bytes, bytes, at});
    };
    for (const Snapshot& s : snapshots_)
        if (s.position <= n)
            add(*s.ring, network_.config.window * sizes_.ring_slot_bytes, sizes_.n_sliding * 2,
                (s.position - window_start(s.position)) * sizes_.ring_slot_bytes);
    for (uint32_t i = 0; i * kSegmentSlots < n; i++)
        add(*segments_[i], kSegmentSlots * sizes_.slot_bytes, sizes_.n_full * 2,
            std::min(kSegmentSlots, n - i * kSegmentSlots) * sizes_.slot_bytes);
    return pieces;
}

std::vector<uint32_t> KvCache::snapshot_positions(uint32_t n) const {
    std::vector<uint32_t> positions;
    for (const Snapshot& s : snapshots_)
        if (s.position <= n) positions.push_back(s.position);
    return positions;
}

void KvCache::begin_restore(uint32_t n, uint32_t ring_first, std::span<const uint32_t> snapshot_positions) {
    reserve(0, n);
    for (const uint32_t position : snapshot_positions) snapshots_.push_back({position, new_snapshot()});
    const uint32_t first = std::max(ring_first, n - std::min(n, sizes_.ring_slots));
    high_water_ = first == 0 ? n : first + sizes_.ring_slots;
}

}  // namespace gptoss::model
