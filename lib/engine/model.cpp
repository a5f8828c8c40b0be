#include "engine/model.h"

#include <utility>

#include "engine/memory.h"
#include "io/fingerprint.h"
#include "tuning/autotune.h"

namespace gptoss::model {

namespace {

std::shared_ptr<Gpu> open_gpu(const ModelOptions& options) {
    return std::make_shared<Gpu>(vk::choose_device(options.device),
                                 options.cache_directory.value_or(Cache::user_directory()));
}

Choice choose(const std::shared_ptr<Gpu>& gpu, const io::Checkpoint& checkpoint, const ModelOptions& options) {
    const KernelNeeds needs(checkpoint, options.load.dense, options.kv_f16);
    const uint32_t group = checkpoint.config.n_heads / checkpoint.config.n_kv_heads;
    std::vector<Tuning> candidates = options.candidates;
    if (candidates.empty()) {
        const vk::DeviceInfo& device = gpu->device.info();
        candidates = tuning_candidates(device, group, options.tier);
        // a CPU's shapes are known, and its times depend on what else it does
        if (device.type != VK_PHYSICAL_DEVICE_TYPE_CPU && device.timestamp_period > 0) {
            const Tuning measured = measured_tuning(*gpu, needs, candidates[0], device_stopwatch(gpu, needs));
            if (measured != candidates[0]) candidates.insert(candidates.begin(), measured);
        }
    }
    const Choice choice = choose_tuning(gpu, needs, candidates, options.log);
    gpu->device.set_budget(options.memory_budget);  // of the model; what the self-test took is free again
    return choice;
}

}  // namespace

Model::Model(const io::Checkpoint& checkpoint, const ModelOptions& options)
    : Model(open_gpu(options), checkpoint, options) {}

Model::Model(std::shared_ptr<Gpu> opened, const io::Checkpoint& checkpoint, const ModelOptions& options)
    : Model(opened, checkpoint, options.kv_f16, options.load,
            room_for_weights(checkpoint.config, options, opened->device.info()), choose(opened, checkpoint, options)) {
    if (!options.log) return;
    std::string line = "weights: " + std::to_string(weights.device_bytes) + " bytes in device memory";
    if (weights.expert_cache()) {
        const ExpertCache::Stats experts = weights.expert_cache()->stats();
        line += ", experts of " + std::to_string(experts.on_device) + " of " + std::to_string(experts.experts) +
                " among them";
    }
    if (weights.host_bytes) line += "; " + std::to_string(weights.host_bytes) + " bytes in host memory";
    options.log(kLogInfo, line);
}

Model::Model(std::shared_ptr<Gpu> opened, const io::Checkpoint& checkpoint, bool f16, const LoadOptions& load,
             Room room, const Choice& choice)
    : gpu(std::move(opened)),
      device(gpu->device),
      kernels(gpu->kernels),
      config(checkpoint.config),
      kv_f16(f16),
      tuning(choice.tuning),
      left_out(choice.left_out),
      weights(device, kernels, checkpoint, load, room),
      fingerprint(io::fingerprint(checkpoint) + (weights.lm_head.weight << 8 | weights.layers[0].qkv.weight)) {}

}  // namespace gptoss::model
