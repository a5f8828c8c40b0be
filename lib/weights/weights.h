// The model's weights in memory: the device's as far as they fit, the rest in the host's.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "io/checkpoint.h"
#include "vk/commands.h"
#include "weights/expert_cache.h"
#include "weights/tiles.h"

namespace gptoss::model {

// A matrix in tiles. Parts, because one allocation may not hold all of a vocabulary.
struct TiledMatrix {
    struct Part {
        uint64_t address = 0;
        uint32_t first_row = 0;
        uint32_t rows = 0;
    };
    uint32_t weight = 0;  // a WEIGHT_… of args.h
    uint32_t rows = 0;
    uint32_t cols = 0;
    float largest = 0;       // magnitude of a weight, or a little more
    std::deque<Part> parts;  // the loader keeps their addresses while it adds more

    uint64_t address() const { return parts.front().address; }
    uint64_t bytes() const { return tile_count(rows) * tile_bytes(weight, cols); }
};

// Addresses of one layer's weights; vectors are float32 and padded with zeros to whole tiles.
struct LayerWeights {
    uint64_t attn_norm = 0;                       // (hidden)
    TiledMatrix qkv;                              // ((n_heads + 2 n_kv_heads) * 64, hidden)
    uint64_t qkv_bias = 0;                        // (rows of qkv)
    uint64_t sinks = 0;                           // (n_heads)
    TiledMatrix out;                              // (hidden, n_heads * 64)
    uint64_t out_bias = 0;                        // (hidden)
    uint64_t mlp_norm = 0;                        // (hidden)
    TiledMatrix router;                           // (n_experts, hidden)
    uint64_t router_bias = 0;                     // (n_experts)
    uint64_t expert_table = 0;                    // (n_experts) args::Expert
    uint64_t expert_uses = 0;                     // (n_experts) uint32_t, which kernels count up
    float gate_up_largest = 0, down_largest = 0;  // magnitudes of the experts' weights, or a little more
    uint64_t gate_up_bias = 0;                    // (n_experts, 2 * intermediate), in the order of the tiles' rows
    uint64_t down_bias = 0;                       // (n_experts, hidden padded to whole tiles)
};

// Memory that there is for a model, bytes.
struct Room {
    uint64_t device = UINT64_MAX;
    uint64_t reserved = 0;  // of it, for a context
    uint64_t host = 0;      // beside the device's: 0 where that is the same memory
};

struct LoadOptions {
    // The type that dense matrices but the router are converted to, a WEIGHT_…; UINT32_MAX keeps the file's.
    uint32_t dense = UINT32_MAX;
    // Called on the loading thread; a non-zero result cancels. May be empty.
    std::function<int(uint64_t bytes_done, uint64_t bytes_total)> progress;
};

// Addresses and sizes of all weights.
struct WeightTable {
    TiledMatrix embedding;  // (vocab, hidden)
    std::vector<LayerWeights> layers;
    uint64_t final_norm = 0;  // (hidden)
    TiledMatrix lm_head;      // (vocab, hidden)
    uint64_t rope = 0;        // see rope_table
    uint32_t rope_coarse = 0;
    std::vector<args::Expert> expert_addresses;  // (n_layers, n_experts) where each was loaded to
    uint64_t bytes_per_token = 0;                // read to decode one token
    uint64_t contents = 0;                       // a hash of all weights as the files have them, or as quantized
    io::QuantizationError quantized;             // of experts that the files have unquantized
};

// The weights with the memory that holds them.
struct Weights : WeightTable {
    std::vector<vk::Buffer> buffers;
    std::unique_ptr<ExpertCache> experts;  // its commands, which use the buffers, end before they go
    uint64_t device_bytes = 0;
    uint64_t host_bytes = 0;

    // NULL where all experts are in device memory.
    ExpertCache* expert_cache() const { return experts.get(); }
};

// Reads everything through a bounded staging ring. Throws IoError, InsufficientMemory, Cancelled.
Weights load_weights(const vk::Device& device, const vk::Pipelines& pipelines, const io::Checkpoint& checkpoint,
                     const LoadOptions& options, Room room);

// The memory that load_weights would take, with nothing read but the checkpoint's headers, bytes.
struct WeightsFootprint {
    uint64_t device = 0, host = 0;
    uint64_t staging = 0;   // host memory while it loads
    uint64_t progress = 0;  // what progress counts up to
};
WeightsFootprint estimate_weights(const io::Checkpoint& checkpoint, const LoadOptions& options,
                                  const vk::DeviceInfo& device, Room room);

// Cosines and sines of the angles of the 32 pairs, (rope_coarse + 256, 32, 2): rope_coarse rows of 256 positions each
// up to max_position, with YaRN's concentration in them, then 256 rows of one position.
std::vector<float> rope_table(const io::Config& config, uint32_t max_position, uint32_t* rope_coarse);

}  // namespace gptoss::model
