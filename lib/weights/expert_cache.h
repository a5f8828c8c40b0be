// Experts that did not fit into device memory: they lie in host memory, where kernels can read them, and copies of the
// most used ones in slots of device memory.
//
// The table of experts on the device says where each is to be read: at home or in its slot. Kernels count the uses of
// every expert; once a step is done its context hands the counts in, and the cache may copy experts to slots, by
// commands on the queue that all steps go through. They begin with a barrier, as every step does, which has another one
// after all that reads weights: a step reads the table and the slots all as they were before the change or all as they
// are after it. What is read is the same weights in any case.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "vk/commands.h"

namespace gptoss::model {

class ExpertCache {
  public:
    struct Place {
        const vk::Buffer* buffer;
        uint64_t offset;

        uint64_t address() const { return buffer->address() + offset; }
    };
    // In the order of the experts of layer after layer.
    struct Layout {
        const vk::Buffer* table;  // (experts) args::Expert
        const vk::Buffer* uses;   // (experts) uint32_t
        uint64_t gate_up_bytes;   // of an expert, in front of its down
        uint64_t expert_bytes;
        std::vector<Place> homes{};  // (experts)
        std::vector<bool> pinned{};  // (experts) whose home is in device memory
        std::vector<Place> slots{};
    };
    struct Stats {
        uint64_t experts = 0;    // of all layers
        uint64_t on_device = 0;  // of them: at home there, or copied
        uint64_t hits = 0;       // uses of experts that were on the device when they were handed in
        uint64_t misses = 0;     // and of others
    };

    // Fills the slots.
    ExpertCache(const vk::Device& device, const vk::Pipelines& pipelines, Layout layout);

    uint64_t counts_bytes() const { return layout_.uses->size(); }
    // Copies the counts to a host-visible buffer; record it after a step, of whose kernels those that count are behind
    // a barrier.
    void record_counts(vk::Commands& commands, const vk::Buffer& to, uint64_t offset) const;
    // What that left once its commands were done: counts from the model's start, modulo 2^32, of any context and in any
    // order. From any thread. Copies experts if need be; does not wait for it. Throws DeviceLost.
    void hand_in(std::span<const uint32_t> counts);

    Stats stats() const;

  private:
    static constexpr uint32_t kNone = UINT32_MAX;

    struct Move {
        uint32_t expert;
        uint32_t slot;
    };
    std::vector<Move> choose_moves(std::span<const uint32_t> used);
    void submit(const std::vector<Move>& moves);
    void write_entry(uint32_t expert, const Place& place);

    const Layout layout_;
    const size_t max_moves_;  // at once
    mutable std::mutex mutex_;
    std::vector<uint32_t> seen_;       // (experts) the last counts
    std::vector<uint64_t> last_used_;  // (experts) when: in hand-ins
    std::vector<uint32_t> slot_of_;    // (experts) or kNone
    std::vector<uint32_t> expert_in_;  // (slots) or kNone
    uint64_t now_ = 0;                 // hand-ins
    uint64_t hits_ = 0, misses_ = 0;
    vk::Commands commands_;
};

}  // namespace gptoss::model
