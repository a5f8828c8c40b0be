// Several contexts that generate together, with a fault or a callback's misdeed amid that.
#pragma once

#include <gptoss.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "inject.h"
#include "table.h"

namespace gptoss::test {

class Batch {
  public:
    static constexpr size_t kMost = 4;  // contexts

    // Contexts that follow from the seed, and what they come to without a fault; counts the opportunities of a kind.
    Batch(gptoss_model_t model, uint64_t seed, inject::Kind counted);

    uint64_t opportunities() const { return opportunities_; }
    uint64_t callbacks() const { return callbacks_; }

    enum class Deed { None, Throw, CancelAnother };

    // Runs them once more, with the fault that is armed or what the callback does at its at-th call. A generation that
    // does not succeed must have a status that it may have, and the tokens that it should have had until then; once
    // the fault is gone it must go on to the rest of them, and to the same logits. The others must have all of them.
    void run(Row& r, const std::function<bool()>& fired, const std::function<bool(gptoss_status)>& may_fail,
             Deed deed = Deed::None, uint64_t at = 0) const;

  private:
    struct Member {
        std::vector<uint32_t> prompt;
        uint64_t seed;
        size_t max_tokens;
        bool has_callback;
        // Of a run without a fault.
        std::vector<uint32_t> tokens = {};
        std::vector<float> logits = {};
    };
    class Contexts;

    gptoss_model_t model_;
    std::vector<Member> members_;
    uint64_t opportunities_ = 0, callbacks_ = 0;
};

}  // namespace gptoss::test
