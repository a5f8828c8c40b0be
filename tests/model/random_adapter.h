// Adapters of any rank with random weights, in a directory of their own, and what they add to the matrices.
#pragma once

#include <string>

#include "reference.h"

namespace gptoss::test {

enum class AdapterForm { Fused, PerExpert, Gguf };

class RandomAdapter {
  public:
    // Of some of the layers and some of their matrices, each of a rank and an alpha of its own; follows from the seed
    // alone. Experts as the form says. whole: of all layers and matrices.
    RandomAdapter(const io::Config& config, AdapterForm form, uint64_t seed, bool whole = false);
    ~RandomAdapter();
    RandomAdapter(const RandomAdapter&) = delete;
    RandomAdapter& operator=(const RandomAdapter&) = delete;

    const std::string& path() const { return path_; }
    const Deltas& deltas() const { return deltas_; }

  private:
    std::string path_;
    std::string directory_;
    Deltas deltas_;
};

}  // namespace gptoss::test
