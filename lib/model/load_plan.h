// What of a checkpoint goes where in device memory: first planned, so that the memory is known, then allocated and
// filled.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "model/weights.h"

namespace gptoss::model {

// A piece of an allocation and the work that makes its bytes: reads from the file and repacks, on any thread.
struct Fill {
    uint64_t offset = 0;
    uint64_t size = 0;
    std::function<void(std::byte* out)> run;
};

// One device allocation and the places that want to know its address.
struct Allocation {
    std::string what;
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
    // Fills in what of `weights` is known without a device; the allocations' bindings point into it.
    LoadPlan(Weights& weights, const io::Checkpoint& checkpoint, uint32_t dense, uint64_t max_allocation);

    uint64_t bytes() const;
    std::vector<Allocation> allocations;

  private:
    void add_layer(LayerWeights& to, const io::LayerTensors& from, const std::string& name);
    void add_matrix(TiledMatrix& to, const std::vector<const io::Matrix*>& stacked, uint32_t dense);
    void add_experts(std::vector<args::Expert>& table, uint64_t args::Expert::*field, float& largest,
                     const io::Experts& from, bool interleaved);
    // values() is called when the vector is read; count values of it are placed, the rest up to padded is zero.
    void add_vector(Allocation& to, uint64_t* address, uint64_t padded, std::function<std::vector<float>()> values);
    void add_vector(Allocation& to, uint64_t* address, const io::Matrix& from);

    const io::Config& config_;
    uint32_t dense_;
    uint64_t max_allocation_;
};

}  // namespace gptoss::model
