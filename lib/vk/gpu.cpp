#include "vk/gpu.h"

#include <functional>

#include "spirv.h"

namespace gptoss::vk {

namespace {

std::string identity_of(const DeviceInfo& info) {
    return "libgptoss " GPTOSS_VERSION_TEXT "\nkernels " + std::to_string(spirv_fingerprint()) + "\ndevice " +
           info.identity + " " + info.name + " " + info.driver + "\n";
}

std::string pipelines_key(const std::string& identity) { return identity + "pipelines"; }

}  // namespace

Gpu::Gpu(const DeviceInfo& info, std::string cache_directory)
    : identity(identity_of(info)),
      cache(std::move(cache_directory)),
      device(info),
      pipelines(device, cache.read(pipelines_key(identity)).value_or("")),
      saved_(std::hash<std::string>()(pipelines.cache_data())) {}

void Gpu::save() noexcept {
    try {
        const std::string data = pipelines.cache_data();
        const size_t hash = std::hash<std::string>()(data);
        if (hash == saved_) return;
        cache.write(pipelines_key(identity), data);
        saved_ = hash;
    } catch (...) {
        // the next run builds them again
    }
}

}  // namespace gptoss::vk
