// The gpt-oss forward pass in float64, written to be read: the measure for shapes that no golden data has.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "io/adapter.h"
#include "io/checkpoint.h"

namespace gptoss::test {

enum class Weights { AsInFile, Bf16, Q8 };  // Q8: 8-bit blocks of 32 with a float16 scale

struct Rounding {
    bool kv_f16 = false;                  // keys and values as the default cache holds them
    Weights weights = Weights::AsInFile;  // the dense ones but the router
};

// What adapters add to matrices: (rows, cols) of a layer's, or of one of its experts; gates and ups alternate.
using Deltas = std::map<std::tuple<uint32_t, io::LoraTarget, uint32_t>, std::vector<double>>;

struct Expected {
    std::vector<float> logits;  // (positions, vocab)
    // The smallest difference between the last expert chosen and the first one left out, of any token and layer: where
    // it is within rounding, other experts are a right answer too.
    double router_gap = 0;
};

Expected reference_logits(const io::Checkpoint& checkpoint, std::span<const uint32_t> tokens,
                          std::span<const uint32_t> positions, Rounding rounding = {}, const Deltas& deltas = {});

}  // namespace gptoss::test
