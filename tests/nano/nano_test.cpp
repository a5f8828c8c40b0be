// gptoss-nano through the library: the tokens that the PyTorch model it was trained as gives, and right answers to
// problems that it was not trained on. test_nano [EVERY]: every so many problems of nano/problems.json (default: 10);
// 1 takes all, and only then wrong answers are a failure: of a few problems they say little.
#include <gptoss.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

using Json = nlohmann::ordered_json;  // a prompt has the parameters of a function in their order
using Tokens = std::vector<uint32_t>;

constexpr size_t answer_limit = 400;  // tokens

void check(gptoss_status status) {
    if (status == gptoss_status_success) return;
    std::fprintf(stderr, "%s: %s\n", gptoss_status_string(status), gptoss_last_error());
    std::exit(1);
}

Json read_json(const std::string& name) {
    const std::string path = GPTOSS_SOURCE_DIR "/nano/" + name;
    std::ifstream file(path);
    if (!file) {
        std::fprintf(stderr, "%s is missing\n", path.c_str());
        std::exit(1);
    }
    return Json::parse(file);
}

// What must be right, as a part of all.
double threshold(const std::string& group) { return group == "add and subtract" ? 0.99 : 0.95; }

std::string group_of(const std::string& category) {
    return category == "add" || category == "subtract" ? "add and subtract" : category;
}

struct Nano {
    gptoss_model_t model;
    gptoss_tokenizer_t tokenizer;
    gptoss_context_t context;
    gptoss_harmony_parser_t parser;

    Nano() {
        gptoss_model_options options = {.struct_size = sizeof options};
        options.device = std::getenv("GPTOSS_TEST_DEVICE");
        check(gptoss_model_create(GPTOSS_SOURCE_DIR "/nano/gptoss-nano", &options, &model));
        check(gptoss_model_get_tokenizer(model, &tokenizer));
        check(gptoss_context_create(model, 4096, 0, &context));
        check(gptoss_harmony_parser_create(tokenizer, &parser));
    }
    ~Nano() {
        gptoss_harmony_parser_release(parser);
        gptoss_context_release(context);
        gptoss_tokenizer_release(tokenizer);
        gptoss_model_release(model);
    }
    Nano(const Nano&) = delete;

    Tokens render(Json conversation) {
        // The training's renderer lets a function do without a description.
        for (Json& message : conversation["messages"])
            if (message["content"].is_array() &&
                message["content"][0].value("/tools/functions"_json_pointer, Json()).is_object())
                for (Json& function : message["content"][0]["tools"]["functions"]["tools"])
                    if (function.value("/description"_json_pointer, Json()).is_null()) function["description"] = "";
        const std::string json = conversation.dump();
        Tokens tokens(4096);
        size_t count;
        check(gptoss_harmony_render(tokenizer, json.data(), json.size(), tokens.data(), tokens.size(), &count));
        tokens.resize(count);
        return tokens;
    }

    void set_context(const Tokens& tokens) {
        check(gptoss_context_reset(context));
        check(gptoss_context_append_tokens(context, tokens.size(), tokens.data()));
    }

    // Greedy without a sampler.
    Tokens answer(const Tokens& prompt, gptoss_sampler_t sampler = nullptr) {
        set_context(prompt);
        Tokens tokens;
        gptoss_generate_options options = {.struct_size = sizeof options};
        options.max_tokens = answer_limit;
        options.user_data = &tokens;
        options.callback = [](void* data, uint32_t token) {
            static_cast<Tokens*>(data)->push_back(token);
            return 0;
        };
        check(gptoss_context_generate(context, sampler, &options, nullptr, nullptr));
        return tokens;
    }

    // Draws by the grammar of a turn with a conversation's functions; greedy at temperature 0.
    Tokens answer_by_grammar(const Json& conversation, const Tokens& prompt, float temperature) {
        Json turn = {{"tools", Json::array()}};
        for (const Json& message : conversation["messages"])
            if (message["content"].is_array() &&
                message["content"][0].value("/tools/functions"_json_pointer, Json()).is_object())
                turn["tools"] = message["content"][0]["tools"]["functions"]["tools"];
        const std::string json = turn.dump();
        gptoss_grammar_t grammar;
        gptoss_sampler_t sampler;
        check(gptoss_grammar_create_from_harmony(tokenizer, json.data(), json.size(), &grammar));
        check(gptoss_sampler_create(&sampler));
        check(gptoss_sampler_set_grammar(sampler, grammar));
        check(gptoss_sampler_set_temperature(sampler, temperature));
        Tokens tokens = answer(prompt, sampler);
        check(gptoss_sampler_release(sampler));
        check(gptoss_grammar_release(grammar));
        return tokens;
    }

    // Positions at which the most likely token, after the expected ones before it, is the expected one.
    size_t agreement(const Tokens& prompt, const Tokens& expected) {
        size_t same = 0;
        Tokens before = prompt;
        for (uint32_t token : expected) {
            set_context(before);
            uint32_t sampled;
            size_t count;
            check(gptoss_context_sample(context, 0, 0, 1, &sampled, &count));
            same += sampled == token;
            before.push_back(token);
        }
        return same;
    }

    // The last message of an answer; null if the answer broke the format.
    Json last_message(const Tokens& answer) {
        check(gptoss_harmony_parser_reset(parser));
        for (uint32_t token : answer) check(gptoss_harmony_parser_process(parser, token));
        size_t size;
        check(gptoss_harmony_parser_get_messages(parser, nullptr, 0, &size));
        std::string json(size, '\0');
        check(gptoss_harmony_parser_get_messages(parser, json.data(), size, &size));
        int malformed;
        check(gptoss_harmony_parser_is_malformed(parser, &malformed));
        const Json messages = Json::parse(json);
        return malformed || messages.empty() || messages.back().contains("raw_tokens") ? Json() : messages.back();
    }
};

// The last integer in a text, or null.
Json last_number(const std::string& text) {
    const size_t end = text.find_last_of("0123456789");
    if (end == std::string::npos) return {};
    size_t begin = text.find_last_not_of("0123456789", end) + 1;
    if (begin > 0 && text[begin - 1] == '-') --begin;
    return std::stoll(text.substr(begin, end + 1 - begin));
}

// expected: the call's name and arguments, an answer word for word, or the number that an answer ends with.
bool is_right(const Json& message, const Json& expected) {
    if (message.is_null()) return false;
    const std::string text = message["content"];
    if (!expected.is_object())
        return message.value("channel", "") == "final" &&
               (expected.is_string() ? Json(text) : last_number(text)) == expected;
    return message.value("channel", "") == "commentary" &&
           message.value("recipient", "") == "functions." + expected["name"].get<std::string>() &&
           message.value("content_type", "").ends_with("json") &&
           nlohmann::json::parse(text, nullptr, false) == nlohmann::json(expected["arguments"]);
}

int passed = 0, failed = 0;

void report(const std::string& name, size_t good, size_t all, double least, bool counts) {
    const bool ok = static_cast<double>(good) >= least * static_cast<double>(all);
    if (counts) ++(ok ? passed : failed);
    std::printf("%s: %s: %zu of %zu, %.1f%%; wanted %.0f%%\n",
                !counts ? "noted"
                : ok    ? "passed"
                        : "FAILED",
                name.c_str(), good, all, 100.0 * static_cast<double>(good) / static_cast<double>(all), 100 * least);
}

// So many contexts at once, each with the end of another problem: how many get the tokens that they get alone, of those
// that are compared.
void many_at_once(Nano& nano, const Json& problems) {
    constexpr size_t contexts = 1000, length = 8, compared = 50;
    static const uint32_t none = 0;
    gptoss_generate_options options = {.struct_size = sizeof options};
    options.max_tokens = length;
    options.stop_tokens = &none;  // an array of none at all
    std::vector<Tokens> prompts;
    std::vector<gptoss_generation> all(contexts);
    for (size_t i = 0; i < contexts; i++) {
        const Tokens prompt = nano.render(problems[i % problems.size()]["conversation"]);
        prompts.emplace_back(prompt.end() - static_cast<ptrdiff_t>(16 + i / problems.size()), prompt.end());
        all[i] = {.struct_size = sizeof all[i], .options = &options};
        check(gptoss_context_create(nano.model, 0, 0, &all[i].context));
        check(gptoss_context_append_tokens(all[i].context, prompts[i].size(), prompts[i].data()));
    }
    check(gptoss_generate_together(all.data(), contexts));
    size_t same = 0;
    for (size_t i = 0; i < contexts; i++) {
        Tokens alone = prompts[i], tokens(alone.size() + length);
        size_t size, generated;
        check(gptoss_context_get_tokens(all[i].context, tokens.data(), tokens.size(), &size));
        check(gptoss_context_release(all[i].context));
        if (i % (contexts / compared) > 0) continue;
        nano.set_context(alone);
        alone.resize(tokens.size());
        check(gptoss_context_sample(nano.context, 0, 0, length, &alone[prompts[i].size()], &generated));
        same += size == tokens.size() && generated == length && tokens == alone;
    }
    report("tokens of 1,000 contexts at once, as alone", same, compared, 1, true);
}

}  // namespace

int main(int argc, char** argv) {
    const size_t every = argc > 1 ? std::max(1, std::atoi(argv[1])) : 10;
    const Json problems = read_json("problems.json");
    std::map<int, Json> expected_tokens;
    for (const Json& entry : read_json("expected_tokens.json")) expected_tokens[entry["id"]] = entry;

    Nano nano;
    std::map<std::string, std::pair<size_t, size_t>> right;  // by group: of how many
    size_t positions = 0, same = 0, prompts = 0, same_prompts = 0;
    size_t calls = 0, right_calls = 0, right_by_grammar = 0, whole = 0;
    for (size_t i = 0; i < problems.size(); i += every) {
        const Json& problem = problems[i];
        const Tokens prompt = nano.render(problem["conversation"]);
        const Tokens answer = nano.answer(prompt);
        auto& [good, all] = right[group_of(problem["category"])];
        const bool ok = is_right(nano.last_message(answer), problem["expected"]);
        good += ok;
        ++all;
        if (problem["category"] == "tools") {
            const Json& conversation = problem["conversation"];
            ++calls;
            right_calls += ok;
            right_by_grammar +=
                is_right(nano.last_message(nano.answer_by_grammar(conversation, prompt, 0)), problem["expected"]);
            const Tokens drawn = nano.answer_by_grammar(conversation, prompt, 1.5f);
            whole += drawn.size() == answer_limit || !nano.last_message(drawn).is_null();
        }
        if (!ok && every == 1) {
            char text[4096];
            size_t size;
            check(
                gptoss_tokenizer_decode_tokens(nano.tokenizer, answer.data(), answer.size(), text, sizeof text, &size));
            std::printf("wrong: problem %zu, expected %s: %.*s\n", i, problem["expected"].dump().c_str(),
                        static_cast<int>(std::min(size, sizeof text)), text);
        }
        const auto entry = expected_tokens.find(problem["id"]);
        if (entry == expected_tokens.end()) continue;
        const Tokens expected = entry->second["completion"].get<Tokens>();
        ++prompts;
        same_prompts += prompt == entry->second["prompt"].get<Tokens>();
        positions += expected.size();
        // An answer that begins with what is expected agrees everywhere.
        const bool agrees =
            answer.size() >= expected.size() && std::equal(expected.begin(), expected.end(), answer.begin());
        same += agrees ? expected.size() : nano.agreement(prompt, expected);
    }
    report("prompts as the training's own renderer makes them", same_prompts, prompts, 1, true);
    report("tokens as in PyTorch", same, positions, 0.99, true);
    report("functions called right by a grammar, of those called right without", right_by_grammar, right_calls, 1,
           true);
    report("turns that a grammar keeps whole at temperature 1.5", whole, calls, 1, true);
    many_at_once(nano, problems);
    for (const auto& [group, counts] : right)
        report(group + ", right", counts.first, counts.second, threshold(group), every == 1);
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
