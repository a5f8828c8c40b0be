// A model's weights on a device, with all that the forward pass needs to run them.
#pragma once

#include <memory>

#include "forward/kernels.h"
#include "forward/tuning.h"
#include "io/config.h"
#include "vk/gpu.h"
#include "weights/weights.h"

namespace gptoss::model {

struct Network {
    std::shared_ptr<vk::Gpu> gpu;
    vk::Device& device;
    const vk::Pipelines& pipelines;
    const io::Config config;
    const bool kv_f16;
    const Tuning tuning;
    const Weights weights;
    const uint64_t fingerprint;  // of the checkpoint and the types of its weights here
    mutable Kernels kernels;     // gains variants as they are first used

    // Loads the weights onto the device. Throws what load_weights throws.
    Network(std::shared_ptr<vk::Gpu> gpu, const io::Checkpoint& checkpoint, bool kv_f16, const Tuning& tuning,
            const LoadOptions& load, Room room);
};

}  // namespace gptoss::model
