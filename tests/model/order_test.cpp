// Barriers: see command_stream.h. The commands between two barriers run in other orders, with the same results, and no
// barrier is there that nothing needs.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "command_stream.h"
#include "engine/memory.h"
#include "forward/taps.h"
#include "random_adapter.h"
#include "spirv.h"
#include "support.h"
#include "text/grammar/grammar.h"
#include "vk/transfer.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

using Order = CommandStream::Order;

const Shape kShape{.heads = 16, .experts = 8, .active = 4};

void draw(model::Sequence& sequence, const model::SamplerSettings& settings) {
    model::GenerateRequest request;
    request.settings = settings;
    request.max_tokens = 5;
    uint64_t n = 0;
    sequence.generate(request, &n);
}

// The logits of a prompt, tokens that are drawn one by one, and those of another timeline that shares its pages.
std::vector<float> answer(const std::shared_ptr<const model::Model>& model, const model::Attachment& adapter,
                          uint32_t n_prompt, uint64_t seed = 80) {
    model::Sequence sequence(model, 0, 64);
    sequence.set_adapter(adapter);
    sequence.append(random_tokens(n_prompt, kShape.vocab, seed));
    std::vector<float> all = logits_of(sequence);
    draw(sequence, {.temperature = 0, .repetition = 1.1f});
    model::Sequence other(sequence);
    draw(other, {.temperature = 0.8f, .top_k = 20});
    for (model::Sequence* s : {&sequence, &other}) {
        const std::vector<float> logits = logits_of(*s);
        all.insert(all.end(), logits.begin(), logits.end());
        all.insert(all.end(), s->tokens().begin(), s->tokens().end());
    }
    return all;
}

void check_none(const CommandStream& stream) {
    for (const std::string& hazard : stream.hazards()) FAIL_CHECK(hazard);
}

void check_order(const model::ModelOptions& options, uint32_t n_prompt, bool adapted = false) {
    const SyntheticCheckpoint synthetic(kShape, 81);
    const RandomAdapter random(io::Checkpoint(synthetic.path()).config, AdapterForm::Fused, 82, true);
    const auto attach = [&](const std::shared_ptr<const model::Model>& model) {
        // scaled, so that what goes wrong in it changes what is drawn
        return adapted ? model::Attachment{model::open_adapter(model, random.path()), 6} : model::Attachment{};
    };
    std::vector<float> expected;
    {
        const auto model = load(synthetic.path(), options);
        expected = answer(model, attach(model), n_prompt);
    }
    for (const Order order : {Order::Reversed, Order::Random, Order::Random}) {
        CommandStream stream(order, 83);
        const auto model = load(synthetic.path(), options);
        CHECK((answer(model, attach(model), n_prompt) == expected));
        check_none(stream);
    }
    CommandStream stream;
    const auto model = load(synthetic.path(), options);
    const model::Attachment adapter = attach(model);
    answer(model, adapter, n_prompt);
    check_none(stream);
    stream.reset();
    answer(model, adapter, n_prompt);
    check_none(stream);
    const std::vector<CommandStream::Barrier> barriers = stream.barriers();
    REQUIRE(barriers.size() > 30);
    std::set<std::tuple<const void*, std::string, std::string>> omitted;  // layers have the same ones
    for (size_t i = 0; i < barriers.size(); i++) {
        const CommandStream::Barrier& barrier = barriers[i];
        if (!barrier.inside) continue;
        CHECK_MESSAGE(barrier.guards,
                      "nothing needs the barrier after " << barrier.before << ", before " << barrier.after);
        if (!omitted.emplace(barrier.site, barrier.before, barrier.after).second) continue;
        stream.reset();
        stream.omit(i);
        answer(model, adapter, n_prompt);
        CHECK_MESSAGE(!stream.hazards().empty(), "the barrier after " << barrier.before << ", before " << barrier.after
                                                                      << " can be left out, and nobody objects");
    }
}

// That a dispatch touches what the table of shaders/accesses.h says and nothing else. Returns the kernels that ran.
std::vector<std::string> check_table(const model::ModelOptions& options, uint32_t n_prompt, bool adapted = false) {
    const SyntheticCheckpoint synthetic(kShape, 81);
    const RandomAdapter random(io::Checkpoint(synthetic.path()).config, AdapterForm::Fused, 82, true);
    CommandStream stream;
    const auto model = load(synthetic.path(), options);
    model::Attachment adapter;
    if (adapted) adapter = {model::open_adapter(model, random.path()), 6};
    stream.check_table();
    model::Sequence sequence(model, 0, 64);
    sequence.set_adapter(adapter);
    sequence.append(random_tokens(n_prompt, kShape.vocab, 84));
    model::Tap tap{.kinds = model::kTapKinds, .layers = std::vector<bool>(model->config.n_layers, true)};
    tap.on_tapped = [](const model::Tapped&) {};
    sequence.set_tap(tap);
    logits_of(sequence);
    sequence.set_tap({});
    model::GenerateRequest request{.bias = {{3, 1.5f}}, .max_tokens = 2};
    request.settings = {.temperature = 0.8f, .top_k = 20, .repetition = 1.1f};
    uint64_t n = 0;
    sequence.generate(request, &n);
    check_none(stream);
    return stream.kernels();
}

model::ModelOptions only(model::Tier tier, const model::Tuning& candidate) {
    model::ModelOptions options;
    options.cache_directory = "";
    options.tier = tier;
    options.candidates = {candidate};
    return options;
}

}  // namespace

TEST_CASE("order: kernels touch what the table of accesses says") {
    const vk::DeviceInfo device = vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE"));
    std::set<std::string_view> missing(spirv_names().begin(), spirv_names().end());
    const auto check = [&](model::Tier tier, const model::Tuning& tuning, uint32_t n_prompt, bool adapted) {
        for (const std::string& kernel : check_table(only(tier, tuning), n_prompt, adapted)) missing.erase(kernel);
    };
    const model::Tuning exact{.decode_splits = 2, .batch_splits = 2, .attention_splits = 4};
    for (const bool adapted : {false, true}) {
        check(model::Tier::Exact, exact, 1, adapted);
        check(model::Tier::Exact, exact, 40, adapted);
        model::Tuning tuning = model::tuning_for_device(device);
        model::use_integer(tuning, device);
        tuning.integer_batch = 16;
        if (device.integer_dot) check(model::Tier::Integer, tuning, 40, adapted);
        tuning = model::tuning_for_device(device);
        model::use_coopmat(tuning, device);
        if (!tuning.coopmat()) continue;
        tuning.coopmat_batch = 16;
        check(model::Tier::Coopmat, tuning, 40, adapted);
    }
    for (const std::string_view kernel : missing) {
        const bool here = kernel.ends_with("_coopmat") || kernel == "dense_halve"   ? device.coopmat.m > 0
                          : kernel.ends_with("_integer") || kernel == "dense_round" ? device.integer_dot
                                                                                    : true;
        CHECK_MESSAGE(!here, kernel << " did not run");
    }
}

TEST_CASE("order: hazards are found, and named") {
    const CommandStream stream;
    const auto model = load(golden("tiny"), only(model::Tier::Exact, {}));
    CHECK(stream.hazards().empty());
    vk::Commands commands(model->device, model->pipelines);
    const vk::Buffer host(model->device, 256, vk::Memory::Upload, "a test's");
    const vk::Buffer device(model->device, 256, vk::Memory::Device, "a test's");
    const auto has = [&](const std::string& text) {
        return std::any_of(stream.hazards().begin(), stream.hazards().end(),
                           [&](const std::string& hazard) { return hazard.find(text) != std::string::npos; });
    };
    commands.begin();
    commands.barrier();
    commands.copy(host, 0, device, 0, 64);
    commands.copy(host, 64, device, 64, 64);
    commands.end();
    commands.submit();
    commands.wait();
    CHECK(stream.hazards().empty());
    commands.submit();
    host.as<uint32_t>()[3] = 1;
    commands.wait();
    CHECK(
        has("the host wrote, before it waited, what copy reads source [" + std::to_string(host.address()) + ", +64)"));
    commands.begin();
    commands.copy(device, 60, host, 128, 8);
    commands.finish();
    const std::string at = std::to_string(device.address());
    CHECK(has("copy reads source [" + std::to_string(device.address() + 60) +
              ", +8) with no barrier after copy writes destination [" + at + ", +64)"));
    commands.begin();
    commands.zero(device);
    commands.finish();
    CHECK(has("fill writes destination [" + at));
}

// Barriers at the start of a submit guard what earlier ones left, each in some of the many ways in which one may follow
// another.
TEST_CASE("order: every place that records a barrier needs it") {
    Shape shape = kShape;
    shape.sliding = {false, true};  // a batch without logits ends in what windows are copied of
    shape.vocab = 128;
    const SyntheticCheckpoint synthetic(shape, 85);
    model::ModelOptions options = only(model::Tier::Exact, {.attention_splits = 4});
    options.prefix_bytes = 64 << 20;
    options.context_length = 1024;
    options.message_start = 5;
    // some experts lie in host memory, some of them are copied
    const io::Checkpoint checkpoint(synthetic.path());
    const uint64_t reserved = room_for_weights(checkpoint.config, options, vk::choose_device(options.device)).reserved;
    options.memory_budget = estimate_memory(checkpoint, options, 1024, 64).weights.device + reserved - 65536;
    options.host_memory = 64 << 20;

    CommandStream stream;
    struct Site {
        std::string before, after;
        bool guards = false;
    };
    std::map<const void*, Site> sites;
    {
        const auto model = load(synthetic.path(), options);
        REQUIRE(model->weights.expert_cache());
        const auto token_table = std::make_shared<const text::TokenTable>(text::Tokenizer::o200k_harmony());
        model::Sequence sequence(model, 1024, 64);
        uint64_t n = 0;
        const auto generate = [&](model::Sequence& s, model::GenerateRequest request) {
            request.max_tokens = 4;
            s.generate(request, &n);
        };
        sequence.append(random_tokens(620, shape.vocab, 86));
        model::GenerateRequest penalized{.bias = {{3, 1.5f}}};
        penalized.settings = {.temperature = 0, .repetition = 1.2f, .presence = 0.5f};
        for (int i = 0; i < 3; i++) generate(sequence, penalized);
        logits_of(sequence);
        generate(sequence, penalized);  // drawn from logits that are known
        for (const model::Logprobs logprobs : {model::Logprobs::Model, model::Logprobs::Drawn})
            for (int i = 0; i < 2; i++) generate(sequence, {.logprobs = logprobs, .n_top = 3});
        sequence.append(random_tokens(1, shape.vocab, 88));  // after which an answer begins
        generate(sequence, {.grammar = text::Grammar::from_regex(token_table, "[a-z ]{8,}")});
        generate(sequence, {.grammar = text::Grammar::from_regex(token_table, "[a-z ]{8,}"),
                            .logprobs = model::Logprobs::Drawn,
                            .n_top = 3});
        {
            // where nothing is copied in between: neither experts nor, of so short a sequence, a prefix
            const auto roomy = load(synthetic.path(), only(model::Tier::Exact, {}));
            model::Sequence brief(roomy, 64, 32);
            brief.append(random_tokens(5, shape.vocab, 89));
            logits_of(brief);
            generate(brief, {});
        }
        std::vector<std::byte> state(sequence.save({}));
        sequence.save(state);
        model::Sequence other(sequence);
        generate(other, {});
        generate(sequence, penalized);
        other.restore(state);
        generate(other, {});
        sequence.append(random_tokens(70, shape.vocab, 87));
        logits_of(sequence);
        sequence.logprobs(4, 20, 2);
        // transfers both ways, and an expert's first copy, of what was submitted just before
        const vk::Buffer device(model->device, 1024, vk::Memory::Device, "a test's");
        const vk::Buffer table(model->device, sizeof(args::Expert), vk::Memory::Device, "a test's");
        const vk::Buffer uses(model->device, 4, vk::Memory::Device, "a test's");
        vk::Commands commands(model->device, model->pipelines);
        commands.begin();
        commands.zero(device);
        commands.finish();
        std::vector<std::byte> bytes(1024, std::byte{7});
        vk::Transfer transfer(model->device, model->pipelines, vk::Memory::Readback, 1024);
        transfer.read(device, 0, 1024, bytes.data());
        transfer.finish();
        CHECK(bytes[500] == std::byte{0});
        vk::Transfer back(model->device, model->pipelines, vk::Memory::Upload, 1024);
        back.write(device, 0, 1024, bytes.data());
        back.finish();
        commands.begin();
        commands.zero(table);
        commands.finish();
        const model::ExpertCache experts(model->device, model->pipelines,
                                         {&table, &uses, 256, 512, {{&device, 0}}, {false}, {{&device, 512}}});
    }
    check_none(stream);
    for (const CommandStream::Barrier& barrier : stream.barriers()) {
        Site& site = sites[barrier.site];
        site.guards |= barrier.guards;
        if (site.before.empty() || barrier.guards) site = {barrier.before, barrier.after, site.guards};
    }
    CHECK(sites.size() > 20);
    for (const auto& [where, site] : sites)
        CHECK_MESSAGE(site.guards, "nothing needs the barrier of " << stream.name(where) << ", after " << site.before
                                                                   << ", before " << site.after);
}

TEST_CASE("order: every barrier counts, and nothing else does: exact kernels") {
    const model::Tuning tuning{.lanes = 32, .decode_splits = 2, .batch_splits = 2, .attention_splits = 4};
    check_order(only(model::Tier::Exact, tuning), 1);
    check_order(only(model::Tier::Exact, tuning), 40);
}

TEST_CASE("order: every barrier counts, and nothing else does: adapters") {
    const model::Tuning tuning{.lanes = 32, .decode_splits = 2, .batch_splits = 2, .attention_splits = 4};
    check_order(only(model::Tier::Exact, tuning), 1, true);
    check_order(only(model::Tier::Exact, tuning), 40, true);
}

TEST_CASE("order: every barrier counts, and nothing else does: integers") {
    const vk::DeviceInfo device = vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE"));
    model::Tuning tuning = model::tuning_for_device(device);
    model::use_integer(tuning, device);
    if (!tuning.integer()) return;
    tuning.integer_batch = 16;
    check_order(only(model::Tier::Integer, tuning), 40);
}

TEST_CASE("order: every barrier counts, and nothing else does: cooperative matrices") {
    const vk::DeviceInfo device = vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE"));
    model::Tuning tuning = model::tuning_for_device(device);
    model::use_coopmat(tuning, device);
    if (!tuning.coopmat()) return;
    tuning.coopmat_batch = 16;
    check_order(only(model::Tier::Coopmat, tuning), 40);
}
