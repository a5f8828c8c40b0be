#include "model/kv_cache.h"

#include <algorithm>

#include "error.h"

namespace gptoss::model {

namespace {

constexpr uint32_t kGrowth = 256;    // slots; full layers grow by doubling, in multiples of this
constexpr uint32_t kInFlight = 32;   // decode steps that may be undone at no cost
constexpr size_t kMaxSnapshots = 8;  // of the rings, a few MB each

}  // namespace

KvCache::KvCache(const Model& model, uint32_t max_tokens, uint32_t max_batch)
    : model_(model), max_tokens_(max_tokens), commands_(model.device, model.kernels) {
    const io::Config& config = model.config;
    n_sliding_ = static_cast<uint32_t>(std::count(config.sliding.begin(), config.sliding.end(), true));
    // the window of the batch's first token, the batch itself, and steps ahead that may be thrown away
    ring_slots_ = static_cast<uint32_t>(
        std::min<uint64_t>(max_tokens + uint64_t{kInFlight}, uint64_t{config.window} + max_batch + kInFlight));
    ring_ = vk::Buffer(model.device, n_sliding_ * 2 * ring_slots_ * slot_bytes(), vk::Memory::Device,
                       "sliding-window cache");
    full_.resize((config.n_layers - n_sliding_) * 2);
    table_ = vk::Buffer(model.device, config.n_layers * sizeof(args::Cache), vk::Memory::Device, "cache table");
    table_staging_ = vk::Buffer(model.device, table_.size(), vk::Memory::Upload, "cache table");
    reserve(std::min(max_tokens, kGrowth));
}

uint64_t KvCache::slot_bytes() const { return uint64_t{model_.config.n_kv_heads} * HEAD_DIM * (model_.kv_f16 ? 2 : 4); }

uint64_t KvCache::bytes() const {
    uint64_t sum = ring_.size() + table_.size();
    for (const vk::Buffer& b : full_) sum += b.size();
    for (const Snapshot& s : snapshots_) sum += s.ring.size();
    return sum;
}

uint64_t KvCache::bytes_read(uint32_t position) const {
    const uint64_t in_window = std::min(position + 1, model_.config.window),
                   n_full = model_.config.n_layers - n_sliding_;
    return (n_sliding_ * in_window + n_full * (position + 1ull)) * 2 * slot_bytes();
}

void KvCache::reserve(uint32_t n) {
    n += kInFlight;
    if (n <= full_slots_) return;
    const uint64_t wanted = std::max<uint64_t>(n, std::min<uint64_t>(2ull * full_slots_, max_tokens_ + kInFlight));
    const auto slots = static_cast<uint32_t>((wanted + kGrowth - 1) / kGrowth * kGrowth);
    for (vk::Buffer& buffer : full_) {
        if (buffer.size() >= slots * slot_bytes()) continue;  // grown before an earlier call ran out of memory
        vk::Buffer larger(model_.device, slots * slot_bytes(), vk::Memory::Device, "key-value cache");
        if (buffer.size()) {
            commands_.begin();
            commands_.barrier();
            commands_.copy(buffer, 0, larger, 0, buffer.size());
            commands_.end();
            commands_.submit();
            commands_.wait();
        }
        buffer = std::move(larger);
        write_table();
    }
    full_slots_ = slots;
    write_table();
}

KvCache::Place KvCache::place(uint32_t layer, bool values) const {
    const auto& sliding = model_.config.sliding;
    const auto rings = static_cast<uint32_t>(std::count(sliding.begin(), sliding.begin() + layer, true));
    if (sliding[layer]) return {&ring_, (rings * 2 + values) * ring_slots_ * slot_bytes(), ring_slots_};
    const vk::Buffer *k = &full_[(layer - rings) * 2], *v = k + 1;
    // while growing, keys and values may differ in size: both hold the smaller
    return {values ? v : k, 0, static_cast<uint32_t>(std::min(k->size(), v->size()) / slot_bytes())};
}

void KvCache::write_table() {
    auto* rows = table_staging_.as<args::Cache>();
    for (uint32_t layer = 0; layer < model_.config.n_layers; layer++) {
        const Place k = place(layer, false), v = place(layer, true);
        rows[layer] = {k.buffer->address() + k.offset, v.buffer->address() + v.offset, k.slots, 0};
    }
    commands_.begin();
    commands_.barrier();
    commands_.copy(table_staging_, 0, table_, 0, table_.size());
    commands_.end();
    commands_.submit();
    commands_.wait();
}

void KvCache::will_write(uint32_t first, uint32_t n) {
    high_water_ = std::max(high_water_, first + n);
    // a snapshot of tokens that are being replaced is of another timeline
    while (!snapshots_.empty() && snapshots_.back().position > first) snapshots_.pop_back();
}

uint32_t KvCache::ring_start(uint32_t position) const {
    return position - std::min(position, model_.config.window - 1);
}

uint32_t KvCache::rewind(uint32_t position) {
    // the ring still has every slot that a token at `position` will see
    if (high_water_ <= ring_start(position) + ring_slots_) return position;
    while (!snapshots_.empty() && snapshots_.back().position > position) snapshots_.pop_back();
    const uint32_t to = snapshots_.empty() ? 0 : snapshots_.back().position;
    if (to > 0) copy_window(snapshots_.back().ring, false, ring_, to);
    high_water_ = to;
    return to;
}

void KvCache::save(uint32_t position) {
    if (n_sliding_ == 0 || position == 0) return;
    if (!snapshots_.empty() && snapshots_.back().position == position) return;
    if (snapshots_.size() == kMaxSnapshots) snapshots_.pop_front();
    vk::Buffer copy;
    try {
        copy = vk::Buffer(model_.device, n_sliding_ * 2 * model_.config.window * slot_bytes(), vk::Memory::Device,
                          "snapshot of the sliding-window cache");
    } catch (const Error& e) {
        if (e.status() != Status::InsufficientMemory) throw;
        return;  // going back will compute more again
    }
    copy_window(ring_, true, copy, position);
    snapshots_.push_back({position, std::move(copy)});
}

// Between the ring and a snapshot, where the window's slots lie in order.
void KvCache::copy_window(const vk::Buffer& from, bool from_ring, const vk::Buffer& to, uint32_t position) {
    const uint64_t slot = slot_bytes();
    commands_.begin();
    commands_.barrier();
    for (uint32_t part = 0; part < n_sliding_ * 2; part++) {
        const uint64_t ring_base = uint64_t{part} * ring_slots_, copy_base = uint64_t{part} * model_.config.window;
        for (uint32_t p = ring_start(position); p < position;) {
            const uint32_t at = p % ring_slots_, n = std::min(position - p, ring_slots_ - at);
            const uint64_t in_ring = (ring_base + at) * slot, in_copy = (copy_base + p - ring_start(position)) * slot;
            commands_.copy(from, from_ring ? in_ring : in_copy, to, from_ring ? in_copy : in_ring, n * slot);
            p += n;
        }
    }
    commands_.end();
    commands_.submit();
    commands_.wait();
}

}  // namespace gptoss::model
