#include "engine/open.h"

#include <utility>

#include "engine/engine.h"
#include "engine/memory.h"
#include "tuning/autotune.h"

namespace gptoss::model {

namespace {

std::shared_ptr<vk::Gpu> open_gpu(const ModelOptions& options) {
    return std::make_shared<vk::Gpu>(vk::choose_device(options.device),
                                     options.cache_directory.value_or(Cache::user_directory()));
}

Choice choose(const std::shared_ptr<vk::Gpu>& gpu, const io::Checkpoint& checkpoint, const ModelOptions& options) {
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

void log_weights(const Weights& weights, const Log& log) {
    std::string line = "weights: " + std::to_string(weights.device_bytes) + " bytes in device memory";
    if (weights.expert_cache()) {
        const ExpertCache::Stats experts = weights.expert_cache()->stats();
        line += ", experts of " + std::to_string(experts.on_device) + " of " + std::to_string(experts.experts) +
                " among them";
    }
    if (weights.host_bytes) line += "; " + std::to_string(weights.host_bytes) + " bytes in host memory";
    log(kLogInfo, line);
}

}  // namespace

std::shared_ptr<const Model> open_model(const io::Checkpoint& checkpoint, const ModelOptions& options) {
    const std::shared_ptr<vk::Gpu> gpu = open_gpu(options);
    const Room room = room_for_weights(checkpoint.config, options, gpu->device.info());
    const Choice choice = choose(gpu, checkpoint, options);
    const std::shared_ptr<Model> model(
        new Model{{gpu, checkpoint, options.kv_f16, choice.tuning, options.load, room}, choice.left_out, nullptr});
    model->engine = std::make_shared<Engine>(*model);
    if (options.log) log_weights(model->weights, options.log);
    return model;
}

}  // namespace gptoss::model
