// A loaded checkpoint on a device: immutable, shared by its sequences, which its engine runs.
#pragma once

#include <memory>

#include "forward/network.h"

namespace gptoss::model {

class Engine;

struct Model : Network {
    uint32_t left_out = 0;           // better variants of the kernels that failed the self-test
    std::shared_ptr<Engine> engine;  // refers to this
};

}  // namespace gptoss::model
