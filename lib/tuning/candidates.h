// Which shapes of the kernels run a model on a device.
#pragma once

#include <compare>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "vk/gpu.h"

namespace gptoss::model {

using Log = std::function<void(int level, const std::string& message)>;  // may be empty
constexpr int kLogWarning = 2, kLogInfo = 3;                             // as in the public header

enum class Tier { Default, Exact, Coopmat, Integer };  // as in the public header

// All give the same results but for rounding.
struct Tuning {
    uint32_t lanes = 32;         // rows that a group of lanes takes at once; see weights.glsl
    uint32_t decode_splits = 1;  // groups of lanes that share a tile's columns, for one token
    uint32_t batch_splits = 1;   // and for many
    uint32_t batch_tokens = 8;   // tokens that share a weight read
    uint32_t attention_workgroup = 32;
    uint32_t attention_keys = 1;    // that an invocation reads at once; all of a workgroup's divide kSegmentSlots
    uint32_t attention_splits = 1;  // the most workgroups that share a query's keys

    // Batches of this many tokens and more multiply float16 cooperative matrices; UINT32_MAX where there are none.
    uint32_t coopmat_batch = UINT32_MAX;
    uint32_t coopmat_subgroups = 4;  // subgroups of a workgroup
    uint32_t coopmat_tokens = 128;   // the most tokens of a workgroup, a power of two from 32
    uint32_t coopmat_groups = 256;   // workgroups that keep the device busy: it gets smaller ones rather than fewer

    // Experts of batches of this many tokens and more multiply activations rounded to integers, by packed dot products.
    uint32_t integer_batch = UINT32_MAX;
    uint32_t integer_tokens = 16;  // that share a weight read there

    bool coopmat() const { return coopmat_batch != UINT32_MAX; }
    bool integer() const { return integer_batch != UINT32_MAX; }
    // Tokens that are processed at once unless a context is asked for another number: enough rows for every expert to
    // be worth its weights' read, and where matrices are multiplied by units of their own, to fill those units' tiles.
    uint32_t default_batch() const { return coopmat() ? 1024 : 256; }
    auto operator<=>(const Tuning&) const = default;
    Tier tier() const { return coopmat() ? Tier::Coopmat : integer() ? Tier::Integer : Tier::Exact; }
    std::string text() const;

    // What suits the device for a model with `group` query heads a KV head, by its limits alone.
    static Tuning for_device(const vk::DeviceInfo& device, uint32_t group = 8);
    // Lets batches multiply cooperative matrices, if the device and this build have them.
    void use_coopmat(const vk::DeviceInfo& device);
    // Lets them multiply integers instead, if the device has dot products of them.
    void use_integer(const vk::DeviceInfo& device);
};

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
// found is kept in the device's cache. Throws UnsupportedSystem, naming the device and the kernel, if none passes.
Choice choose_tuning(const std::shared_ptr<Gpu>& gpu, const KernelNeeds& needs, const std::vector<Tuning>& candidates,
                     const Log& log);

// What a device may run in a tier, the best first, the plainest last; by default cooperative matrices, then without.
// Throws UnsupportedArgument if the device does not have the tier.
std::vector<Tuning> tuning_candidates(const vk::DeviceInfo& device, uint32_t group, Tier tier);

}  // namespace gptoss::model
