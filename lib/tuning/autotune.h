// The shapes of kernels that a device runs fastest, found by trying.
#pragma once

#include <functional>
#include <memory>

#include "tuning/candidates.h"

namespace gptoss::model {

// The time that a product of matrices like the model's takes in a shape, microseconds: with one token, or with many.
using Stopwatch = std::function<double(const Tuning& tuning, bool batch)>;

// By timestamps on the device: the median of a few runs of a product that takes it a millisecond or so.
Stopwatch device_stopwatch(const std::shared_ptr<vk::Gpu>& gpu, const KernelNeeds& needs);

// The tuning, with another shape of its products for one token and for many where the stopwatch finds it more than a
// twentieth faster. What was found is kept in the device's cache.
Tuning measured_tuning(vk::Gpu& gpu, const KernelNeeds& needs, const Tuning& tuning, const Stopwatch& stopwatch);

}  // namespace gptoss::model
