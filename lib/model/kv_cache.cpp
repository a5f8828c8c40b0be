#include "model/kv_cache.h"

#include <algorithm>

#include "error.h"

namespace gptoss::model {

namespace {

constexpr uint32_t kInFlight = 32;  // decode steps that may be undone at no cost

}  // namespace

KvCache::KvCache(const Model& model, uint32_t max_tokens, uint32_t max_batch)
    : model_(model),
      slot_bytes_(uint64_t{model.config.n_kv_heads} * HEAD_DIM * (model.kv_f16 ? 2 : 4)),
      ring_slot_bytes_(uint64_t{model.config.n_kv_heads} * HEAD_DIM * 4),
      commands_(model.device, model.kernels) {
    const io::Config& config = model.config;
    n_sliding_ = static_cast<uint32_t>(std::count(config.sliding.begin(), config.sliding.end(), true));
    n_full_ = config.n_layers - n_sliding_;
    // the window of the batch's first token, the batch itself, and steps ahead that may be thrown away
    ring_slots_ = static_cast<uint32_t>(
        std::min<uint64_t>(max_tokens + uint64_t{kInFlight}, uint64_t{config.window} + max_batch + kInFlight));
    max_segments_ = (max_tokens + kSegmentSlots - 1) / kSegmentSlots;
    ring_ = vk::Buffer(model.device, n_sliding_ * 2 * ring_slots_ * ring_slot_bytes_, vk::Memory::Device,
                       "sliding-window cache");
    const uint64_t rows_bytes = config.n_layers * sizeof(args::Cache);
    table_ = vk::Buffer(model.device, rows_bytes + 8 + 8ull * max_segments_, vk::Memory::Device, "cache table");

    std::vector<args::Cache> rows;
    const uint64_t ring_list = table_.address() + rows_bytes, segment_list = ring_list + 8;
    uint32_t ring_row = 0, segment_row = 0;  // each part follows the one before
    for (uint32_t layer = 0; layer < config.n_layers; layer++) {
        const bool sliding = config.sliding[layer];
        uint32_t& row = sliding ? ring_row : segment_row;
        const uint32_t slots = sliding ? ring_slots_ : kSegmentSlots, part = slots * config.n_kv_heads;
        rows.push_back({sliding ? ring_list : segment_list, slots, sliding ? 1 : max_segments_, row, row + part});
        row += 2 * part;
    }
    const uint64_t ring_address = ring_.address();
    commands_.begin();
    commands_.update(table_, 0, rows.data(), rows_bytes);
    commands_.update(table_, rows_bytes, &ring_address, 8);
    record_segments({});
    finish();
    set_segments({});
}

// Ends what is recorded, and waits for it.
void KvCache::finish() {
    commands_.end();
    commands_.submit();
    commands_.wait();
}

// The addresses of the segments; where there is none, the table's own, for loads that a device makes and does not use.
void KvCache::record_segments(const std::vector<Segment>& segments) {
    table_current_ = false;
    std::vector<uint64_t> addresses(max_segments_, table_.address());
    for (size_t i = 0; i < segments.size(); i++) addresses[i] = segments[i]->address();
    commands_.update(table_, table_.size() - 8ull * max_segments_, addresses.data(), 8ull * max_segments_);
}

uint64_t KvCache::segment_bytes() const { return uint64_t{n_full_} * 2 * kSegmentSlots * slot_bytes_; }

// Once the commands that record_segments was part of are done.
void KvCache::set_segments(std::vector<Segment> segments) {
    segments_ = std::move(segments);
    table_current_ = true;
}

KvCache::Segment KvCache::new_segment() const {
    return std::make_shared<const vk::Buffer>(model_.device, segment_bytes(), vk::Memory::Device, "key-value cache");
}

std::shared_ptr<const vk::Buffer> KvCache::new_snapshot() const {
    return std::make_shared<const vk::Buffer>(model_.device,
                                              uint64_t{n_sliding_} * 2 * model_.config.window * ring_slot_bytes_,
                                              vk::Memory::Device, "snapshot of the sliding-window cache");
}

uint64_t KvCache::bytes() const {
    uint64_t sum = ring_.size() + table_.size();
    for (const Segment& s : segments_) sum += s->size();
    for (const Snapshot& s : snapshots_) sum += s.ring->size();
    return sum;
}

uint64_t KvCache::bytes_read(uint32_t position) const {
    const uint64_t in_window = std::min(position + 1, model_.config.window);
    return 2 * (n_sliding_ * in_window * ring_slot_bytes_ + n_full_ * (position + 1ull) * slot_bytes_);
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
    if (const uint64_t kept = first % kSegmentSlots * slot_bytes_; kept > 0 && next[begin] != segments_[begin])
        for (uint32_t part = 0; part < n_full_ * 2; part++) {
            const uint64_t at = part * kSegmentSlots * slot_bytes_;
            commands_.copy(*segments_[begin], at, *next[begin], at, kept);
        }
    record_segments(next);
    finish();
    set_segments(std::move(next));
}

void KvCache::will_write(uint32_t first, uint32_t n) {
    high_water_ = std::max(high_water_, first + n);
    // a snapshot of tokens that are being replaced is of another timeline
    while (!snapshots_.empty() && snapshots_.back().position > first) snapshots_.pop_back();
}

// The first position that the token at `position` sees.
uint32_t KvCache::window_start(uint32_t position) const {
    return position - std::min(position, model_.config.window - 1);
}

uint32_t KvCache::ring_first() const { return high_water_ - std::min(high_water_, ring_slots_); }

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
    finish();
    const uint32_t start = window_start(to);
    high_water_ = start == 0 ? to : start + ring_slots_;  // the ring now has the window, and nothing before it
    return to;
}

void KvCache::save(uint32_t position) {
    if (n_sliding_ == 0 || position == 0) return;
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
    finish();
    if (snapshots_.size() == kMaxSnapshots) snapshots_.pop_front();
    snapshots_.push_back({position, std::move(copy)});
}

// Calls f(part, position, its slot in the ring, count) for positions [first, end) of the ring, in pieces that do not
// wrap around.
template <typename F>
void KvCache::for_window(uint32_t first, uint32_t end, const F& f) const {
    for (uint32_t part = 0; part < n_sliding_ * 2; part++)
        for (uint32_t p = first; p < end;) {
            const uint32_t slot = p % ring_slots_, n = std::min(end - p, ring_slots_ - slot);
            f(part, p, slot, n);
            p += n;
        }
}

// Between the ring and a snapshot, where the window's slots lie in order.
void KvCache::record_window(const vk::Buffer& from, bool from_ring, const vk::Buffer& to, uint32_t position) {
    const uint32_t start = window_start(position);
    for_window(start, position, [&](uint32_t part, uint32_t p, uint32_t slot, uint32_t n) {
        const uint64_t in_ring = (uint64_t{part} * ring_slots_ + slot) * ring_slot_bytes_;
        const uint64_t in_copy = (uint64_t{part} * model_.config.window + p - start) * ring_slot_bytes_;
        commands_.copy(from, from_ring ? in_ring : in_copy, to, from_ring ? in_copy : in_ring, n * ring_slot_bytes_);
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
    finish();
    set_segments(std::move(shared));
    snapshots_ = std::move(snapshots);
    high_water_ = other.high_water_;
}

StateShape KvCache::state_shape() const {
    const io::Config& c = model_.config;
    return {model_.fingerprint, model_.kv_f16 ? 2u : 4u, c.vocab, c.window, c.max_context, n_sliding_, n_full_,
            slot_bytes_,        ring_slot_bytes_};
}

std::vector<KvCache::Piece> KvCache::pieces(uint32_t n, uint32_t ring_first) const {
    std::vector<Piece> pieces;
    uint64_t at = 0;
    const uint32_t n_ring = n - ring_first, first = std::max(ring_first, n - std::min(n, ring_slots_));
    for_window(first, n, [&](uint32_t part, uint32_t p, uint32_t slot, uint32_t count) {
        pieces.push_back({&ring_, (uint64_t{part} * ring_slots_ + slot) * ring_slot_bytes_, count * ring_slot_bytes_,
                          (uint64_t{part} * n_ring + p - ring_first) * ring_slot_bytes_});
    });
    at = uint64_t{n_sliding_} * 2 * n_ring * ring_slot_bytes_;
    const auto add = [&](const vk::Buffer& buffer, uint64_t part_bytes, uint32_t parts, uint64_t bytes) {
        for (uint32_t part = 0; part < parts; part++, at += bytes)
            pieces.push_back({&buffer, part * part_bytes, bytes, at});
    };
    for (const Snapshot& s : snapshots_)
        if (s.position <= n)
            add(*s.ring, model_.config.window * ring_slot_bytes_, n_sliding_ * 2,
                (s.position - window_start(s.position)) * ring_slot_bytes_);
    for (uint32_t i = 0; i * kSegmentSlots < n; i++)
        add(*segments_[i], kSegmentSlots * slot_bytes_, n_full_ * 2,
            std::min(kSegmentSlots, n - i * kSegmentSlots) * slot_bytes_);
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
    const uint32_t first = std::max(ring_first, n - std::min(n, ring_slots_));
    high_water_ = first == 0 ? n : first + ring_slots_;
}

}  // namespace gptoss::model
