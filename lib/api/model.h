// The handle behind gptoss_model_t.
#pragma once

#include <memory>

#include "api/tokenizer.h"
#include "engine/model.h"

struct gptoss_model : gptoss::api::Handle<gptoss_model> {
    static constexpr bool kOnDevice = true;

    gptoss_model(std::shared_ptr<const gptoss::model::Model> m, std::shared_ptr<const gptoss::text::Tokenizer> t)
        : model(std::move(m)), tokenizer(t), table(std::make_shared<gptoss::api::SharedTable>(std::move(t))) {}

    const std::shared_ptr<const gptoss::model::Model> model;
    const std::shared_ptr<const gptoss::text::Tokenizer> tokenizer;
    const std::shared_ptr<gptoss::api::SharedTable> table;  // of its tokenizer's handles
};
