// A model of the architecture that is just large enough to make a kernel go wrong that can, with weights that follow
// from a fixed seed, in memory.
#pragma once

#include <deque>

#include "tuning/candidates.h"

namespace gptoss::model {

class Miniature {
  public:
    // Two layers, a sliding and a full one, whose pipelines are those of the model that needs them.
    explicit Miniature(const KernelNeeds& needs);

    io::Checkpoint checkpoint;

  private:
    uint64_t next();
    float uniform(float deviation);
    io::Matrix matrix(io::DType type, uint64_t rows, uint64_t cols, std::vector<std::byte> bytes);
    io::Matrix dense(uint32_t weight, uint64_t rows, uint64_t cols, float deviation, bool after_norm);
    io::Matrix vector(uint64_t rows, uint64_t cols, float mean, float deviation);
    io::Matrix norm();
    io::Matrix head_bias(uint64_t rows, float offset);
    io::Experts experts(uint64_t rows, uint64_t cols, float deviation, bool after_norm);
    io::LayerTensors layer(const KernelNeeds& needs);

    uint64_t state_ = 0;
    std::deque<File> files_;
};

}  // namespace gptoss::model
