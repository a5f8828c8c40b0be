// Log-probabilities of tokens, computed by the host from logits that the device leaves.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "forward/sampling.h"

namespace gptoss::model {

struct TokenLogprob {
    uint32_t token;
    float logprob;
};

// Of a token, and of the likeliest ones: ties by the lower id.
struct TokenLogprobs {
    float logprob = 0;
    std::vector<TokenLogprob> top{};
};

// Of the softmax of all logits.
TokenLogprobs model_logprobs(std::span<const float> logits, uint32_t token, uint32_t n_top);

// Of what the filters leave of adjusted logits, which Sampler::adjusted() holds after a draw of this token.
TokenLogprobs drawn_logprobs(std::span<const float> adjusted, const SamplerSettings& settings, uint32_t token,
                             uint32_t n_top);

}  // namespace gptoss::model
