#include "api/sampler.h"

#include <cmath>
#include <limits>

#include "api/grammar.h"

using namespace gptoss;
using namespace gptoss::api;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Sets a field if low ≤ value ≤ high and value is finite (NaN fails both); the message names the setting.
gptoss_status set(gptoss_sampler_t sampler, float model::SamplerSettings::*field, float value, bool allowed,
                  const char* rule) {
    return guard([&] {
        const Held held(sampler, "sampler");
        if (!allowed || !std::isfinite(value))
            throw Error(Status::InvalidArgument, std::string(rule) + ", not " + std::to_string(value));
        held->settings.*field = value;
    });
}

}  // namespace

gptoss_status gptoss_sampler_create(gptoss_sampler_t* sampler_out) {
    if (sampler_out) *sampler_out = nullptr;
    return guard([&] {
        require(sampler_out, "sampler_out");
        *sampler_out = new gptoss_sampler;
    });
}

gptoss_status gptoss_sampler_set_temperature(gptoss_sampler_t sampler, float temperature) {
    return set(sampler, &model::SamplerSettings::temperature, temperature, temperature >= 0 && temperature < kInfinity,
               "temperature must be finite and not negative");
}

gptoss_status gptoss_sampler_set_top_k(gptoss_sampler_t sampler, uint32_t top_k) {
    return guard([&] { Held(sampler, "sampler")->settings.top_k = top_k; });
}

gptoss_status gptoss_sampler_set_top_p(gptoss_sampler_t sampler, float top_p) {
    return set(sampler, &model::SamplerSettings::top_p, top_p, top_p > 0 && top_p <= 1, "top_p must be in (0, 1]");
}

gptoss_status gptoss_sampler_set_min_p(gptoss_sampler_t sampler, float min_p) {
    return set(sampler, &model::SamplerSettings::min_p, min_p, min_p >= 0 && min_p <= 1, "min_p must be in [0, 1]");
}

gptoss_status gptoss_sampler_set_presence_penalty(gptoss_sampler_t sampler, float presence_penalty) {
    return set(sampler, &model::SamplerSettings::presence, presence_penalty,
               presence_penalty >= -2 && presence_penalty <= 2, "presence_penalty must be in [-2, 2]");
}

gptoss_status gptoss_sampler_set_frequency_penalty(gptoss_sampler_t sampler, float frequency_penalty) {
    return set(sampler, &model::SamplerSettings::frequency, frequency_penalty,
               frequency_penalty >= -2 && frequency_penalty <= 2, "frequency_penalty must be in [-2, 2]");
}

gptoss_status gptoss_sampler_set_repetition_penalty(gptoss_sampler_t sampler, float repetition_penalty) {
    return set(sampler, &model::SamplerSettings::repetition, repetition_penalty, repetition_penalty > 0,
               "repetition_penalty must be finite and positive");
}

gptoss_status gptoss_sampler_set_seed(gptoss_sampler_t sampler, uint64_t seed) {
    return guard([&] { Held(sampler, "sampler")->settings.seed = seed; });
}

gptoss_status gptoss_sampler_set_logit_bias(gptoss_sampler_t sampler, size_t num_biases, const uint32_t* tokens,
                                            const float* biases) {
    return guard([&] {
        const Held held(sampler, "sampler");
        if (num_biases) {
            require(tokens, "tokens");
            require(biases, "biases");
        }
        std::vector<std::pair<uint32_t, float>> bias;
        for (size_t i = 0; i < num_biases; i++) {
            if (!std::isfinite(biases[i]))
                throw Error(Status::InvalidArgument,
                            "biases[" + std::to_string(i) + "] must be finite, not " + std::to_string(biases[i]));
            bias.emplace_back(tokens[i], biases[i]);
        }
        held->bias = std::move(bias);
    });
}

gptoss_status gptoss_sampler_set_grammar(gptoss_sampler_t sampler, gptoss_grammar_t grammar) {
    return guard([&] {
        const Held held(sampler, "sampler");
        held->grammar = grammar ? Held(grammar, "grammar")->grammar : nullptr;
    });
}

gptoss_status gptoss_sampler_retain(gptoss_sampler_t sampler) { return gptoss_sampler::retain(sampler); }
gptoss_status gptoss_sampler_release(gptoss_sampler_t sampler) { return gptoss_sampler::release(sampler); }
