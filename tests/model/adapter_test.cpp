// LoRA adapters: against golden logits of a model that they were merged into, and against the model in float64.
#include "engine/adapter.h"

#include "engine/engine.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

const char* const kForms[] = {"attention", "experts", "per-expert"};

struct Golden {
    explicit Golden(const std::string& form)
        : path(golden("adapters/" + form)), logits(read_array<float>(path + "/logits.f32")) {}
    std::string path;
    std::vector<uint32_t> tokens = read_array<uint32_t>(golden("tiny/tokens.u32"));
    std::vector<uint32_t> positions = read_array<uint32_t>(golden("adapters/positions.u32"));
    std::vector<float> logits;
};

model::ModelOptions options_of(bool kv_f16, model::Tier tier) {
    model::ModelOptions options;
    options.kv_f16 = kv_f16;
    options.tier = tier;
    return options;
}

// The logits after each position, of a context that computes prompts in batches of that many tokens.
std::vector<float> adapted_logits(const std::shared_ptr<const model::Model>& model, const model::Attachment& attachment,
                                  const Golden& g, uint64_t max_batch) {
    model::Sequence context(model, 0, max_batch);
    context.set_adapter(attachment);
    return logits_at(context, g.tokens, g.positions);
}

// As in golden_test.cpp
constexpr double kF32 = 1e-4, kDefault = 3e-3;

}  // namespace

TEST_CASE("adapter: golden logits of the three forms") {
    for (const bool kv_f16 : {false, true}) {
        const auto model = load(golden("tiny"), options_of(kv_f16, kv_f16 ? model::Tier::Default : model::Tier::Exact));
        for (const char* form : kForms) {
            CAPTURE(form);
            const Golden g(form);
            const model::Attachment attachment{model::open_adapter(model, g.path)};
            for (const uint64_t max_batch : {64, 7, 1}) {  // of one token: decode's kernels
                const double error = relative_l2(adapted_logits(model, attachment, g, max_batch), g.logits);
                MESSAGE(form << ": relative L2 error " << error << " in batches of " << max_batch);
                CHECK(error <= (kv_f16 ? kDefault : kF32));
            }
        }
    }
}
