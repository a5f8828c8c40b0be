// What was computed once is not computed again: by the same timeline further on, nor by others that begin alike. The
// logits are those of a model without the cache.
#include <doctest/doctest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "engine/engine.h"
#include "support.h"
#include "text/harmony/harmony.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

using Json = nlohmann::ordered_json;
using Tokens = std::vector<uint32_t>;

Tokens joined(const Tokens& a, const Tokens& b) {
    Tokens all = a;
    all.insert(all.end(), b.begin(), b.end());
    return all;
}

uint64_t computed(model::Sequence& sequence, const Tokens& tokens) {
    const uint64_t before = sequence.stats().prompt_tokens_computed;
    sequence.truncate(0);
    sequence.append(tokens);
    sequence.process();
    check_same(sequence.model(), logits_of(sequence), fresh_logits(small_model(), tokens));
    return sequence.stats().prompt_tokens_computed - before;
}

// A conversation about the weather. Each turn thinks, calls a function, thinks again, and answers.
class Conversation {
  public:
    explicit Conversation(std::shared_ptr<const text::Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {
        const Json function = {{"name", "get_weather"},
                               {"description", "Gets the weather"},
                               {"parameters", {{"type", "object"}, {"properties", {{"city", {{"type", "string"}}}}}}}};
        const Json tools = {{"functions", {{"name", "functions"}, {"tools", Json::array({function})}}}};
        add({{"role", "system"},
             {"content", Json::array({{{"type", "system_content"}, {"reasoning_effort", "High"}}})}});
        add({{"role", "developer"}, {"content", Json::array({{{"type", "developer_content"}, {"tools", tools}}})}});
    }
    void add(const Json& message) { json_["messages"].push_back(message); }
    // The tokens that a model answers with.
    Tokens add_answer(const std::vector<Json>& messages) {
        Tokens tokens;
        for (const Json& message : messages) {
            add(message);
            const Tokens of_message = rendered({{"messages", Json::array({message})}});
            tokens.insert(tokens.end(), of_message.begin(), of_message.end() - kStart);
        }
        return {tokens.begin() + kStart, tokens.end()};
    }
    Tokens prompt() const { return rendered(json_); }

    static constexpr ptrdiff_t kStart = 2;  // tokens, "<|start|>assistant", that a prompt ends with

  private:
    Tokens rendered(const Json& json) const { return text::render_conversation(*tokenizer_, json.dump()); }

    std::shared_ptr<const text::Tokenizer> tokenizer_;
    Json json_;
};

Json assistant(const char* channel, int turn, int words) {
    std::string content;
    for (int i = 0; i < words; i++) content += std::to_string((turn + 1) * (i + 3) % 97) + " and ";
    return {{"role", "assistant"}, {"channel", channel}, {"content", content}};
}

}  // namespace

TEST_CASE("prefixes: 20 turns with tools compute what changes, and no more") {
    const std::string path = GPTOSS_SOURCE_DIR "/nano/gptoss-nano";
    const auto tokenizer = text::Tokenizer::of_model(io::Checkpoint(path).tokenizer_path);
    const auto model = load(path, {.prefix_bytes = 1 << 28, .message_start = tokenizer->find_special("<|start|>")});
    const auto without = load(path);
    model::Sequence sequence(model, 0, 32);  // a ring of 128 + 32 + 32 positions
    Conversation conversation(tokenizer);
    Tokens timeline;
    std::vector<Tokens> timelines;
    uint64_t dropped = 0, total = 0, rendered = 0;
    const auto answer = [&](const std::vector<Json>& messages) {
        const Tokens prompt = conversation.prompt();
        const auto common_with = [&](const Tokens& other) {
            return static_cast<uint64_t>(std::mismatch(prompt.begin(), prompt.end(), other.begin(), other.end()).first -
                                         prompt.begin());
        };
        dropped += common_with(timeline) + 64 < timeline.size();
        // while a function is called, the reasoning of earlier turns is there again
        uint64_t common = 0;
        for (const Tokens& earlier : timelines) common = std::max(common, common_with(earlier));
        const uint64_t before = sequence.stats().prompt_tokens_computed;
        sequence.truncate(0);
        sequence.append(prompt);
        model::GenerateRequest request{.max_tokens = 1};
        uint64_t n = 0;
        sequence.generate(request, &n);
        const uint64_t evaluated = sequence.stats().prompt_tokens_computed - before;
        // all that follows the start of the message that is another now; at first, nothing is there
        CHECK(evaluated <= prompt.size() - common_with(timeline) + Conversation::kStart);
        // where an older timeline has more of it, perhaps the few tokens again that it ended with
        CHECK(evaluated <= prompt.size() - common + 64);
        total += evaluated;
        rendered += prompt.size();
        // the model would say that
        timeline = joined(prompt, conversation.add_answer(messages));
        sequence.truncate(prompt.size());
        sequence.append(std::span(timeline).subspan(prompt.size()));
        sequence.process();
        timelines.push_back(timeline);
    };
    for (int turn = 0; turn < 20; turn++) {
        CAPTURE(turn);
        conversation.add(
            {{"role", "user"}, {"content", "What is the weather in London " + std::to_string(turn) + "?"}});
        const Json call = {{"role", "assistant"},
                           {"channel", "commentary"},
                           {"recipient", "functions.get_weather"},
                           {"content_type", "<|constrain|>json"},
                           {"content", "{\"city\": \"London\"}"}};
        answer({assistant("analysis", turn, 16), call});
        conversation.add({{"role", "tool"},
                          {"name", "functions.get_weather"},
                          {"recipient", "assistant"},
                          {"channel", "commentary"},
                          {"content", "{\"temperature\": 17}"}});
        answer({assistant("analysis", turn, 12), assistant("final", turn, 5)});
        if (turn % 8 == 7 || turn == 19) check_same(*model, logits_of(sequence), fresh_logits(without, timeline));
    }
    MESSAGE("the reasoning was dropped " << dropped << " times; of " << rendered << " tokens of prompts " << total
                                         << " were computed");
    CHECK(dropped >= 19);
    CHECK(total < rendered / 4);
}

TEST_CASE("prefixes: going back beyond the ring") {
    const auto& model = caching_model();
    const auto tokens = random_tokens(400, model->config.vocab, 6);
    const std::span all(tokens);
    model::Sequence context(model, 0, 8);  // a ring of 16 + 8 + 32 slots
    size_t done = 0;
    for (const size_t turn : {90, 200, 210, 330}) {  // 210 is too few more to be kept
        context.append(all.subspan(done, turn - done));
        context.process();
        done = turn;
    }
    const std::map<size_t, uint64_t> expected{{300, 10}, {205, 5}, {200, 1}, {199, 109}, {91, 1}, {90, 1}, {60, 60}};
    for (auto at = expected.rbegin(); at != expected.rend(); ++at) {
        const size_t keep = at->first;
        CAPTURE(keep);
        const uint64_t before = context.stats().prompt_tokens_computed;
        context.truncate(keep);
        check_same(*model, logits_of(context), fresh_logits(small_model(), all.first(keep)));
        const uint64_t evaluated = context.stats().prompt_tokens_computed - before;
        if (keep <= 205) CHECK(evaluated == at->second);
        context.append(all.subspan(keep));
        check_same(*model, logits_of(context), fresh_logits(small_model(), tokens));
    }
}

TEST_CASE("prefixes: contexts that begin alike share what one computed, also after its release") {
    const auto& model = caching_model();
    const uint32_t vocab = model->config.vocab;
    const Tokens beginning = random_tokens(600, vocab, 200);
    const Tokens a = joined(beginning, random_tokens(90, vocab, 201)),
                 b = joined(beginning, random_tokens(70, vocab, 202));
    model::Sequence first(model, 0, 64);
    CHECK(computed(first, a) == a.size());
    {
        model::Sequence second(model, 0, 40);
        CHECK(computed(second, b) == b.size() - 512);  // from where a segment begins
        CHECK(computed(second, a) == 1);               // the logits alone
        // both go on from there, each its own way
        model::GenerateRequest request{.max_tokens = 60};
        uint64_t n = 0;
        request.settings.seed = 1;
        first.generate(request, &n);
        request.settings.seed = 2;
        second.generate(request, &n);
        check_same(*model, logits_of(first), fresh_logits(small_model(), first.tokens()));
        check_same(*model, logits_of(second), fresh_logits(small_model(), second.tokens()));
        // what was computed first is as it was
        CHECK(computed(first, a) <= 1);
        CHECK(computed(second, b) <= b.size() - 512);
    }
    model::Sequence third(model, 0, 64), fourth(model, 700, 8);
    CHECK(computed(third, b) <= 1);
    CHECK(computed(fourth, a) <= 1);
    // other tokens in the middle of what is shared
    Tokens c = a;
    c[550] = (c[550] + 1) % vocab;
    CHECK(computed(third, c) == c.size() - 512);
    CHECK(computed(fourth, b) <= 1);
    CHECK(computed(third, a) <= 1);
}

TEST_CASE("prefixes: where messages start") {
    const uint32_t start = 7;
    const auto model = load(SyntheticCheckpoint(Shape{}, 1).path(), {.prefix_bytes = 1 << 28, .message_start = start});
    Tokens a = random_tokens(400, 96, 210);
    for (uint32_t& token : a)
        if (token == start) token = 8;
    for (const size_t p : {0, 90, 130, 200, 210, 300}) a[p] = start;
    model::Sequence sequence(model, 0, 64);
    CHECK(computed(sequence, a) == 400);
    for (const auto& [differs, from] : std::map<size_t, size_t>{{330, 300}, {250, 200}, {140, 90}, {80, 0}}) {
        CAPTURE(differs);
        Tokens b(a.begin(), a.begin() + static_cast<ptrdiff_t>(differs));
        b.push_back((a[differs] + 1) % 96 == start ? 9 : (a[differs] + 1) % 96);
        model::Sequence other(model, 0, 64);
        CHECK(computed(other, b) == b.size() - from);
    }
}

TEST_CASE("prefixes: a fork and a restored state know them too") {
    const auto& model = caching_model();
    const auto tokens = random_tokens(400, model->config.vocab, 220);
    const std::span all(tokens);
    std::vector<std::byte> state;
    {
        model::Sequence context(model, 0, 8);
        for (const size_t end : {100, 200, 400}) {
            context.append(all.subspan(context.tokens().size(), end - context.tokens().size()));
            context.process();
        }
        model::Sequence fork(context);
        Tokens other = tokens;
        other.resize(201);
        other.back() = 3;
        CHECK(computed(fork, other) == 1);
        CHECK(computed(context, tokens) == 0);
        state.resize(context.save({}));
        CHECK(context.save(std::span(state).first(100)) == state.size());
        CHECK(context.save(state) == state.size());
    }
    while (model->engine->prefixes().evict()) {
    }
    CHECK(model->engine->prefixes().bytes() == 0);
    model::Sequence restored(model, 0, 16);
    restored.restore(state);
    Tokens other = tokens;
    other.resize(101);
    other.back() = 5;
    CHECK(computed(restored, other) == 1);
    model::Sequence beside(model, 0, 16);
    CHECK(computed(beside, joined(tokens, {1})) == 1);
}

TEST_CASE("prefixes: bounded, the least recently used go first, and none are kept where none are wanted") {
    const SyntheticCheckpoint synthetic(Shape{}, 1);
    const auto model = load(synthetic.path(), {.prefix_bytes = 3 << 20});
    const auto prompt = [&](uint64_t seed) { return random_tokens(600, 96, 300 + seed); };
    const auto run = [&](uint64_t seed) {
        model::Sequence sequence(model, 0, 64);
        return computed(sequence, prompt(seed));
    };
    const uint64_t before = model->device.allocated();
    run(0);
    uint64_t most = 0;
    for (uint64_t i = 1; i < 20; i++) {
        CHECK(run(i) == 600);
        CHECK(run(0) == 1);  // is in use all the time
        most = std::max(most, model->engine->prefixes().bytes());
    }
    CHECK(most <= 3 << 20);
    CHECK(most > 1 << 20);
    CHECK(run(19) == 1);
    CHECK(run(1) == 600);
    CHECK(model->device.allocated() <= before + (5 << 20));
    while (model->engine->prefixes().evict()) {
    }
    CHECK(model->device.allocated() <= before + (2 << 20));

    const auto without = load(synthetic.path(), {.prefix_bytes = 1});
    const uint64_t empty = without->device.allocated();
    {
        model::Sequence sequence(without, 0, 64);
        CHECK(computed(sequence, prompt(0)) == 600);
        CHECK(computed(sequence, prompt(0)) == 0);
    }
    CHECK(without->device.allocated() <= empty + (1 << 20));
    model::Sequence sequence(without, 0, 64);
    CHECK(computed(sequence, prompt(0)) == 600);
}
