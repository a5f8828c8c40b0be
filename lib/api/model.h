// The handle behind gptoss_model_t.
#pragma once

#include <memory>

#include "api/common.h"
#include "engine/model.h"
#include "text/tokenizer/tokenizer.h"

struct gptoss_model : gptoss::api::Handle<gptoss_model> {
    static constexpr bool kOnDevice = true;

    gptoss_model(std::shared_ptr<const gptoss::model::Model> m, std::shared_ptr<const gptoss::text::Tokenizer> t)
        : model(std::move(m)), tokenizer(std::move(t)) {}

    const std::shared_ptr<const gptoss::model::Model> model;
    const std::shared_ptr<const gptoss::text::Tokenizer> tokenizer;
};
