// LoRA adapters: against golden logits of a model that they were merged into, and against the model in float64.
#include "engine/adapter.h"

#include <cstdlib>
#include <random>

#include "engine/engine.h"
#include "random_adapter.h"
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
                MESSAGE(std::string(form) << ": relative L2 error " << error << " in batches of " << max_batch);
                CHECK(error <= (kv_f16 ? kDefault : kF32));
            }
        }
    }
}

// GPTOSS_TEST_SEED repeats a run.
static uint64_t fresh_seed() {
    const char* given = std::getenv("GPTOSS_TEST_SEED");
    return given ? std::strtoull(given, nullptr, 10) : std::random_device()();
}

TEST_CASE("adapter: random ones against the model in float64, alone and in company") {
    const Shape shapes[] = {
        {.hidden = 96, .intermediate = 96, .heads = 4, .kv_heads = 1, .experts = 5, .active = 3},
        {.hidden = 64, .intermediate = 32, .experts = 3, .active = 1, .sliding = {true, false, false}}};
    uint64_t seed = fresh_seed();
    for (const Shape& shape : shapes) {
        CAPTURE(shape.text());
        for (;; seed++) {
            CAPTURE(seed);
            const SyntheticCheckpoint synthetic(shape, seed);
            const io::Checkpoint checkpoint(synthetic.path());
            const auto tokens = random_tokens(40, shape.vocab, seed);
            const std::vector<uint32_t> positions = {0, 7, 8, 24, 39};
            std::vector<std::unique_ptr<RandomAdapter>> adapters;
            std::vector<Expected> expected;
            for (const AdapterForm form : {AdapterForm::Fused, AdapterForm::PerExpert, AdapterForm::Gguf}) {
                adapters.push_back(std::make_unique<RandomAdapter>(checkpoint.config, form, seed));
                expected.push_back(reference_logits(checkpoint, tokens, positions, {}, adapters.back()->deltas()));
            }
            expected.push_back(reference_logits(checkpoint, tokens, positions));
            if (std::any_of(expected.begin(), expected.end(), [](const Expected& e) { return e.router_gap < 1e-5; }))
                continue;

            const auto model = load(synthetic.path(), options_of(false, model::Tier::Exact));
            std::vector<model::Attachment> attachments;
            for (const auto& adapter : adapters) attachments.push_back({model::open_adapter(model, adapter->path())});
            attachments.emplace_back();  // none
            for (size_t i = 0; i < attachments.size(); i++) {
                CAPTURE(i);
                model::Sequence context(model, 0, 16);
                context.set_adapter(attachments[i]);
                const double error = relative_l2(logits_at(context, tokens, positions), expected[i].logits);
                MESSAGE(shape.text() << " adapter " << i << " seed " << seed << ": relative L2 error " << error);
                CHECK(error <= kF32);
            }

            // the same in one batch, each from its own thread's point of view alone
            std::vector<std::unique_ptr<model::Sequence>> company;
            std::vector<model::Generation> all;
            const model::GenerateRequest request{.settings = {.temperature = 0}, .max_tokens = 5};
            for (const model::Attachment& attachment : attachments) {
                company.push_back(std::make_unique<model::Sequence>(model, 0, 16));
                company.back()->set_adapter(attachment);
                company.back()->append(tokens);
                all.push_back({company.back().get(), &request});
            }
            generate_together(all);
            for (size_t i = 0; i < company.size(); i++) {
                CAPTURE(i);
                REQUIRE(!all[i].error);
                model::Sequence alone(model, 0, 16);
                alone.set_adapter(attachments[i]);
                alone.append(tokens);
                uint64_t n = 0;
                alone.generate(request, &n);
                if (exact(*model)) CHECK(company[i]->tokens() == alone.tokens());
                check_same(*model, logits_of(*company[i]), logits_of(alone));
            }
            break;
        }
    }
}

TEST_CASE("adapter: a step without any is recorded as before, and prefixes are kept apart") {
    const auto& model = caching_model();
    const RandomAdapter random(model->config, AdapterForm::Fused, 7);
    const model::Attachment attachment{model::open_adapter(model, random.path()), 0.5f};
    const auto tokens = random_tokens(200, model->config.vocab, 90);
    const auto steps_of = [&](model::Sequence& s) {
        const model::GenerateRequest request{.max_tokens = 3};
        uint64_t n = 0;
        s.generate(request, &n);
        s.truncate(tokens.size());
        return s.stats();
    };
    model::Sequence plain(model, 0, 64), adapted(model, 0, 64);
    plain.append(tokens);
    const model::Sequence::Stats before = steps_of(plain);
    const std::vector<float> plain_logits = logits_of(plain);
    adapted.set_adapter(attachment);
    adapted.append(tokens);
    const model::Sequence::Stats with = steps_of(adapted);
    CHECK(with.prompt_tokens_computed == tokens.size());  // none of the other's prefixes
    CHECK(with.step_dispatches > before.step_dispatches);
    const std::vector<float> adapted_logits = logits_of(adapted);
    CHECK(relative_l2(adapted_logits, plain_logits) > 0.01);
    CHECK(steps_of(plain).step_dispatches == before.step_dispatches);

    model::Sequence again(model, 0, 64);
    again.set_adapter(attachment);
    again.append(tokens);
    check_same(*model, logits_of(again), adapted_logits);
    CHECK(again.stats().prompt_tokens_computed < 70);  // its own prefix is found
    // and back: the tokens stay
    again.set_adapter({});
    CHECK(again.tokens() == tokens);
    check_same(*model, logits_of(again), plain_logits);
    // another scale is another model
    model::Sequence other(model, 0, 64);
    other.set_adapter({attachment.adapter, 0.25f});
    other.append(tokens);
    CHECK(relative_l2(logits_of(other), adapted_logits) > 1e-3);
    CHECK(other.stats().prompt_tokens_computed == tokens.size());
}

TEST_CASE("adapter: a weight that is no number is refused, and nothing of the adapter stays") {
    const auto& model = small_model();
    const RandomAdapter random(model->config, AdapterForm::PerExpert, 11);
    const std::string file = random.path() + "/adapter_model.safetensors";
    const uint64_t before = model->device.available();
    {
        std::fstream bytes(file, std::ios::binary | std::ios::in | std::ios::out);
        bytes.seekp(-4, std::ios::end);
        bytes.write("\xff\xff\xff\xff", 4);  // NaN in every type
    }
    check_refused(Status::IoError, "no finite number", [&] { model::open_adapter(model, random.path()); });
    if (model->device.budget()) CHECK(model->device.available() == before);
}

// The kernels of batches in the other tiers, where the device has them.
TEST_CASE("adapter: golden logits in the tiers of cooperative matrices and of integers") {
    const vk::DeviceInfo device = vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE"));
    for (const model::Tier tier : {model::Tier::Coopmat, model::Tier::Integer}) {
        model::Tuning tuning = model::tuning_for_device(device);
        if (tier == model::Tier::Coopmat)
            model::use_coopmat(tuning, device);
        else
            model::use_integer(tuning, device);
        if (tuning.tier() != tier) continue;
        model::ModelOptions options = options_of(true, tier);
        const auto model = load(golden("tiny"), options);
        for (const char* form : kForms) {
            CAPTURE(form);
            const Golden g(form);
            const model::Attachment attachment{model::open_adapter(model, g.path)};
            const double error = relative_l2(adapted_logits(model, attachment, g, 128), g.logits);
            MESSAGE(std::string(form) << ": relative L2 error " << error << " in the tier");
            CHECK(error <= 2e-2);
        }
    }
}
