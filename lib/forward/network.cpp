#include "forward/network.h"

#include <utility>

#include "io/fingerprint.h"

namespace gptoss::model {

Network::Network(std::shared_ptr<vk::Gpu> on, const io::Checkpoint& checkpoint, bool f16, const Tuning& shapes,
                 const LoadOptions& load, Room room)
    : gpu(std::move(on)),
      device(gpu->device),
      pipelines(gpu->pipelines),
      config(checkpoint.config),
      kv_f16(f16),
      tuning(shapes),
      weights(load_weights(device, pipelines, checkpoint, load, room)),
      fingerprint(io::fingerprint(checkpoint) + (weights.lm_head.weight << 8 | weights.layers[0].qkv.weight)),
      kernels(gpu->pipelines) {}

}  // namespace gptoss::model
