#include "model/model.h"

#include <algorithm>

#include "io/fingerprint.h"

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
      device(vk::choose_device(options.device)),
      kernels(device),
      tuning(Tuning::for_device(device.info())),
      weights(device, kernels, checkpoint, options.load),
      fingerprint(io::fingerprint(checkpoint) + (weights.lm_head.weight << 8 | weights.layers[0].qkv.weight)) {}

}  // namespace gptoss::model
