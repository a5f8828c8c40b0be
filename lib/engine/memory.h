// How much memory a model and its contexts take, known before there is one.
#pragma once

#include "engine/open.h"
#include "weights/lora.h"

namespace gptoss::model {

// The device memory and, beside it, the host memory of a context, bytes.
struct ContextFootprint {
    uint64_t cache = 0;        // keys and values once the context is full; none while it is empty
    uint64_t activations = 0;  // of the engine, once for all of the model's contexts
    uint64_t staging = 0;      // host memory
};
ContextFootprint context_footprint(const io::Config& config, const Tuning& tuning, bool kv_f16, uint32_t max_tokens,
                                   uint32_t max_batch, const LoraUse& adapters = {});

// Sums up the adapters that there will be. Throws what io::AdapterFiles throws.
LoraFootprint adapters_footprint(const io::Config& config, const ModelOptions& options);

// The memory for the weights of a model that is about to be loaded.
Room room_for_weights(const io::Config& config, const ModelOptions& options, const vk::DeviceInfo& device);

// The most that the cache of prefixes takes, bytes, where the weights leave so much of the device's memory.
uint64_t prefix_limit(const ModelOptions& options, uint64_t left);

struct MemoryEstimate {
    WeightsFootprint weights;
    ContextFootprint context;
    uint64_t prefixes = 0;   // the most that the cache of prefixes takes of what is left
    uint64_t adapters = 0;   // device memory
    uint64_t available = 0;  // device memory: the budget, or what is free
    bool fits = false;       // if not, `weights` is that of all weights in device memory
};
// Of a model loaded with these options and one context. Reads the checkpoint's headers, and loads nothing. max_tokens
// and max_batch as for Context.
MemoryEstimate estimate_memory(const io::Checkpoint& checkpoint, const ModelOptions& options, uint64_t max_tokens,
                               uint64_t max_batch);

// Throws InsufficientMemory, with the sizes, where the device has no room to process so many tokens at once, and to
// decode so many sequences at once.
void require_room_for_batches(const Network& network, uint32_t max_batch, uint32_t max_rows, const LoraUse& adapters);

}  // namespace gptoss::model
