#include "engine/open.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/memory.h"
#include "engine/sequence.h"
#include "tuning/autotune.h"

namespace gptoss::model {

namespace {

constexpr uint32_t kWarmUpTokens = 64;

std::shared_ptr<vk::Gpu> open_gpu(const ModelOptions& options) {
    return std::make_shared<vk::Gpu>(vk::choose_device(options.device),
                                     options.cache_directory.value_or(Cache::user_directory()));
}

Choice choose(const std::shared_ptr<vk::Gpu>& gpu, const io::Checkpoint& checkpoint, const ModelOptions& options,
              const Pulse& pulse) {
    const KernelNeeds needs(checkpoint, options.load.dense, options.kv_f16);
    const uint32_t group = checkpoint.config.n_heads / checkpoint.config.n_kv_heads;
    std::vector<Tuning> candidates = options.candidates;
    if (candidates.empty()) {
        const vk::DeviceInfo& device = gpu->device.info();
        candidates = tuning_candidates(device, group, options.tier);
        // a CPU's shapes are known, and its times depend on what else it does
        if (device.type != VK_PHYSICAL_DEVICE_TYPE_CPU && device.timestamp_period > 0) {
            const auto stopwatch = [&, watch = device_stopwatch(gpu, needs)](const Tuning& tuning, bool batch) {
                pulse();
                return watch(tuning, batch);
            };
            const Tuning measured = measured_tuning(*gpu, needs, candidates[0], stopwatch);
            if (measured != candidates[0]) candidates.insert(candidates.begin(), measured);
        }
    }
    const Choice choice = choose_tuning(gpu, needs, candidates, options.log, pulse);
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
    if (!weights.quantized.values) return;
    std::ostringstream error;
    error << std::setprecision(3) << std::sqrt(weights.quantized.error / weights.quantized.values);
    log(kLogInfo,
        "weights: the experts were quantized to MXFP4, with an error of " + error.str() + " of their root mean square");
}

// A prompt that takes the kernels of batches, and a step of one token: their pipelines are then there.
void warm_up(const std::shared_ptr<const Model>& model) {
    const uint32_t n = std::min(kWarmUpTokens, model->config.max_context - 2);
    Sequence sequence(model, 0, 0);
    sequence.append(std::vector<uint32_t>(n, 0));
    uint64_t generated;
    sequence.generate({.settings = {}, .max_tokens = 2, .stop_tokens = {}, .on_token = nullptr}, &generated);
    while (model->engine->prefixes().evict()) {
    }
}

}  // namespace

std::shared_ptr<const Model> open_model(const io::Checkpoint& checkpoint, const ModelOptions& options) {
    const std::shared_ptr<vk::Gpu> gpu = open_gpu(options);
    const Room room = room_for_weights(checkpoint.config, options, gpu->device.info());
    uint64_t total = 0;
    const auto pulse = [&] {
        if (!options.load.progress) return;
        if (total == 0) total = estimate_weights(checkpoint, options.load, gpu->device.info(), room).progress;
        if (options.load.progress(0, total))
            throw Error(Status::Cancelled, "the test of the device was cancelled by the progress callback");
    };
    const Choice choice = choose(gpu, checkpoint, options, pulse);
    const std::shared_ptr<Model> model(
        new Model{{gpu, checkpoint, options.kv_f16, choice.tuning, options.load, room}, choice.left_out, nullptr});
    model->engine =
        std::make_shared<Engine>(*model, prefix_limit(options, gpu->device.available()), options.message_start);
    if (options.log) log_weights(model->weights, options.log);
    if (options.warm_up) warm_up(model);
    return model;
}

}  // namespace gptoss::model
