// An open device with its kernels, shared by what runs on it.
#pragma once

#include <string>

#include "base/cache.h"
#include "vk/commands.h"

namespace gptoss::vk {

struct Gpu {
    // cache_directory: see Cache. Pipelines come from there and go there again.
    Gpu(const DeviceInfo& info, std::string cache_directory);
    ~Gpu() { save(); }
    Gpu(const Gpu&) = delete;
    Gpu& operator=(const Gpu&) = delete;

    // Keeps the pipelines built so far for the next run.
    void save() noexcept;

    // What every key of the cache begins with: the library and its kernels, the device and its driver.
    const std::string identity;
    const Cache cache;
    Device device;
    Pipelines pipelines;  // builds pipelines when they are first needed

  private:
    size_t saved_;  // the hash of the pipelines that are in the cache
};

}  // namespace gptoss::vk
