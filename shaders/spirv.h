// The compiled kernels, embedded at build time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace gptoss {

// The SPIR-V of shaders/<name>.comp; empty if this build has no such kernel.
std::span<const uint32_t> spirv(std::string_view name);

// All kernels' names.
std::span<const std::string_view> spirv_names();

// A hash of all of them.
uint64_t spirv_fingerprint();

}  // namespace gptoss
