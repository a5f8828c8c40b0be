#include "model/model.h"

#include <algorithm>

#include "io/fingerprint.h"
#include "model/memory.h"
#include "spirv.h"

namespace gptoss::model {

Tuning Tuning::for_device(const vk::DeviceInfo& device) {
    Tuning t;
    if (device.type == VK_PHYSICAL_DEVICE_TYPE_CPU) return t;  // a workgroup is a thread's: sharing it only costs
    t.lanes = device.subgroup_size == 64 ? 64 : 32;
    const uint32_t groups = std::min(device.max_workgroup, 256u) / t.lanes;
    t.decode_splits = groups;
    t.batch_splits = std::min(groups, 2u);
    t.attention_workgroup = 128;
    t.attention_splits = 32;
    t.attention_split_keys = 256;
    t.use_coopmat(device);
    return t;
}

void Tuning::use_coopmat(const vk::DeviceInfo& device) {
    if (device.coopmat.m == 0 || spirv("qkv_coopmat").empty()) return;
    coopmat_batch = 32;
    coopmat_subgroups = std::clamp(128 / device.coopmat.subgroup, 4u, 16u);
    // what the largest kernel shares: blocks of weights and activations, of 80 bytes a row, and a part of the sums of
    // each subgroup; rows of two terms fill as much with half the tokens, but not with fewer than 32
    const auto shared = [&](uint32_t tokens) {
        const uint32_t results = coopmat_subgroups * 2 * device.coopmat.m * device.coopmat.n * 4;
        return (64 + std::max(tokens, 64u)) * 80 + results + 32 / device.coopmat.m * tokens * 4;
    };
    while (coopmat_tokens > 32 && shared(coopmat_tokens) > device.shared_memory) coopmat_tokens /= 2;
    while (coopmat_subgroups > 2 && shared(coopmat_tokens) > device.shared_memory) coopmat_subgroups /= 2;
}

Model::Model(const io::Checkpoint& checkpoint, const ModelOptions& options)
    : config(checkpoint.config),
      kv_f16(options.kv_f16),
      device(vk::choose_device(options.device), options.memory_budget),
      kernels(device),
      tuning(options.candidates.empty() ? Tuning::for_device(device.info()) : options.candidates[0]),
      weights(device, kernels, checkpoint, options.load, room_for_weights(config, options, device.info())),
      fingerprint(io::fingerprint(checkpoint) + (weights.lm_head.weight << 8 | weights.layers[0].qkv.weight)) {
    if (!options.log) return;
    std::string line = "weights: " + std::to_string(weights.device_bytes) + " bytes in device memory";
    if (weights.expert_cache()) {
        const ExpertCache::Stats experts = weights.expert_cache()->stats();
        line += ", experts of " + std::to_string(experts.on_device) + " of " + std::to_string(experts.experts) +
                " among them";
    }
    if (weights.host_bytes) line += "; " + std::to_string(weights.host_bytes) + " bytes in host memory";
    options.log(3, line);
}

}  // namespace gptoss::model
