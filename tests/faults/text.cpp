#include "text.h"

#include <gptoss.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "inject.h"
#include "script.h"
#include "table.h"

namespace gptoss::test {

namespace {

namespace fs = std::filesystem;
using inject::Kind;

// What a call did: its status, and what it gave as bytes.
struct Outcome {
    gptoss_status status = gptoss_status_success;
    std::string given;
    bool complete = false;  // given is all of it in spite of the status: what failed was called again
};

struct TextCall {
    const char* name;
    std::function<Outcome()> run;
};

std::string bytes_of(const std::vector<uint32_t>& tokens) {
    return {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(uint32_t)};
}

// A failed call must leave these as they are after any failure.
void check_nothing_given(Row& r, bool nothing) {
    if (!nothing) wrong(r, Wrong::Other, "a failed call gave something");
}

const char* const kText =
    "Hello, wörld! It's 12345 o'clock.\n\n    <|start|>assistant 'quoted' \xE4\xBD\xA0\xE5\xA5\xBD \xFF\xFE end";

const char* const kConversation = R"({"messages": [
  {"role": "system", "content": [{"type": "system_content", "model_identity": "You are ChatGPT, a large language model.",
    "knowledge_cutoff": "2024-06", "conversation_start_date": "2025-06-28", "reasoning_effort": "Low",
    "tools": {"browser": {}, "python": {}},
    "channel_config": {"valid_channels": ["analysis", "commentary", "final"], "channel_required": true}}]},
  {"role": "developer", "content": [{"type": "developer_content", "instructions": "Answer in verse, at some length.",
    "tools": {"functions": {"name": "functions", "description": "What can be called.", "tools": [
      {"name": "weather", "description": "Tells the weather.\nEverywhere.", "parameters": {"type": "object",
        "properties": {"place": {"type": "string", "description": "A town, such as Köln", "examples": ["Köln"]},
          "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
          "days": {"oneOf": [{"type": "integer", "default": 10.5, "description": "how many"}, {"type": "array",
            "items": {"type": "number"}, "default": [1, {"a": 2}]}]}}, "required": ["place"]}}]}}}]},
  {"role": "user", "content": "How is the weather in San Francisco, and what is to be expected of it tomorrow?"},
  {"role": "assistant", "channel": "analysis", "content": "The user wants the weather, for which there is a tool."},
  {"role": "assistant", "channel": "commentary", "recipient": "functions.weather",
    "content_type": "<|constrain|>json", "content": "{\"place\": \"San Francisco\"}"},
  {"role": "tool", "name": "functions.weather", "recipient": "assistant", "channel": "commentary", "content": "sunny"}
]})";

// What an assistant may answer, the last message without an end, and one that breaks the format.
const char* const kAnswer =
    "<|channel|>analysis<|message|>They ask for the weather: \xE4\xBD\xA0 a tool knows it.<|end|><|start|>assistant to="
    "functions.a_tool_with_a_long_name<|channel|>commentary <|constrain|>json<|message|>{\"place\": \"San Francisco\"}"
    "<|call|><|start|>a header that has no end and many words<|start|>assistant<|channel|>final<|message|>The "
    "sun<|return|>"
    "no start<|message|>broken<|endoftext|><|start|>assistant<|channel|>final<|message|>An end that never "
    "comes\xF0\x9F";

class TextFaults {
  public:
    TextFaults(uint64_t seed) : random_(seed) {
        const std::string folder = fs::temp_directory_path() / ("gptoss-text-" + std::to_string(getpid()));
        fs::create_directories(folder);
        folder_ = folder;
        write(folder + "/tokenizer.json", tokenizer_json());
        write(folder + "/cut.json", tokenizer_json().substr(0, 3000));
        write(folder + "/tokens.tiktoken", tiktoken());
        must(gptoss_tokenizer_create(nullptr, &tokenizer_), "tokenizer");
        answer_ = encode(tokenizer_, kAnswer).tokens;
        for (int i = 0; i < 3000; i++) long_text_ += i % 700 ? "ab"[random_() % 2] : ' ';
        long_text_ += std::string(9000, '=');
    }
    ~TextFaults() {
        gptoss_tokenizer_release(tokenizer_);
        fs::remove_all(folder_);
    }

    void run(uint64_t n) {
        const std::vector<TextCall> calls = {
            {"tokenizer, built in", [&] { return create(nullptr); }},
            {"tokenizer.json", [&] { return create(folder_ + "/tokenizer.json"); }},
            {"tokenizer.json, cut off", [&] { return create(folder_ + "/cut.json"); }},
            {".tiktoken of a folder", [&] { return create(folder_ + "/tokens.tiktoken"); }},
            {"no file", [&] { return create(folder_ + "/none.json"); }},
            {"encode", [&] { return encode(tokenizer_, kText).outcome; }},
            {"encode a long piece", [&] { return encode(tokenizer_, long_text_).outcome; }},
            {"decode", [&] { return decode(); }},
            {"names of special tokens", [&] { return names(); }},
            {"render", [&] { return render(kConversation); }},
            {"render what is not JSON", [&] { return render(std::string(kConversation, 900)); }},
            {"render a wrong role",
             [&] { return render(R"({"messages": [{"role": "king", "content": ["a", {}]}]})"); }},
            {"parse", [&] { return parse(); }},
        };
        const uint64_t each = std::max<uint64_t>(1, n / calls.size() / 2);
        for (const TextCall& call : calls) {
            faults(call, Kind::Allocation, "text: allocation fails", each);
            faults(call, Kind::NoMemory, "text: memory runs out", each);
        }
    }

  private:
    struct Encoded {
        Outcome outcome;
        std::vector<uint32_t> tokens;
    };

    void faults(const TextCall& call, Kind kind, const char* name, uint64_t most) {
        Row& r = row(name);
        row_ = &r;
        current = std::string(name) + ", " + call.name;
        call.run();  // what is made once, at the first use
        inject::arm(kind, 0);
        const Outcome expected = call.run();
        const uint64_t opportunities = inject::disarm();
        if (opportunities == 0) return;
        for (uint64_t i = 0; i < std::min(most, opportunities); i++) {
            const uint64_t at =
                1 + (most >= opportunities ? i : (i * opportunities + random_() % opportunities) / most);
            describe(std::string(name) + ", " + call.name, 0, std::min(at, opportunities));
            const int64_t blocks = inject::live_blocks();
            inject::arm(kind, std::min(at, opportunities));
            const Outcome outcome = call.run();
            inject::disarm();
            const int64_t left = inject::live_blocks() - blocks - (outcome.given.capacity() > std::string().capacity());
            check(r, call, expected, outcome);
            // none are counted under a sanitizer, which finds leaks itself
            if (blocks && left != 0) wrong(r, Wrong::Leak, "left behind " + std::to_string(left) + " blocks of memory");
        }
    }

    void check(Row& r, const TextCall& call, const Outcome& expected, const Outcome& outcome) {
        const bool failed = outcome.status != expected.status;
        r.injected++;
        if (!inject::fired()) wrong(r, Wrong::Other, "the fault did not come");
        if (failed) {
            count_status(r, outcome.status);
            if (outcome.status != gptoss_status_insufficient_memory)
                wrong(r, Wrong::Other, std::string(gptoss_status_string(outcome.status)) + ": " + gptoss_last_error());
        } else {
            r.absorbed++;
        }
        if ((!failed || outcome.complete) && outcome.given != expected.given)
            wrong(r, Wrong::Tokens, "other output in spite of the fault");
        const Outcome again = call.run();
        if (again.status != expected.status || again.given != expected.given)
            wrong(r, Wrong::Tokens, std::string("other output after the fault: ") + gptoss_last_error());
    }

    Outcome create(const std::string& path) { return create(path.c_str()); }
    Outcome create(const char* path) {
        Outcome o;
        gptoss_tokenizer_t tokenizer = nullptr;
        o.status = in_library([&] { return gptoss_tokenizer_create(path, &tokenizer); });
        if (o.status == gptoss_status_success)
            o.given = encode_outside(tokenizer);
        else
            check_nothing_given(*row_, !tokenizer);
        in_library([&] { return gptoss_tokenizer_release(tokenizer); });
        return o;
    }

    static std::string encode_outside(gptoss_tokenizer_t tokenizer) {
        std::vector<uint32_t> tokens(200);
        size_t n = 0;
        must(gptoss_tokenizer_encode(tokenizer, kText, std::char_traits<char>::length(kText), 1, tokens.data(),
                                     tokens.size(), &n),
             "encode");
        tokens.resize(n);
        return bytes_of(tokens);
    }

    Encoded encode(gptoss_tokenizer_t tokenizer, const std::string& text) {
        Encoded e;
        e.tokens.resize(text.size());
        size_t n = 0;
        e.outcome.status = in_library([&] {
            return gptoss_tokenizer_encode(tokenizer, text.data(), text.size(), 1, e.tokens.data(), e.tokens.size(),
                                           &n);
        });
        if (e.outcome.status != gptoss_status_success) check_nothing_given(*row_, n == 0);
        e.tokens.resize(n);
        e.outcome.given = bytes_of(e.tokens);
        return e;
    }

    // The tokens and one that does not exist.
    Outcome decode() {
        Outcome o;
        std::vector<uint32_t> tokens = answer_;
        o.given.resize(2000);
        size_t size = 0;
        o.status = in_library([&] {
            return gptoss_tokenizer_decode_tokens(tokenizer_, tokens.data(), tokens.size(), o.given.data(),
                                                  o.given.size(), &size);
        });
        o.given.resize(size);
        if (o.status != gptoss_status_success) return o;
        tokens.back() = 4000000;
        o.status = in_library([&] {
            return gptoss_tokenizer_decode_tokens(tokenizer_, tokens.data(), tokens.size(), nullptr, 0, &size);
        });
        return o;
    }

    Outcome names() {
        Outcome o;
        uint32_t token = 0;
        o.status = in_library([&] {
            const gptoss_status status = gptoss_tokenizer_find_special_token(tokenizer_, "<|message|>", &token);
            return status
                       ? status
                       : gptoss_tokenizer_find_special_token(tokenizer_, "<|no special token has this name|>", &token);
        });
        return o;
    }

    Outcome render(const std::string& conversation) {
        Outcome o;
        std::vector<uint32_t> tokens(5000);
        size_t n = 0;
        o.status = in_library([&] {
            return gptoss_harmony_render(tokenizer_, conversation.data(), conversation.size(), tokens.data(),
                                         tokens.size(), &n);
        });
        if (o.status != gptoss_status_success) check_nothing_given(*row_, n == 0);
        tokens.resize(n);
        o.given = bytes_of(tokens);
        return o;
    }

    // What the parser says after each token, and its messages halfway and at the end. A token that it failed to take
    // has changed nothing and comes again.
    Outcome parse() {
        Outcome o;
        gptoss_harmony_parser_t parser = nullptr;
        const auto insist = [&](const std::function<gptoss_status()>& call) {
            const gptoss_status status = in_library(call);
            if (status == gptoss_status_success) return;
            o.status = status;
            inject::disarm();
            must(in_library(call), "once more");
        };
        insist([&] { return gptoss_harmony_parser_create(tokenizer_, &parser); });
        for (size_t i = 0; i < answer_.size(); i++) {
            const std::string before = said_by(parser);
            insist([&] {
                const gptoss_status status = gptoss_harmony_parser_process(parser, answer_[i]);
                const inject::InTest scope;
                if (status != gptoss_status_success && said_by(parser) != before)
                    wrong(*row_, Wrong::Tokens, "a token that was not taken changed the message");
                return status;
            });
            o.given += said_by(parser) + "\n";
            if (i + 1 == answer_.size() || i == answer_.size() / 2) {
                size_t size = 0;
                std::string json(4000, ' ');
                insist([&] { return gptoss_harmony_parser_get_messages(parser, json.data(), json.size(), &size); });
                o.given += json.substr(0, size);
            }
        }
        in_library([&] { return gptoss_harmony_parser_release(parser); });
        o.complete = true;
        return o;
    }

    static std::string said_by(gptoss_harmony_parser_t parser) {
        std::string all;
        const char* text = nullptr;
        for (const auto get :
             {gptoss_harmony_parser_get_role, gptoss_harmony_parser_get_channel, gptoss_harmony_parser_get_recipient,
              gptoss_harmony_parser_get_content_type, gptoss_harmony_parser_get_delta}) {
            must(get(parser, &text, nullptr), "getter");
            all += std::string(text) + "|";
        }
        int malformed = 0;
        must(gptoss_harmony_parser_is_malformed(parser, &malformed), "is_malformed");
        return all + (malformed ? "malformed" : "");
    }

    static void write(const std::string& path, const std::string& bytes) { std::ofstream(path) << bytes; }

    // Every byte as a token, some merges, the special tokens.
    static std::string tokenizer_json() {
        std::string vocabulary, merges;
        uint32_t id = 0;
        const auto add = [&](const std::string& name) {
            vocabulary += (id ? ", \"" : "\"") + name + "\": " + std::to_string(id);
            id++;
        };
        for (uint32_t b = 0; b < 256; b++) {  // in GPT-2's alphabet
            const bool printable = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
            const uint32_t c = printable ? b : 0x100 + (b <= 0x20 ? b : b <= 0xA0 ? b - 0x7F + 33 : 67);
            std::string name;
            if (c < 0x80)
                name = (c == '"' || c == '\\' ? "\\" : "") + std::string(1, static_cast<char>(c));
            else
                name = {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
            add(name);
        }
        for (const char* merge : {"h e", "l l", "e n", "en d", "o r", "he ll", "hell o"}) {
            std::string name(merge);
            merges += (merges.empty() ? "\"" : ", \"") + name + "\"";
            name.erase(name.find(' '), 1);
            add(name);
        }
        std::string added;
        for (const char* name : {"<|start|>", "<|message|>"})
            added += std::string(added.empty() ? "" : ", ") + "{\"id\": " + std::to_string(id++) + ", \"content\": \"" +
                     name + "\", \"special\": true}";
        return R"({"version": "1.0", "added_tokens": [)" + added +
               R"(], "normalizer": null, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split",
                "pattern": {"Regex": "[^\\s]+|\\s+(?!\\S)|\\s+"}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
                "model": {"type": "BPE", "vocab": {)" +
               vocabulary + "}, \"merges\": [" + merges + "]}}";
    }

    static std::string tiktoken() {
        std::string lines;
        const char* const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for (uint32_t b = 0; b < 256; b++)
            lines += {digits[b >> 2], digits[b << 4 & 63], '=', '='}, lines += " " + std::to_string(b) + "\n";
        return lines + "aGU= 256\n";
    }

    std::mt19937_64 random_;
    std::string folder_;
    gptoss_tokenizer_t tokenizer_ = nullptr;
    std::vector<uint32_t> answer_;
    std::string long_text_;
    Row* row_ = &row("text: allocation fails");
};

}  // namespace

void text_faults(uint64_t n, uint64_t seed) { TextFaults(seed).run(n); }

}  // namespace gptoss::test
