// The handle behind gptoss_adapter_t.
#pragma once

#include <memory>

#include "api/common.h"
#include "engine/adapter.h"

// Contexts share the adapter itself, not the handle.
struct gptoss_adapter : gptoss::api::Handle<gptoss_adapter> {
    static constexpr bool kOnDevice = true;

    explicit gptoss_adapter(std::shared_ptr<const gptoss::model::Adapter> shared) : adapter(std::move(shared)) {}

    const std::shared_ptr<const gptoss::model::Adapter> adapter;
};
