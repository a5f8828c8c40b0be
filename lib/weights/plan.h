// Where the parts of a checkpoint go in memory. Planning comes first, so that the memory needed is known, then the
// allocations are made and filled.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "weights/weights.h"

namespace gptoss::model {

// A piece of an allocation and the work that makes its bytes: reads from the file and repacks, on any thread.
struct Fill {
    uint64_t offset = 0;
    uint64_t size = 0;
    std::function<void(std::byte* out)> run;
};

// One allocation and the places that want to know its address.
struct Allocation {
    std::string what;
    vk::Memory memory = vk::Memory::Device;
    uint64_t size = 0;
    std::vector<Fill> fills;
    struct Binding {
        uint64_t* address;
        uint64_t offset;
    };
    std::vector<Binding> bindings;
};

struct LoadPlan {
    // The weights, with all that is known of them without a device. The allocations' bindings and fills point into it.
    std::unique_ptr<WeightTable> table;
    std::vector<Allocation> allocations;

    // An expert's place: its gate_up, then its down.
    struct Place {
        size_t allocation;
        uint64_t offset;
    };
    uint64_t gate_up_bytes = 0;  // of one expert
    uint64_t place_bytes = 0;
    std::vector<Place> homes;  // (n_layers * n_experts) where each expert stays
    std::vector<Place> slots;  // of the cache, in device memory: none unless some homes are in host memory
    size_t expert_table = 0;   // (n_layers, n_experts) args::Expert: an allocation
    size_t expert_uses = 0;    // (n_layers, n_experts) uint32_t: an allocation

    uint64_t largest_fill() const;
    // Bytes of all fills together.
    uint64_t fill_bytes() const;
    // Memory of that kind that all allocations take, bytes.
    uint64_t footprint(vk::Memory memory) const;
};

// Plans where the weights of a checkpoint go, which must outlive the plan. Throws InsufficientMemory, with the sizes,
// where there is no room.
LoadPlan plan_load(const io::Checkpoint& checkpoint, uint32_t dense, uint64_t max_allocation, Room room);

}  // namespace gptoss::model
