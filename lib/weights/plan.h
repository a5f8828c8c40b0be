// What of a checkpoint goes where in memory: first planned, so that the memory is known, then allocated and filled.
#pragma once

#include <functional>
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

class LoadPlan {
  public:
    // Fills in what of `weights` is known without a device; the allocations' bindings point into it. Throws
    // InsufficientMemory, with the sizes, where there is no room.
    LoadPlan(Weights& weights, const io::Checkpoint& checkpoint, uint32_t dense, uint64_t max_allocation, Room room);

    uint64_t largest_fill() const;
    // Memory of that kind that all allocations take, bytes.
    uint64_t footprint(vk::Memory memory) const;

    std::vector<Allocation> allocations;

    // An expert's place: its gate_up, then its down.
    struct Place {
        size_t allocation;
        uint64_t offset;
    };
    uint64_t place_bytes() const { return place_bytes_; }
    uint64_t gate_up_bytes() const { return gate_up_bytes_; }
    std::vector<Place> homes;  // (n_layers * n_experts) where each expert stays
    std::vector<Place> slots;  // of the cache, in device memory: none unless some homes are in host memory
    size_t expert_table = 0;   // (n_layers, n_experts) args::Expert: an allocation
    size_t expert_uses = 0;    // (n_layers, n_experts) uint32_t: an allocation

  private:
    // An expert's fills, from the start of its place.
    using ExpertFills = std::vector<Fill>;

    void add_expert_tables(Weights& weights);
    void place(Room room);
    void place_experts(uint64_t pinned);
    Place add_place(const std::string& what, vk::Memory memory);
    uint64_t places_footprint(uint64_t n) const;
    uint64_t places_within(uint64_t bytes) const;
    void add_layer(LayerWeights& to, const io::LayerTensors& from, const std::string& name);
    void add_matrix(TiledMatrix& to, const std::vector<const io::Matrix*>& stacked, uint32_t dense);
    void add_experts(size_t first, const io::Experts& from, bool gate_up, float& largest);
    // values() is called when the vector is read; count values of it are placed, the rest up to padded is zero.
    void add_vector(Allocation& to, uint64_t* address, uint64_t padded, std::function<std::vector<float>()> values);
    void add_vector(Allocation& to, uint64_t* address, const io::Matrix& from);

    const io::Config& config_;
    uint32_t dense_;
    uint64_t max_allocation_;
    std::vector<args::Expert>& expert_addresses_;
    std::vector<ExpertFills> experts_;  // (n_layers * n_experts)
    uint64_t gate_up_bytes_ = 0;        // of one expert
    uint64_t place_bytes_ = 0;
    uint64_t places_per_allocation_ = 1;
    size_t embedding_end_ = 0;  // the allocations before it are the embedding's
};

}  // namespace gptoss::model
