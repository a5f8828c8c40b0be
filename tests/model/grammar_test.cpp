// A grammar goes along with its sequence: each token of an answer is stepped over once, however many calls it takes.
#include "text/grammar/grammar.h"

#include <algorithm>

#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

using Tokens = std::vector<uint32_t>;

// The vocabulary of small_model() is the first tokens of this one: a character each.
const std::shared_ptr<const text::TokenTable>& table() {
    static const auto table = std::make_shared<const text::TokenTable>(text::Tokenizer::o200k_harmony());
    return table;
}
const text::Tokenizer& tokenizer() { return *table()->tokenizer(); }

model::GenerateRequest request_of(const char* regex, uint64_t max_tokens) {
    model::GenerateRequest request;
    request.grammar = text::Grammar::from_regex(table(), regex);
    request.max_tokens = max_tokens;
    return request;
}

model::GenerateRequest with_most(model::GenerateRequest request, uint64_t max_tokens) {
    request.max_tokens = max_tokens;
    return request;
}

// How many tokens the grammar was advanced by.
uint64_t steps_of(model::Sequence& sequence, const model::GenerateRequest& request, uint64_t expected_tokens) {
    const uint64_t before = sequence.stats().grammar_steps;
    uint64_t n = 0;
    sequence.generate(request, &n);
    CHECK(n == expected_tokens);
    return sequence.stats().grammar_steps - before;
}

std::string text_from(const model::Sequence& sequence, size_t first) {
    std::string text;
    for (const uint32_t token : std::span(sequence.tokens()).subspan(first)) text += tokenizer().decode(token);
    return text;
}

constexpr size_t kPrompt = 5;

std::unique_ptr<model::Sequence> begun() {
    auto sequence = std::make_unique<model::Sequence>(small_model(), 0, 32);
    sequence->append(random_tokens(kPrompt, small_model()->config.vocab, 7));
    return sequence;
}

}  // namespace

TEST_CASE("grammar: an answer in many calls is stepped over once") {
    const model::GenerateRequest all = request_of("[0-9]{20}[A-Z]{20}[!-/]{10}", 50), one = with_most(all, 1);
    const auto whole = begun(), parts = begun();
    CHECK(steps_of(*whole, all, 50) == 50);
    for (int i = 0; i < 50; i++) CHECK(steps_of(*parts, one, 1) == 1);
    CHECK(parts->tokens() == whole->tokens());
    CHECK(steps_of(*parts, one, 0) == 0);  // nothing can follow
}

TEST_CASE("grammar: truncate and forks go on without stepping over the answer again") {
    const model::GenerateRequest all = request_of("[0-9]{20}[A-Z]{20}", 40);
    const auto sequence = begun();
    CHECK(steps_of(*sequence, all, 40) == 40);
    const Tokens whole = sequence->tokens();
    model::Sequence fork(*sequence);
    fork.truncate(kPrompt + 30);
    CHECK(steps_of(fork, all, 10) == 10);
    CHECK(fork.tokens() == whole);
    for (const size_t keep : {39, 20, 7, 0}) {
        CAPTURE(keep);
        sequence->truncate(kPrompt + keep);
        CHECK(steps_of(*sequence, all, 40 - keep) == 40 - keep);
        CHECK(sequence->tokens() == whole);
    }
}

TEST_CASE("grammar: tokens that came without it are stepped over, and judged") {
    const model::GenerateRequest digits = request_of("[0-9]{20}", 8);
    const auto sequence = begun();
    CHECK(steps_of(*sequence, digits, 8) == 8);
    // the last of these are not the grammar's, and take the place of some that are
    sequence->truncate(kPrompt + 4);
    model::GenerateRequest letters;
    letters.max_tokens = 3;
    const auto letter = tokenizer().encode("Q", false).front(), digit = tokenizer().encode("7", false).front();
    letters.bias = {{letter, 1000.0f}};
    CHECK(steps_of(*sequence, letters, 3) == 0);
    uint64_t n = 0;
    check_refused(Status::InvalidArgument, "number 4 of it", [&] { sequence->generate(digits, &n); });
    sequence->truncate(kPrompt + 4);
    letters.bias = {{digit, 1000.0f}};
    CHECK(steps_of(*sequence, letters, 3) == 0);
    // after the error from the answer's beginning on
    CHECK(steps_of(*sequence, digits, 8) == 4 + 3 + 8);
    CHECK(text_from(*sequence, kPrompt).substr(4, 3) == "777");
    CHECK(steps_of(*sequence, digits, 5) == 5);

    // another answer, and another grammar
    sequence->append(Tokens(sequence->tokens()));
    const size_t second = sequence->tokens().size();
    CHECK(steps_of(*sequence, digits, 8) == 8);
    const model::GenerateRequest others = request_of("[0-9]{8}[A-Z]{8}", 4);
    CHECK(steps_of(*sequence, others, 4) == 8 + 4);
    CHECK(steps_of(*sequence, others, 4) == 4);
    const std::string text = text_from(*sequence, second);
    CHECK(std::all_of(text.begin(), text.begin() + 8, [](char c) { return c >= '0' && c <= '9'; }));
    CHECK(std::all_of(text.begin() + 8, text.end(), [](char c) { return c >= 'A' && c <= 'Z'; }));
}

TEST_CASE("grammar: what a callback did not want is no part of the answer") {
    // digits and letters are never one token, so that these are forced one by one
    model::GenerateRequest stopped = request_of("Q7W3Q7W3[A-Z]{10}", 0);
    const auto sequence = begun();
    int left = 0;
    stopped.on_token = [&](const model::Drawn&, bool) {
        return --left == 0 ? model::StopReason::Callback : model::StopReason::None;
    };
    for (int i = 0; i < 18; i += 3) {
        left = 3;
        uint64_t n = 0;
        CHECK(sequence->generate(stopped, &n) ==
              (i == 15 ? model::StopReason::GrammarEnd : model::StopReason::Callback));
        CHECK(n == 3);
    }
    const std::string text = text_from(*sequence, kPrompt);
    CHECK(text.substr(0, 8) == "Q7W3Q7W3");
    CHECK(text.size() == 18);
}

TEST_CASE("grammar: a saved state brings the answer back, and no state of a grammar") {
    const model::GenerateRequest all = request_of("[0-9]{20}[A-Z]{20}", 40);
    const auto sequence = begun();
    CHECK(steps_of(*sequence, with_most(all, 25), 25) == 25);
    std::vector<std::byte> state(sequence->save({}));
    sequence->save(state);
    CHECK(steps_of(*sequence, all, 15) == 15);
    const Tokens whole = sequence->tokens();
    sequence->restore(state);
    CHECK(steps_of(*sequence, all, 15) == 25 + 15);
    CHECK(sequence->tokens() == whole);
}

TEST_CASE("grammar: drafts change no token, and save steps") {
    // it writes token after token in the vocabulary's order, which the prompt does too, again and again
    const auto counting = load(SyntheticCheckpoint({.hidden = 128, .vocab = 96, .counts = true}, 80).path());
    Tokens prompt;
    for (uint32_t i = 0; i < 192; i++) prompt.push_back(i % 96);
    for (const auto& model : {counting, small_model()})
        // all that it writes; with text that is forced; with an end before that of a draft
        for (const char* regex : {"[!-~]*", "([!-~]{5}Q7W3Q7W3)*", "[!-~]{21}", "([!-9]{4}|[:-~]{7})*"})
            for (const float temperature : {0.0f, 0.7f}) {
                CAPTURE(regex);
                CAPTURE(temperature);
                model::GenerateRequest request = request_of(regex, 60);
                request.settings.temperature = temperature;
                Tokens tokens[2];
                uint64_t steps[2];
                for (const bool drafts : {false, true}) {
                    request.lookup = drafts ? model::PromptLookup::Always : model::PromptLookup::Off;
                    model::Sequence sequence(model, 0, 32);
                    sequence.append(prompt);
                    uint64_t n = 0;
                    const model::StopReason reason = sequence.generate(request, &n);
                    CHECK((n == 60) == (reason == model::StopReason::MaxTokens));
                    tokens[drafts] = sequence.tokens();
                    steps[drafts] = sequence.stats().decode_steps;
                    check_same(*model, logits_of(sequence), fresh_logits(model, sequence.tokens()));
                }
                CHECK(tokens[1] == tokens[0]);
                CHECK(steps[1] <= steps[0]);
                if (model == counting && temperature == 0) CHECK(steps[1] < steps[0] / 2 + 4);
            }
}

TEST_CASE("grammar: sequences with forced tokens take steps together, and get the same as alone") {
    const model::GenerateRequest request = request_of("([!-~]{5}Q7W3Q7W3)*", 40);
    std::vector<std::unique_ptr<model::Sequence>> alone, together;
    std::vector<model::Generation> all;
    for (uint64_t i = 0; i < 4; i++) {
        for (auto* sequences : {&alone, &together}) {
            sequences->push_back(std::make_unique<model::Sequence>(small_model(), 0, 32));
            sequences->back()->append(random_tokens(kPrompt + static_cast<uint32_t>(i), 96, i));
        }
        uint64_t n = 0;
        alone[i]->generate(request, &n);
        all.push_back({.sequence = together[i].get(), .request = &request});
    }
    model::generate_together(all);
    for (size_t i = 0; i < 4; i++) CHECK(together[i]->tokens() == alone[i]->tokens());
}
