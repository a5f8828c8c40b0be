// The handle behind gptoss_tokenizer_t.
#pragma once

#include <memory>

#include "api/common.h"
#include "text/tokenizer/tokenizer.h"

// Models and parsers share the tokenizer itself, not the handle.
struct gptoss_tokenizer : gptoss::api::Handle<gptoss_tokenizer> {
    static constexpr bool kOnDevice = false;

    explicit gptoss_tokenizer(std::shared_ptr<const gptoss::text::Tokenizer> shared) : tokenizer(std::move(shared)) {}

    const std::shared_ptr<const gptoss::text::Tokenizer> tokenizer;
};
