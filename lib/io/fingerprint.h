// Tells checkpoints apart.
#pragma once

#include <cstdint>

#include "io/checkpoint.h"

namespace gptoss::io {

// A hash of the config, and of one row of every tensor with its type and shape: a few MB of reads. Another layout of
// the same model gives another one.
uint64_t fingerprint(const Checkpoint& checkpoint);

}  // namespace gptoss::io
