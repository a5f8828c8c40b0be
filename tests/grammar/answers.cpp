// Answers drawn from random weights by the grammars of cases.json, many at a time: answers MODEL CASES PER_CASE SEED.
// Prints a JSON object a line: the case, why it ended, the answer's special tokens and the text between them, and what
// the Harmony parser makes of it. answers.mjs judges them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <gptoss.hpp>
#include <iterator>
#include <nlohmann/json.hpp>

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t most_at_once = 32;
constexpr size_t most_tokens = 6000;  // of an answer

class Drawing {
  public:
    Drawing(const std::string& path, uint64_t seed) : model_(path), tokenizer_(model_.tokenizer()), seed_(seed) {
        // what ends a string, a value, a message: else random text would go on for long
        for (const char* const text : {"\"", "}", "]", "\"}", "\"]", "\","})
            if (const std::vector<uint32_t> tokens = tokenizer_.encode(text); tokens.size() == 1)
                biased_.push_back(tokens[0]);
        for (const auto token : {gptoss_special_token_end, gptoss_special_token_return, gptoss_special_token_call})
            biased_.push_back(tokenizer_.special_token(token));
        biases_.assign(biased_.size(), 4.0f);
    }

    void draw(size_t number, const gptoss::Grammar& grammar, size_t n) {
        for (size_t done = 0; done < n; done += most_at_once)
            draw_some(number, grammar, std::min(most_at_once, n - done));
    }

    const gptoss::Tokenizer& tokenizer() const { return tokenizer_; }

  private:
    void draw_some(size_t number, const gptoss::Grammar& grammar, size_t n) {
        std::vector<gptoss::Context> contexts;
        std::vector<gptoss::Sampler> samplers(n);
        std::vector<gptoss::Generation> all(n);
        for (size_t i = 0; i < n; i++) {
            contexts.emplace_back(model_, most_tokens + 8);
            contexts[i].append(static_cast<uint32_t>(seed_ % 200));
            contexts[i].append(static_cast<uint32_t>(i));
            samplers[i].temperature(1.5f).seed(seed_++).logit_bias(biased_, biases_).grammar(grammar);
            all[i].options.sampler = &samplers[i];
            all[i].options.max_tokens = most_tokens;
        }
        for (size_t i = 0; i < n; i++) all[i].context = &contexts[i];
        gptoss::generate_together(all);
        for (gptoss::Generation& g : all) {
            if (g.error) std::rethrow_exception(g.error);
            print(number, g);
        }
    }

    void print(size_t number, const gptoss::Generation& g) const {
        std::vector<uint32_t> tokens = g.context->tokens();
        tokens.erase(tokens.begin(), tokens.end() - static_cast<std::ptrdiff_t>(g.result.num_tokens));
        gptoss::HarmonyParser parser(tokenizer_);
        Json parts = Json::array();
        for (const uint32_t token : tokens) {
            parser.process(token);
            const char* name;
            if (gptoss_tokenizer_get_special_token_name(tokenizer_.get(), token, &name) == gptoss_status_success) {
                parts.push_back({{"special", name}});
                continue;
            }
            if (parts.empty() || !parts.back().contains("text")) parts.push_back({{"text", ""}});
            parts.back()["text"].get_ref<std::string&>() += tokenizer_.decode(token);
        }
        const Json line = {{"case", number},
                           {"reason", g.result.stop_reason},
                           {"tokens", g.result.num_tokens},
                           {"forced", g.result.usage.forced_tokens},
                           {"parts", parts},
                           {"malformed", parser.is_malformed()},
                           {"messages", Json::parse(parser.messages())}};
        std::printf("%s\n", line.dump().c_str());
    }

    gptoss::Model model_;
    gptoss::Tokenizer tokenizer_;
    uint64_t seed_;
    std::vector<uint32_t> biased_;
    std::vector<float> biases_;
};

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5) return std::fprintf(stderr, "usage: %s MODEL CASES PER_CASE SEED\n", argv[0]), 2;
    std::ifstream file(argv[2]);
    const Json cases = Json::parse(file);
    const size_t per_case = std::strtoull(argv[3], nullptr, 10);
    Drawing drawing(argv[1], std::strtoull(argv[4], nullptr, 10));
    size_t number = 0;
    for (const Json& schema : cases.at("schemas"))
        drawing.draw(number++, gptoss::Grammar::json_schema(drawing.tokenizer(), schema.dump()), per_case);
    for (const Json& turn : cases.at("turns"))
        drawing.draw(number++, gptoss::Grammar::harmony(drawing.tokenizer(), turn.dump()), per_case);
    return std::fflush(stdout) == 0 ? 0 : 1;
} catch (const std::exception& error) {
    std::fprintf(stderr, "answers: %s\n", error.what());
    return 1;
}
