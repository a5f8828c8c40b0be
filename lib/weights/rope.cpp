#include <algorithm>
#include <cmath>
#include <numbers>

#include "weights/weights.h"

namespace gptoss::model {

namespace {

constexpr uint32_t kPairs = HEAD_DIM / 2;

// Frequencies of the 32 pairs, in radians a position. YaRN ("NTK by parts", arXiv:2309.00071, section 3.2): pairs that
// turn often within the original context keep their frequency, slow ones are divided by the factor, with a linear ramp
// in between.
std::vector<double> frequencies(const io::Config& config) {
    std::vector<double> result(kPairs);
    const double theta = config.rope_theta, factor = config.rope_factor;
    // the pair, not always whole, that turns `turns` times within the original context
    const auto pair_of = [&](double turns) {
        return kPairs * std::log(config.rope_original_context / (turns * 2 * std::numbers::pi)) / std::log(theta);
    };
    double low = pair_of(config.rope_beta_fast), high = pair_of(config.rope_beta_slow);
    if (config.rope_truncate) {
        low = std::floor(low);
        high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, HEAD_DIM - 1.0);
    if (low == high) high += 0.001;
    for (uint32_t i = 0; i < kPairs; i++) {
        const double frequency = std::pow(theta, -double(i) / kPairs);
        const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
        result[i] = factor > 1 ? frequency / factor * ramp + frequency * (1 - ramp) : frequency;
    }
    return result;
}

}  // namespace

std::vector<float> rope_table(const io::Config& config, uint32_t max_position, uint32_t* rope_coarse) {
    const std::vector<double> frequency = frequencies(config);
    const double yarn = config.rope_factor > 1 ? 0.1 * std::log(config.rope_factor) + 1 : 1;
    const double concentration = yarn * config.rope_attention_factor;
    const uint32_t coarse = (max_position + 255) / 256;
    *rope_coarse = coarse;
    std::vector<float> table;
    table.reserve((coarse + 256) * kPairs * 2);
    for (uint32_t row = 0; row < coarse + 256; row++) {
        const double position = row < coarse ? row * 256.0 : row - coarse;
        const double scale = row < coarse ? concentration : 1;
        for (uint32_t i = 0; i < kPairs; i++) {
            table.push_back(static_cast<float>(scale * std::cos(position * frequency[i])));
            table.push_back(static_cast<float>(scale * std::sin(position * frequency[i])));
        }
    }
    return table;
}

}  // namespace gptoss::model
