// Whether a device computes what it should.
#pragma once

#include <memory>
#include <string>

#include "tuning/candidates.h"

namespace gptoss::model {

// Runs a miniature model with these kernels, a batch of tokens and one token more, and compares what each kernel leaves
// with what the host computes in float64 from what the kernel was given. Returns the kernel that is off first, and by
// how much; "" if none is. A kernel that the driver cannot build is off too; throws what else a device throws, and
// what pulse throws.
std::string self_test(const std::shared_ptr<vk::Gpu>& gpu, const KernelNeeds& needs, const Tuning& tuning,
                      const Pulse& pulse = {});

}  // namespace gptoss::model
