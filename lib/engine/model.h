// A loaded checkpoint on a device: immutable, shared by its contexts.
#pragma once

#include "forward/network.h"

namespace gptoss::model {

struct Model : Network {
    uint32_t left_out = 0;  // better variants of the kernels that failed the self-test
};

}  // namespace gptoss::model
