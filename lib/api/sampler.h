// The handle behind gptoss_sampler_t.
#pragma once

#include "api/common.h"
#include "forward/sampling.h"

struct gptoss_sampler : gptoss::api::Handle<gptoss_sampler> {
    static constexpr bool kOnDevice = false;

    gptoss::model::SamplerSettings settings;
};
