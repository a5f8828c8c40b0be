#include "engine/memory.h"

#include <algorithm>

#include "base/error.h"
#include "base/platform.h"
#include "engine/engine.h"

namespace gptoss::model {

namespace {

constexpr uint64_t kReservedTokens = 8192;
constexpr uint64_t kPrefixShare = 8;

// What runs if it passes the self-test; what comes after it takes no more memory.
Tuning first_tuning(const io::Config& config, const ModelOptions& options, const vk::DeviceInfo& device) {
    if (!options.candidates.empty()) return options.candidates.front();
    return tuning_candidates(device, config.n_heads / config.n_kv_heads, options.tier).front();
}

}  // namespace

ContextFootprint context_footprint(const io::Config& config, const Tuning& tuning, bool kv_f16, uint32_t max_tokens,
                                   uint32_t max_batch, const LoraUse& adapters) {
    return {KvPages::footprint(KvLayout(config, kv_f16), max_tokens, max_batch),
            Engine::footprint(config, tuning, kv_f16, max_batch, 1, adapters),
            vk::Buffer::footprint(config.vocab * 4ull)};
}

LoraFootprint adapters_footprint(const io::Config& config, const ModelOptions& options) {
    LoraFootprint sum;
    for (const std::string& path : options.adapters) {
        const LoraFootprint one = lora_footprint(config, io::AdapterFiles(path, config));
        sum.device += one.device;
        sum.use = sum.use | one.use;
    }
    return sum;
}

Room room_for_weights(const io::Config& config, const ModelOptions& options, const vk::DeviceInfo& device) {
    Room room;
    // a driver takes some itself, for pipelines and the like
    room.device =
        options.memory_budget ? options.memory_budget : device.memory_available - device.memory_available / 32;
    const auto tokens = static_cast<uint32_t>(
        std::min<uint64_t>(options.context_length ? options.context_length : kReservedTokens, config.max_context));
    const Tuning tuning = first_tuning(config, options, device);
    const LoraFootprint adapters = adapters_footprint(config, options);
    const ContextFootprint context = context_footprint(config, tuning, options.kv_f16, tokens,
                                                       std::min(tokens, tuning.default_batch()), adapters.use);
    room.reserved = context.cache + context.activations + adapters.device;
    if (options.host_memory) {
        room.host = options.host_memory;
    } else if (device.type != VK_PHYSICAL_DEVICE_TYPE_CPU) {
        room.host = platform::memory_available();
    } else if (options.memory_budget) {
        room.host = platform::memory_available() - std::min(platform::memory_available(), options.memory_budget);
    }
    return room;
}

uint64_t prefix_limit(const ModelOptions& options, uint64_t left) {
    return options.prefix_bytes ? options.prefix_bytes : left / kPrefixShare;
}

MemoryEstimate estimate_memory(const io::Checkpoint& checkpoint, const ModelOptions& options, uint64_t max_tokens,
                               uint64_t max_batch) {
    const vk::DeviceInfo device = vk::choose_device(options.device);
    const Tuning tuning = first_tuning(checkpoint.config, options, device);
    const uint32_t tokens = checked_max_tokens(checkpoint.config, max_tokens);
    MemoryEstimate estimate;
    const LoraFootprint adapters = adapters_footprint(checkpoint.config, options);
    estimate.adapters = adapters.device;
    estimate.context =
        context_footprint(checkpoint.config, tuning, options.kv_f16, tokens,
                          checked_max_batch(checkpoint.config, tuning, device, tokens, max_batch), adapters.use);
    estimate.available = options.memory_budget ? options.memory_budget : device.memory_available;
    const Room room = room_for_weights(checkpoint.config, options, device);
    try {
        estimate.weights = estimate_weights(checkpoint, options.load, device, room);
        const uint64_t context = estimate.context.cache + estimate.context.activations + estimate.adapters;
        estimate.fits = estimate.weights.device + context <= room.device;
        estimate.prefixes = prefix_limit(options, room.device - std::min(room.device, estimate.weights.device));
    } catch (const Error& e) {
        if (e.status() != Status::InsufficientMemory) throw;
        estimate.weights = estimate_weights(checkpoint, options.load, device, Room{});
    }
    return estimate;
}

void require_room_for_batches(const Network& network, uint32_t max_batch, uint32_t max_rows, const LoraUse& adapters) {
    const uint64_t needs =
        Engine::footprint(network.config, network.tuning, network.kv_f16, max_batch, max_rows, adapters);
    const uint64_t available = network.device.available();
    if (needs <= available) return;
    throw Error(
        Status::InsufficientMemory,
        "contexts with batches of " + std::to_string(max_batch) + " tokens need " + std::to_string(needs) +
            " bytes of device memory to work in, beside their keys and values: " + std::to_string(available) +
            " are free" +
            (network.device.budget() ? " within the budget of " + std::to_string(network.device.budget()) : ""));
}

}  // namespace gptoss::model
