// The handle behind gptoss_sampler_t.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "api/common.h"
#include "forward/sampling.h"
#include "text/grammar/grammar.h"

struct gptoss_sampler : gptoss::api::Handle<gptoss_sampler> {
    static constexpr bool kOnDevice = false;

    gptoss::model::SamplerSettings settings;
    std::vector<std::pair<uint32_t, float>> bias;
    std::shared_ptr<const gptoss::text::Grammar> grammar;
};
