// Prompt lookup: fewer forward passes, the same tokens.
#include "engine/drafts.h"

#include <algorithm>

#include "at_end.h"
#include "base/error.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

using Tokens = std::vector<uint32_t>;
using model::PromptLookup;

constexpr uint32_t kVocab = 96;

// A model that writes 0, 1, 2, … whatever it reads before: the corrected copy of a text that counts.
const std::shared_ptr<const model::Model>& counting_model() {
    static std::shared_ptr<const model::Model> model;
    if (!model) {
        model = load(SyntheticCheckpoint({.hidden = 128, .vocab = kVocab, .counts = true}, 80).path());
        at_end().push_back([] { model.reset(); });
    }
    return model;
}

// A text of n tokens with an error in every 24.
Tokens text_with_errors(uint32_t n) {
    Tokens tokens(n);
    for (uint32_t i = 0; i < n; i++) tokens[i] = i % 24 == 10 ? (i + 17) % kVocab : i % kVocab;
    return tokens;
}

// What the model makes of it.
Tokens joined_with_count(Tokens tokens, uint32_t n) {
    for (; n > 0; n--) tokens.push_back((tokens.back() + 1) % kVocab);
    return tokens;
}

struct Run {
    Tokens tokens;
    model::Sequence::Stats stats;
};

Run run(const std::shared_ptr<const model::Model>& model, const Tokens& prompt, model::GenerateRequest request,
        PromptLookup lookup, uint32_t max_batch = 32) {
    request.lookup = lookup;
    model::Sequence sequence(model, 0, max_batch);
    sequence.append(prompt);
    uint64_t n = 0;
    sequence.generate(request, &n);
    CHECK(sequence.tokens().size() == prompt.size() + n);
    const model::Sequence::Stats stats = sequence.stats();
    check_same(*model, logits_of(sequence), fresh_logits(model, sequence.tokens()));
    return {sequence.tokens(), stats};
}

// Both ways of asking for drafts, beside none: returns what came with all that there were.
Run check_lossless(const std::shared_ptr<const model::Model>& model, const Tokens& prompt,
                   const model::GenerateRequest& request, uint32_t max_batch = 32) {
    const Run plain = run(model, prompt, request, PromptLookup::Off, max_batch);
    Run drafted;
    for (const PromptLookup lookup : {PromptLookup::Auto, PromptLookup::Always}) {
        drafted = run(model, prompt, request, lookup, max_batch);
        if (exact(*model)) CHECK(drafted.tokens == plain.tokens);
        CHECK(drafted.stats.decode_steps <= plain.stats.decode_steps + 2);  // those after the last token count too
        CHECK(drafted.stats.prompt_tokens_computed == plain.stats.prompt_tokens_computed);
    }
    return drafted;
}

}  // namespace

TEST_CASE("drafts: what follows is what followed before") {
    model::Drafts drafts;
    Tokens text{5, 1, 2, 3, 4, 9, 8};
    const auto add = [&](uint32_t token) {
        drafts.add(text, token);
        text.push_back(token);
    };
    const auto next = [&](uint32_t n) { return drafts.next(std::span(text).first(text.size() - 1), text.back(), n); };
    add(1), add(2);
    CHECK(!drafts.any());
    add(3);
    REQUIRE(drafts.any());
    CHECK(next(3) == Tokens{4, 9, 8});
    CHECK(next(7) == Tokens{4, 9, 8, 1, 2, 3, 4});  // and so on, as far as one likes
    const double before = drafts.expected(3);
    add(4), add(9), add(8);
    CHECK(drafts.expected(3) > before);
    CHECK(drafts.expected(7) > drafts.expected(3));
    add(7);
    CHECK(!drafts.any());
    add(7), add(7);
    CHECK(!drafts.any());
    add(7);
    CHECK(next(4) == Tokens{7, 7, 7, 7});
    drafts.forget();
    CHECK(!drafts.any());
}

TEST_CASE("drafts: they are made where they pay") {
    model::StepTimes times;
    const auto all_right = [](uint32_t n) { return n + 1.0; };
    const auto none_right = [](uint32_t) { return 1.0; };
    CHECK(times.best_draft(7, all_right) == 0);  // nothing is known
    for (int i = 0; i < 4; i++) times.add(1, 1);
    CHECK(times.best_draft(7, all_right) == 7);
    CHECK(times.best_draft(6, all_right) == 3);
    CHECK(times.best_draft(0, all_right) == 0);
    CHECK(times.best_draft(7, none_right) == 0);
    for (int i = 0; i < 60; i++) times.add(8, 9);
    CHECK(times.best_draft(7, all_right) == 3);
    for (int i = 0; i < 60; i++) times.add(4, 5), times.add(2, 2.5);
    CHECK(times.best_draft(7, all_right) == 0);
    int refused = 0;
    while (times.best_draft(7, all_right) == 0) refused++;  // and is tried again in time
    CHECK(refused > 100);
    CHECK(refused < 2000);
    for (int i = 0; i < 60; i++) times.add(1, 1), times.add(8, 3);
    times.add(8, 1000);  // something else took the device
    CHECK(times.best_draft(7, all_right) == 7);
}

TEST_CASE("drafts: an editing task takes few forward passes, with the same tokens") {
    const auto& model = counting_model();
    const Tokens prompt = text_with_errors(192);  // twice around, and the answer goes on with it
    const auto tokens_a_pass = [&](const model::SamplerSettings& settings) {
        const Run drafted = check_lossless(model, prompt, {.settings = settings, .max_tokens = 90});
        const double passes = static_cast<double>(drafted.stats.decode_steps);
        MESSAGE((90 / passes) << " tokens a forward pass");
        if (settings.temperature == 0) CHECK(drafted.tokens == joined_with_count(prompt, 90));  // as it is to be
        return 90 / passes;
    };
    CHECK(tokens_a_pass({.temperature = 0}) >= 1.5);
    // hot enough that it strays now and then
    CHECK(tokens_a_pass({.temperature = 120, .seed = 3}) > 1);
    CHECK(tokens_a_pass({.temperature = 150, .top_k = 5, .top_p = 0.95f, .seed = 4}) > 1);
}

TEST_CASE("drafts: any text, any settings") {
    const auto& model = small_model();
    for (const uint32_t i : {0, 1, 2}) {
        CAPTURE(i);
        Tokens prompt = random_tokens(60, kVocab, 90 + i);
        prompt.insert(prompt.end(), prompt.begin(), prompt.begin() + 40);
        model::GenerateRequest request{.max_tokens = 40};
        request.settings.seed = i;
        if (i == 0) request.settings.temperature = 0;  // which comes to repeat itself
        if (i == 1) request.settings.temperature = 0.3f;
        if (i == 2) request.settings.presence = 0.7f, request.settings.repetition = 1.2f;
        const Run drafted = check_lossless(model, prompt, request, i == 1 ? 4 : 32);
        if (i == 2) {
            CHECK(drafted.stats.decode_steps >= 39);  // whose draws depend on the tokens before
            continue;
        }
        // a stop token that may come in the middle of a draft, and limits
        request.stop_tokens = {drafted.tokens[prompt.size() + 27]};
        check_lossless(model, prompt, request);
        request.stop_tokens.clear();
        for (const uint64_t n : {1, 6, 8}) {
            request.max_tokens = n;
            check_lossless(model, prompt, request);
        }
    }
}

TEST_CASE("drafts: callbacks, several calls, and the end of the context") {
    const auto& model = counting_model();
    const Tokens prompt = text_with_errors(192);
    model::GenerateRequest request{.settings = {.temperature = 0}, .lookup = PromptLookup::Always};
    model::Sequence sequence(model, 304, 32);
    sequence.append(prompt);
    Tokens heard = prompt;
    int left = 0;
    request.on_token = [&](const model::Drawn& drawn, bool) {
        heard.push_back(drawn.token);
        CHECK(sequence.tokens().size() == heard.size());
        return --left == 0 ? model::StopReason::Callback : model::StopReason::None;
    };
    uint64_t n = 0;
    for (const int stop : {1, 5, 20, 30}) {  // in the middle of drafts
        left = stop;
        CHECK(sequence.generate(request, &n) == model::StopReason::Callback);
        CHECK(n == static_cast<uint64_t>(stop));
    }
    CHECK(heard == joined_with_count(prompt, 56));
    CHECK(sequence.tokens() == heard);
    check_same(*model, logits_of(sequence), fresh_logits(model, sequence.tokens()));
    request.on_token = nullptr;
    CHECK(sequence.generate(request, &n) == model::StopReason::ContextFull);
    CHECK(sequence.tokens() == joined_with_count(prompt, 112));
    // going back, and another text: what was drafted is nowhere left
    sequence.truncate(204);
    sequence.append(Tokens{7, 50, 51, 52});
    request.max_tokens = 30;
    sequence.generate(request, &n);
    Tokens expected = joined_with_count(prompt, 12);
    expected.insert(expected.end(), {7, 50, 51, 52});
    CHECK(sequence.tokens() == joined_with_count(expected, 30));
    check_same(*model, logits_of(sequence), fresh_logits(model, sequence.tokens()));
}

TEST_CASE("drafts: in company there are none, and alone there are again") {
    const auto& model = counting_model();
    const Tokens prompt = text_with_errors(192);
    model::GenerateRequest request{.settings = {.temperature = 0}, .max_tokens = 100, .lookup = PromptLookup::Always};
    model::GenerateRequest short_request = request;
    short_request.max_tokens = 10;
    model::Sequence a(model, 0, 32), b(model, 0, 32);
    a.append(prompt);
    b.append(prompt);
    model::Generation both[] = {{&a, &request}, {&b, &short_request}};
    generate_together(both);
    CHECK(a.tokens() == joined_with_count(prompt, 100));
    CHECK(b.tokens() == joined_with_count(prompt, 10));
    CHECK(a.stats().decode_steps < 60);
    CHECK(b.stats().decode_steps >= 9);
}
