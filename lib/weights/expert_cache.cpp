#include "weights/expert_cache.h"

#include <algorithm>

#include "args.h"

namespace gptoss::model {

namespace {

// What is copied between two steps: a few milliseconds over a slow bus, so that a cache that is far too small for what
// is used costs little more than none.
constexpr uint64_t kMoveBytes = 64 << 20;
constexpr uint64_t kMaxMoves = 64;

}  // namespace

ExpertCache::ExpertCache(const vk::Device& device, const vk::Pipelines& pipelines, Layout layout)
    : layout_(std::move(layout)),
      max_moves_(std::clamp<uint64_t>(kMoveBytes / layout_.expert_bytes, 1, kMaxMoves)),
      seen_(layout_.homes.size()),
      last_used_(layout_.homes.size()),
      slot_of_(layout_.homes.size(), kNone),
      expert_in_(layout_.slots.size(), kNone),
      commands_(device, pipelines) {
    uint32_t slot = 0;
    std::vector<Move> moves;
    for (uint32_t expert = 0; expert < slot_of_.size() && slot < expert_in_.size(); expert++) {
        if (!layout_.pinned[expert]) moves.push_back({expert, slot++});
        if (moves.size() < max_moves_ && slot < expert_in_.size()) continue;
        submit(moves);
        moves.clear();
    }
    submit(moves);
    commands_.wait();
}

void ExpertCache::record_counts(vk::Commands& commands, const vk::Buffer& to, uint64_t offset) const {
    commands.copy(*layout_.uses, 0, to, offset, counts_bytes());
}

void ExpertCache::hand_in(std::span<const uint32_t> counts) {
    const std::lock_guard lock(mutex_);
    now_++;
    std::vector<uint32_t> uses(counts.size());  // since the last hand-in
    for (size_t i = 0; i < counts.size(); i++) {
        uses[i] = counts[i] - seen_[i];
        if (uses[i] >> 31) uses[i] = 0;  // of an earlier step than what another context handed in
        if (uses[i] == 0) continue;
        seen_[i] = counts[i];
        last_used_[i] = now_;
        (layout_.pinned[i] || slot_of_[i] != kNone ? hits_ : misses_) += uses[i];
    }
    // while the last moves are still waiting for steps before them, uses only add up
    if (!expert_in_.empty() && commands_.done()) submit(choose_moves(uses));
}

// The most used of the experts that are not on the device, to the slots that have not been used for longest.
std::vector<ExpertCache::Move> ExpertCache::choose_moves(std::span<const uint32_t> uses) {
    std::vector<uint32_t> wanted, slots;
    for (uint32_t i = 0; i < uses.size(); i++)
        if (uses[i] > 0 && !layout_.pinned[i] && slot_of_[i] == kNone) wanted.push_back(i);
    for (uint32_t i = 0; i < expert_in_.size(); i++)
        if (expert_in_[i] == kNone || last_used_[expert_in_[i]] < now_) slots.push_back(i);
    const size_t n = std::min({wanted.size(), slots.size(), max_moves_});
    const auto end = static_cast<std::ptrdiff_t>(n);
    std::partial_sort(wanted.begin(), wanted.begin() + end, wanted.end(),
                      [&](uint32_t a, uint32_t b) { return uses[a] > uses[b]; });
    const auto last_used = [&](uint32_t slot) { return expert_in_[slot] == kNone ? 0 : last_used_[expert_in_[slot]]; };
    std::partial_sort(slots.begin(), slots.begin() + end, slots.end(),
                      [&](uint32_t a, uint32_t b) { return last_used(a) < last_used(b); });
    std::vector<Move> moves(n);
    for (size_t i = 0; i < n; i++) moves[i] = {wanted[i], slots[i]};
    return moves;
}

void ExpertCache::submit(const std::vector<Move>& moves) {
    if (moves.empty()) return;
    commands_.begin();
    commands_.barrier();  // the homes and the table may have just been loaded
    for (const Move& move : moves) {
        const Place &home = layout_.homes[move.expert], &slot = layout_.slots[move.slot];
        commands_.copy(*home.buffer, home.offset, *slot.buffer, slot.offset, layout_.expert_bytes);
        if (const uint32_t old = expert_in_[move.slot]; old != kNone) write_entry(old, layout_.homes[old]);
        write_entry(move.expert, slot);
    }
    commands_.end();
    commands_.submit();
    for (const Move& move : moves) {
        if (expert_in_[move.slot] != kNone) slot_of_[expert_in_[move.slot]] = kNone;
        expert_in_[move.slot] = move.expert;
        slot_of_[move.expert] = move.slot;
    }
}

void ExpertCache::write_entry(uint32_t expert, const Place& place) {
    const args::Expert entry{place.address(), place.address() + layout_.gate_up_bytes};
    commands_.update(*layout_.table, expert * sizeof entry, &entry, sizeof entry);
}

ExpertCache::Stats ExpertCache::stats() const {
    const std::lock_guard lock(mutex_);
    Stats stats{layout_.homes.size(), 0, hits_, misses_};
    for (size_t i = 0; i < slot_of_.size(); i++) stats.on_device += layout_.pinned[i] || slot_of_[i] != kNone;
    return stats;
}

}  // namespace gptoss::model
