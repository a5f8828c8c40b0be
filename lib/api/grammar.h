// The handle behind gptoss_grammar_t.
#pragma once

#include <memory>

#include "api/common.h"
#include "text/grammar/grammar.h"

// Samplers and generations share the grammar itself, not the handle.
struct gptoss_grammar : gptoss::api::Handle<gptoss_grammar> {
    static constexpr bool kOnDevice = false;

    explicit gptoss_grammar(std::shared_ptr<const gptoss::text::Grammar> shared) : grammar(std::move(shared)) {}

    const std::shared_ptr<const gptoss::text::Grammar> grammar;
};
