// An adapter's low-rank pairs on a device, as kernels read them; see LoraPair in args.h.
#pragma once

#include <cstdint>
#include <vector>

#include "args.h"
#include "io/adapter.h"
#include "vk/buffer.h"
#include "vk/pipelines.h"

namespace gptoss::model {

// What of a batch's adapters decides which kernels run, and how large their buffers are: of several, what any has.
struct LoraUse {
    bool qkv = false, out = false, gate_up = false, down = false;
    uint32_t max_rank = 0;  // of what one kernel takes at once; a power of two from 8 on, so that recordings are few

    bool any() const { return max_rank > 0; }
    LoraUse operator|(const LoraUse& other) const;
    auto operator<=>(const LoraUse&) const = default;
};

// Where a layer's pairs stand in LoraRow::pairs.
inline uint32_t lora_pairs(const io::Config& c) { return 4 + 2 * c.n_experts; }
enum : uint32_t { kLoraQ, kLoraK, kLoraV, kLoraOut, kLoraGateUp };
inline uint32_t lora_down(const io::Config& c) { return kLoraGateUp + c.n_experts; }

struct LoraWeights {
    uint64_t pairs = 0;  // the address of (n_layers, lora_pairs) args::LoraPair
    LoraUse use;
    uint64_t contents = 0;  // a hash of all that an output depends on
    uint32_t rank = 0;      // the largest of a pair
    uint64_t device_bytes = 0;
    std::vector<vk::Buffer> buffers;
};

// Reads and packs all. Throws IoError, naming the tensor, for a weight that is no finite number; InsufficientMemory,
// InsufficientResources.
LoraWeights load_lora(const vk::Device& device, const vk::Pipelines& pipelines, const io::Config& config,
                      const io::AdapterFiles& files);

// The device memory that load_lora would take, bytes, and what its kernels would need, from the files' headers alone.
struct LoraFootprint {
    uint64_t device = 0;
    LoraUse use;
};
LoraFootprint lora_footprint(const io::Config& config, const io::AdapterFiles& files);

}  // namespace gptoss::model
