#include "model/model.h"

#include <algorithm>

#include "io/fingerprint.h"
#include "model/memory.h"

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
    return t;
}

Model::Model(const io::Checkpoint& checkpoint, const ModelOptions& options)
    : config(checkpoint.config),
      kv_f16(options.kv_f16),
      device(vk::choose_device(options.device), options.memory_budget),
      kernels(device),
      tuning(Tuning::for_device(device.info())),
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
