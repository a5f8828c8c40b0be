// The context's handle.
#pragma once

#include <memory>

#include "api/common.h"
#include "api/model.h"
#include "engine/sequence.h"

struct gptoss_context : gptoss::api::Handle<gptoss_context> {
    gptoss_context(const gptoss_model& of, size_t context_length, size_t max_batch_tokens)
        : tokenizer(of.tokenizer), sequence(of.model, context_length, max_batch_tokens) {}

    explicit gptoss_context(gptoss_context& forked) : tokenizer(forked.tokenizer), sequence(forked.sequence) {}

    static constexpr bool kOnDevice = true;

    const std::shared_ptr<const gptoss::text::Tokenizer> tokenizer;
    gptoss::model::Sequence sequence;
    gptoss::api::Turn::Owner turn{};
};

namespace gptoss::api {

// A context that a call uses, while no other does.
class Use {
  public:
    explicit Use(gptoss_context_t handle, Turn::Kind kind = Turn::Kind::Changes)
        : held_(handle, "context"), turn_(handle->turn, kind) {}

    model::Sequence* operator->() const { return &held_->sequence; }

  private:
    const Held<gptoss_context> held_;
    const Turn turn_;
};

}  // namespace gptoss::api
