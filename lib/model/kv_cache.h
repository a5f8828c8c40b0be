// Keys and values of one timeline: a ring for the sliding layers, a growing array for the full ones.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "model/model.h"

namespace gptoss::model {

class KvCache {
  public:
    // max_batch: the most tokens that are written at once; max_tokens: the most positions it will be asked to hold.
    KvCache(const Model& model, uint32_t max_tokens, uint32_t max_batch);

    // Makes room for positions below n. Throws InsufficientMemory; what it held stays.
    void reserve(uint32_t n);
    bool holds(uint32_t n) const { return n <= full_slots_; }
    // Before positions [first, first + n) are written.
    void will_write(uint32_t first, uint32_t n);
    // Goes back to the state after `position` tokens, or after fewer where the ring has been overwritten since: returns
    // after how many. Exact: nothing computed later remains in reach.
    uint32_t rewind(uint32_t position);
    // Keeps a copy of the ring as it is after `position` tokens, so that rewind can return to it.
    void save(uint32_t position);

    // The device address of args::Cache of a layer, one sequence.
    uint64_t table(uint32_t layer) const { return table_.address() + layer * sizeof(args::Cache); }
    // Where a layer's keys lie, or its values, slot after slot as args::Cache describes them.
    struct Place {
        const vk::Buffer* buffer;
        uint64_t offset;
        uint32_t slots;
    };
    Place place(uint32_t layer, bool values) const;
    uint64_t slot_bytes() const;
    uint64_t bytes() const;
    // Bytes of keys and values that the token at a position reads.
    uint64_t bytes_read(uint32_t position) const;

  private:
    struct Snapshot {
        uint32_t position;
        vk::Buffer ring;
    };

    uint32_t ring_start(uint32_t position) const;
    void write_table();
    void copy_window(const vk::Buffer& from, bool from_ring, const vk::Buffer& to, uint32_t position);

    const Model& model_;
    const uint32_t max_tokens_;
    uint32_t ring_slots_ = 0;
    uint32_t n_sliding_ = 0;
    uint32_t full_slots_ = 0;
    uint32_t high_water_ = 0;  // positions below it may have been written to the ring since the last rewind to less
    vk::Buffer ring_;          // (n_sliding, 2, ring_slots) slots: keys, then values
    std::vector<vk::Buffer> full_;  // (n_full * 2): (full_slots) slots
    std::deque<Snapshot> snapshots_;
    vk::Buffer table_, table_staging_;
    vk::Commands commands_;
};

}  // namespace gptoss::model
