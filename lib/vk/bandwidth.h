// How fast a device's memory is.
#pragma once

#include "vk/device.h"

namespace gptoss::vk {

// Bytes read and written a second by copies within device memory, the best of a few.
double measure_copy_bandwidth(const DeviceInfo& info);

}  // namespace gptoss::vk
