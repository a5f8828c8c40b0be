// A loaded checkpoint on a device: immutable, shared by its contexts.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/config.h"
#include "tuning/candidates.h"
#include "vk/gpu.h"
#include "weights/weights.h"

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
    std::optional<std::string> cache_directory;  // see Cache; none: the user's
    Tier tier = Tier::Default;
    std::vector<Tuning> candidates;  // empty: what the device may run in the tier
};

struct Model {
    // Throws what opening the device, its self-test and loading the weights throw.
    Model(const io::Checkpoint& checkpoint, const ModelOptions& options);
    // On a device that is open already, in shapes that are chosen already.
    Model(std::shared_ptr<Gpu> gpu, const io::Checkpoint& checkpoint, bool kv_f16, const LoadOptions& load, Room room,
          const Choice& choice);

    const std::shared_ptr<Gpu> gpu;
    vk::Device& device;
    vk::Kernels& kernels;
    const io::Config config;
    const bool kv_f16;
    const Tuning tuning;
    const uint32_t left_out;  // see Choice
    const Weights weights;
    const uint64_t fingerprint;  // of the checkpoint and the types of its weights here

  private:
    Model(std::shared_ptr<Gpu> gpu, const io::Checkpoint& checkpoint, const ModelOptions& options);
};

}  // namespace gptoss::model
