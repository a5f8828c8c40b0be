// From a checkpoint to a model: chooses the device and the kernels' shapes, tunes, plans and loads.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/model.h"
#include "tuning/candidates.h"

namespace gptoss::model {

struct ModelOptions {
    const char* device = nullptr;  // see vk::choose_device
    bool kv_f16 = true;
    LoadOptions load;
    // Device memory for the model and its contexts, bytes; 0 for what the device has.
    uint64_t memory_budget = 0;
    // Device memory is kept free of experts for a context of so many tokens; 0 for the default, 8192.
    uint64_t context_length = 0;
    // Host memory for weights that have no room on the device, bytes; 0 for what the host has.
    uint64_t host_memory = 0;
    Log log;
    bool warm_up = false;                        // build what a first answer needs, before there is a first question
    std::optional<std::string> cache_directory;  // see Cache; none: the user's
    Tier tier = Tier::Default;
    uint64_t prefix_bytes = 0;  // device memory of the cache of prefixes, bytes; 0: a share of what the weights leave
    std::optional<uint32_t> message_start;  // the token that begins a message
    std::vector<std::string> adapters;      // paths of those that there will be room for
    std::vector<Tuning> candidates;         // empty: what the device may run in the tier
};

// Throws what opening the device, its self-test and loading the weights throw.
std::shared_ptr<const Model> open_model(const io::Checkpoint& checkpoint, const ModelOptions& options);

}  // namespace gptoss::model
