// Which shapes of the kernels run a model on a device.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "forward/tuning.h"
#include "io/checkpoint.h"
#include "vk/gpu.h"

namespace gptoss::model {

using Log = std::function<void(int level, const std::string& message)>;  // may be empty
// Called between the parts of work that takes seconds; ends it by throwing. May be empty.
using Pulse = std::function<void()>;
constexpr int kLogWarning = 2, kLogInfo = 3;  // as in the public header

// What of a model decides which kernels run it, and in which variants.
struct KernelNeeds {
    KernelNeeds(const io::Checkpoint& checkpoint, uint32_t dense, bool kv_f16);

    io::Config config;
    bool kv_f16;
    uint32_t embedding, qkv, out, router, lm_head;  // each a WEIGHT_…

    std::string text() const;
};

struct Choice {
    Tuning tuning;
    uint32_t left_out = 0;  // better ones that gave wrong results
};

// The first of the candidates whose kernels pass the self-test on the device; those that fail are logged. What was
// found is kept in the device's cache. Throws UnsupportedSystem, naming the device and the kernel, if none passes, and
// what pulse throws.
Choice choose_tuning(const std::shared_ptr<vk::Gpu>& gpu, const KernelNeeds& needs,
                     const std::vector<Tuning>& candidates, const Log& log, const Pulse& pulse = {});

// The shapes that suit the device for a model with `group` query heads a KV head, by its limits alone.
Tuning tuning_for_device(const vk::DeviceInfo& device, uint32_t group = 8);
// Lets batches multiply cooperative matrices, if the device and this build have them.
void use_coopmat(Tuning& tuning, const vk::DeviceInfo& device);
// Lets them multiply integers instead, if the device has dot products of them.
void use_integer(Tuning& tuning, const vk::DeviceInfo& device);

// What a device may run in a tier, the best first, the plainest last; by default cooperative matrices, then without.
// Throws UnsupportedArgument if the device does not have the tier.
std::vector<Tuning> tuning_candidates(const vk::DeviceInfo& device, uint32_t group, Tier tier);

}  // namespace gptoss::model
