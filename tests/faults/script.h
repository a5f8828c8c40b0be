// Rows of calls on a context that follow from a seed.
#pragma once

#include <gptoss.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "inject.h"

namespace gptoss::test {

constexpr uint32_t kVocabulary = 96;

// Ends the program unless the status is success.
void must(gptoss_status status, const char* what);

template <typename F>
gptoss_status in_library(const F& call) {
    const inject::InLibrary scope;
    return call();
}

std::vector<uint32_t> tokens_of(gptoss_context_t context);

// What a callback does at its n-th call.
struct Callback {
    enum Deed { None, Throw, ThrowNumber, Cancel, CallBack } deed = None;
    uint64_t at = 0, calls = 0;
    gptoss_context_t context = nullptr;
    gptoss_context_t other = nullptr;  // of the same model
    std::vector<uint32_t> tokens;
    std::string complaint;  // what CallBack saw that it must not
};
extern Callback callback;

enum class Call { Create, Append, Process, Logits, Sample, Generate, Truncate, Save, Restore, Fork, Profile };
extern const char* const call_names[];

struct Step {
    Call call;
    uint32_t count = 0;  // tokens
    uint64_t seed = 0;
};

// One run of a script.
class Run {
  public:
    explicit Run(gptoss_model_t m) : model_(m) {}
    Run(const Run&) = delete;
    ~Run();

    // extra: what the call gave beside tokens.
    gptoss_status call(const Step& step, std::vector<float>& extra);
    gptoss_context_t context() const { return context_; }

  private:
    gptoss_status generate(const Step& step);
    gptoss_status save();
    gptoss_status fork();

    gptoss_model_t model_;
    gptoss_context_t context_ = nullptr;
    std::vector<unsigned char> state_;
};

// What a run without a fault gave after each step.
struct Expected {
    std::vector<Step> script;
    std::vector<std::vector<uint32_t>> tokens;
    std::vector<std::vector<float>> extra;
    uint64_t opportunities = 0;
    uint64_t callbacks = 0;
};

// counted: the kind of faults whose opportunities are counted.
Expected run_without_fault(gptoss_model_t model, uint64_t seed, inject::Kind counted);

}  // namespace gptoss::test
