// Generation: steps ahead of the host must be what one step at a time gives.
#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "base/error.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

constexpr uint32_t kVocab = 96;

struct Run {
    std::vector<uint32_t> tokens;
    model::StopReason reason;
    uint64_t n = 0;
};

Run generate(model::Sequence& context, const model::GenerateRequest& request) {
    Run run;
    const size_t before = context.tokens().size();
    run.reason = context.generate(request, &run.n);
    run.tokens.assign(context.tokens().begin() + static_cast<ptrdiff_t>(before), context.tokens().end());
    CHECK(run.tokens.size() == run.n);
    return run;
}

model::GenerateRequest greedy(uint64_t max_tokens) {
    model::GenerateRequest request{.max_tokens = max_tokens};
    request.settings.temperature = 0;
    return request;
}

model::GenerateRequest sampled(uint64_t max_tokens, uint64_t seed) {
    model::GenerateRequest request{.max_tokens = max_tokens};
    request.settings.seed = seed;
    return request;
}

std::vector<uint32_t> prompt() { return random_tokens(30, kVocab, 40); }

}  // namespace

TEST_CASE("greedy generation takes the likeliest token of every step") {
    const auto& model = small_model();
    model::Sequence context(model, 0, 0), stepwise(model, 0, 0);
    context.append(prompt());
    const Run run = generate(context, greedy(25));
    CHECK(run.n == 25);
    CHECK(run.reason == model::StopReason::MaxTokens);
    stepwise.append(prompt());
    for (const uint32_t token : run.tokens) {
        CHECK(token == argmax(logits_of(stepwise)));
        stepwise.append(std::vector{token});
    }
    check_same(*model, logits_of(context), logits_of(stepwise));
}

TEST_CASE("one call for many tokens is many calls for one") {
    const auto& model = small_model();
    model::Sequence at_once(model, 0, 0), one_by_one(model, 0, 0), again(model, 0, 0);
    for (model::Sequence* c : {&at_once, &one_by_one, &again}) c->append(prompt());
    const Run run = generate(at_once, sampled(20, 5));
    for (int i = 0; i < 20; i++) generate(one_by_one, sampled(1, 5));
    CHECK(one_by_one.tokens() == at_once.tokens());
    for (const int n : {3, 1, 7, 9}) generate(again, sampled(static_cast<uint64_t>(n), 5));
    CHECK(again.tokens() == at_once.tokens());
    CHECK(run.tokens != generate(again, sampled(20, 6)).tokens);
}

TEST_CASE("settings of the sampler reach the draw, and change between calls") {
    const auto& model = small_model();
    model::Sequence context(model, 0, 0), likeliest(model, 0, 0);
    context.append(prompt());
    likeliest.append(prompt());
    const Run expected = generate(likeliest, greedy(12));
    const auto check_greedy = [&](const model::GenerateRequest& request) {
        context.truncate(30);
        CHECK(generate(context, request).tokens == expected.tokens);
    };
    model::GenerateRequest request = sampled(12, 1);
    CHECK(generate(context, request).tokens != expected.tokens);
    request.settings.top_k = 1;
    check_greedy(request);
    request = sampled(12, 1);
    request.settings.top_p = 1e-6f;
    check_greedy(request);
    request = sampled(12, 1);
    request.settings.min_p = 1;
    check_greedy(request);
    request = sampled(12, 1);
    request.settings.temperature = 1e-4f;
    check_greedy(request);
}

TEST_CASE("penalties count the answer and the context as they say") {
    const auto& model = small_model();
    model::Sequence context(model, 0, 0);
    // as strong as the API allows: the most penalized of tokens that were likeliest differ from the plain run
    const auto run_with = [&](float presence, float frequency, float repetition) {
        context.truncate(0);
        context.append(prompt());
        std::vector<uint32_t> tokens, seen = prompt();
        std::vector<uint32_t> answer;
        model::GenerateRequest request = greedy(1);
        request.settings.presence = presence;
        request.settings.frequency = frequency;
        request.settings.repetition = repetition;
        for (int i = 0; i < 48; i++) {
            std::vector<float> logits = logits_of(context);
            for (uint32_t t = 0; t < kVocab; t++) {
                const auto in_answer = static_cast<float>(std::count(answer.begin(), answer.end(), t));
                if (std::count(seen.begin(), seen.end(), t))
                    logits[t] = logits[t] > 0 ? logits[t] / repetition : logits[t] * repetition;
                logits[t] -= frequency * in_answer + (in_answer > 0 ? presence : 0);
            }
            const uint32_t expected = argmax(logits), got = generate(context, request).tokens.at(0);
            CAPTURE(i);
            CHECK(got == expected);
            answer.push_back(got);
            seen.push_back(got);
        }
        // the same in one call, where the device counts on its own
        context.truncate(0);
        context.append(prompt());
        request.max_tokens = 48;
        CHECK(generate(context, request).tokens == answer);
        return answer;
    };
    const auto plain = run_with(0, 0, 1);
    CHECK(run_with(2, 0, 1) != plain);
    CHECK(run_with(0, 2, 1) != plain);
    CHECK(run_with(0, 0, 2) != plain);
    run_with(-2, 1.5f, 1.3f);
}

TEST_CASE("a stop token ends the generation and is kept") {
    const auto& model = small_model();
    model::Sequence context(model, 0, 0);
    context.append(prompt());
    const Run free = generate(context, sampled(20, 8));
    context.truncate(30);
    model::GenerateRequest request = sampled(20, 8);
    request.stop_tokens = {kVocab + 5, free.tokens[11]};
    const size_t first =
        static_cast<size_t>(std::find(free.tokens.begin(), free.tokens.end(), free.tokens[11]) - free.tokens.begin());
    const Run stopped = generate(context, request);
    CHECK(stopped.reason == model::StopReason::StopToken);
    CHECK(stopped.tokens == std::vector(free.tokens.begin(), free.tokens.begin() + static_cast<ptrdiff_t>(first) + 1));
    check_same(*model, logits_of(context), fresh_logits(model, context.tokens()));
    // and goes on as if it had not stopped
    const Run rest = generate(context, sampled(20 - stopped.n, 8));
    CHECK(std::equal(rest.tokens.begin(), rest.tokens.end(), free.tokens.begin() + static_cast<ptrdiff_t>(stopped.n)));
}

TEST_CASE("a callback sees every token once it is appended, and may stop") {
    const auto& model = small_model();
    model::Sequence context(model, 0, 0);
    context.append(prompt());
    model::GenerateRequest request = sampled(20, 8);
    std::vector<uint32_t> seen;
    request.on_token = [&](const model::Drawn& drawn, bool) {
        seen.push_back(drawn.token);
        CHECK(context.tokens().back() == drawn.token);
        CHECK(context.tokens().size() == 30 + seen.size());
        return seen.size() == 9 ? model::StopReason::Callback : model::StopReason::None;
    };
    const Run run = generate(context, request);
    CHECK(run.reason == model::StopReason::Callback);
    CHECK(run.n == 9);
    CHECK(run.tokens == seen);
    check_same(*model, logits_of(context), fresh_logits(model, context.tokens()));
}

TEST_CASE("an exception of the callback leaves what it was handed") {
    const auto& model = small_model();
    model::Sequence context(model, 0, 0);
    context.append(prompt());
    model::GenerateRequest request = sampled(20, 8);
    int calls = 0;
    request.on_token = [&](const model::Drawn&, bool) -> model::StopReason {
        if (++calls == 5) throw std::runtime_error("the callback's own");
        return model::StopReason::None;
    };
    uint64_t n = 0;
    CHECK_THROWS_WITH_AS(context.generate(request, &n), "the callback's own", Error);
    CHECK(n == 5);
    CHECK(context.tokens().size() == 35);
    check_same(*model, logits_of(context), fresh_logits(model, context.tokens()));
}

TEST_CASE("generation ends where the context is full") {
    const auto& model = small_model();
    model::Sequence context(model, 40, 40);
    context.append(prompt());
    const Run run = generate(context, sampled(0, 8));
    CHECK(run.reason == model::StopReason::ContextFull);
    CHECK(run.n == 10);
    check_same(*model, logits_of(context), fresh_logits(model, context.tokens()));
    CHECK(generate(context, sampled(3, 8)).n == 0);
    context.truncate(38);
    CHECK(generate(context, sampled(2, 8)).reason == model::StopReason::MaxTokens);
    context.truncate(38);
    CHECK(generate(context, sampled(3, 8)).reason == model::StopReason::ContextFull);
}

TEST_CASE("another thread cancels a generation and a prefill, and the context goes on") {
    const auto& model = small_model();
    model::Sequence context(model, 0, 1);
    context.append(prompt());
    model::GenerateRequest request = sampled(2000, 8);
    std::atomic<uint64_t> generated{0};
    request.on_token = [&](const model::Drawn&, bool) {
        generated++;
        return model::StopReason::None;
    };
    uint64_t n = 0;
    {
        std::jthread canceller([&] {
            while (generated < 5) std::this_thread::yield();
            context.cancel();
        });
        CHECK_THROWS_WITH_AS(context.generate(request, &n), "cancelled", Error);
    }
    CHECK(n >= 5);
    CHECK(n < 2000);
    CHECK(n == generated);
    CHECK(context.tokens().size() == 30 + n);
    check_same(*model, logits_of(context), fresh_logits(model, context.tokens()));

    const auto long_prompt = random_tokens(2000, kVocab, 41);
    context.truncate(0);
    context.append(long_prompt);
    {
        std::jthread canceller([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            context.cancel();
        });
        CHECK_THROWS_WITH_AS(context.process(), "cancelled", Error);
    }
    CHECK(context.tokens() == long_prompt);
    context.truncate(100);
    check_same(*model, logits_of(context), fresh_logits(model, std::span(long_prompt).first(100)));
}

// The self-test compiles kernels too; what it found is in the cache then, so that the other loads make none.
TEST_CASE("warm-up: the first answer of a model that was warmed compiles no kernel") {
    const SyntheticCheckpoint synthetic(Shape{}, 1);
    model::ModelOptions options;
    options.cache_directory = synthetic.path() + "/cache";
    load(synthetic.path(), options);
    const auto compiled_by_first_answer = [&](bool warm) {
        options.warm_up = warm;
        const auto model = load(synthetic.path(), options);
        model::Sequence context(model, 0, 0);
        context.append(prompt());
        const Counter counter(*model);
        CHECK(generate(context, greedy(4)).n == 4);
        return Counter::pipelines;
    };
    CHECK(compiled_by_first_answer(false) > 0);
    CHECK(compiled_by_first_answer(true) == 0);
}
