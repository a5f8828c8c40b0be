#include "model/model.h"

#include <utility>

#include "io/fingerprint.h"

namespace gptoss::model {

namespace {

std::shared_ptr<Gpu> open_gpu(const ModelOptions& options) {
    return std::make_shared<Gpu>(vk::choose_device(options.device),
                                 options.cache_directory.value_or(io::Cache::user_directory()));
}

Choice choose(const std::shared_ptr<Gpu>& gpu, const io::Checkpoint& checkpoint, const ModelOptions& options) {
    const KernelNeeds needs(checkpoint, options.load.dense, options.kv_f16);
    const uint32_t group = checkpoint.config.n_heads / checkpoint.config.n_kv_heads;
    return choose_tuning(gpu, needs,
                         options.candidates.empty() ? tuning_candidates(gpu->device.info(), group) : options.candidates,
                         options.log);
}

}  // namespace

Model::Model(const io::Checkpoint& checkpoint, const ModelOptions& options)
    : Model(open_gpu(options), checkpoint, options) {}

Model::Model(std::shared_ptr<Gpu> opened, const io::Checkpoint& checkpoint, const ModelOptions& options)
    : Model(opened, checkpoint, options.kv_f16, options.load, choose(opened, checkpoint, options)) {}

Model::Model(std::shared_ptr<Gpu> opened, const io::Checkpoint& checkpoint, bool f16, const LoadOptions& load,
             const Choice& choice)
    : gpu(std::move(opened)),
      device(gpu->device),
      kernels(gpu->kernels),
      config(checkpoint.config),
      kv_f16(f16),
      tuning(choice.tuning),
      left_out(choice.left_out),
      weights(device, kernels, checkpoint, load),
      fingerprint(io::fingerprint(checkpoint) + (weights.lm_head.weight << 8 | weights.layers[0].qkv.weight)) {}

}  // namespace gptoss::model
