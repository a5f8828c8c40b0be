#include <doctest/doctest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "posix.h"
#include "text/tokenizer/sources.h"

using namespace gptoss;
using namespace gptoss::text;
using nlohmann::json;

namespace {

const Tokenizer& o200k() {
    static const std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::o200k_harmony();
    return *tokenizer;
}

json golden(const char* name) {
    return json::parse(std::ifstream(std::string(GPTOSS_SOURCE_DIR "/tests/golden/o200k/") + name));
}

}  // namespace

TEST_CASE("o200k_harmony encodes as OpenAI's tiktoken does") {
    for (const json& example : golden("encodings.json")) {
        const std::string text = example["text"];
        const bool special = example.value("special", false);
        CAPTURE(text);
        const std::vector<Token> tokens = o200k().encode(text, special);
        CHECK(tokens == example["tokens"].get<std::vector<Token>>());
        CHECK(o200k().decode(tokens) == text);
    }
}

namespace {

// The built-in vocabulary in another file's form.
std::string byte_level(std::string_view bytes) {
    static const std::vector<std::string> alphabet = [] {
        std::vector<std::string> out(256);
        int others = 0;
        for (int b = 0; b < 256; ++b) {
            const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
            const int c = printable ? b : 256 + others++;
            out[b] = c < 0x80 ? std::string(1, static_cast<char>(c))
                              : std::string{static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
        }
        return out;
    }();
    std::string out;
    for (unsigned char c : bytes) out += alphabet[c];
    return out;
}

std::string base64(std::string_view bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; ++k)
            bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0);
        for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? digits[bits >> (18 - 6 * k) & 63] : '=';
    }
    return out;
}

void check_same_as_builtin(const Tokenizer& tokenizer) {
    CHECK(tokenizer.num_text_tokens() == o200k().num_text_tokens());
    for (const json& example : golden("encodings.json")) {
        const std::string text = example["text"];
        CAPTURE(text);
        CHECK(tokenizer.encode(text, example.value("special", false)) == example["tokens"].get<std::vector<Token>>());
    }
}

}  // namespace

TEST_CASE("a .tiktoken file with o200k's ranks is o200k_harmony") {
    std::string file;
    for (Token token = 0; token < o200k().num_text_tokens(); ++token)
        file += base64(o200k().decode(token)) + " " + std::to_string(token) + "\n";
    const Tokenizer tokenizer(parse_tiktoken(file));
    check_same_as_builtin(tokenizer);
    CHECK(tokenizer.num_special_tokens() == 1090);
    CHECK(tokenizer.find_special("<|call|>") == 200012);
}

TEST_CASE("a tokenizer.json with o200k's vocabulary is o200k_harmony") {
    json vocab, merges = json::array(), added = json::array();
    for (Token token = 0; token < o200k().num_text_tokens(); ++token) vocab[byte_level(o200k().decode(token))] = token;
    // The merges, in the order of the ids that they make: the parts that a token has just before its last merge.
    const TokenizerParts builtin = o200k_parts();
    for (Token token = 0; token < o200k().num_text_tokens(); ++token) {
        const std::string_view bytes = builtin.vocabulary.bytes(token);
        for (size_t i = 1; i < bytes.size(); ++i) {
            const Token left = builtin.vocabulary.find(bytes.substr(0, i)),
                        right = builtin.vocabulary.find(bytes.substr(i));
            if (left == no_token || right == no_token || builtin.vocabulary.merge(left, right) != token) continue;
            const std::string a = byte_level(bytes.substr(0, i)), b = byte_level(bytes.substr(i));
            if (token % 2)
                merges.push_back(a + " " + b);
            else
                merges.push_back({a, b});
        }
    }
    for (Token token : {199998, 199999, 200002, 200003, 200005, 200006, 200007, 200008, 200012, 200018})
        added.push_back({{"id", token}, {"content", o200k().decode(token)}, {"special", true}});
    const json pattern = {
        {"type", "Split"}, {"pattern", {{"Regex", o200k_pattern}}}, {"behavior", "Removed"}, {"invert", true}};
    const json level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    const json file = {{"added_tokens", added},
                       {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {pattern, level}}}},
                       {"model", {{"type", "BPE"}, {"ignore_merges", true}, {"vocab", vocab}, {"merges", merges}}}};
    CHECK(merges.size() == 199742);
    check_same_as_builtin(Tokenizer(parse_tokenizer_json(file.dump())));
}

TEST_CASE("added tokens that are not special are found in any text") {
    const json file = {
        {"added_tokens",
         {{{"id", 9}, {"content", "<x>"}, {"special", false}}, {{"id", 8}, {"content", "<y>"}, {"special", true}}}},
        {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
        {"model",
         {{"type", "BPE"},
          {"vocab", {{"a", 0}, {"<", 1}, {"y", 2}, {">", 3}, {"x", 4}, {"aa", 5}}},
          {"merges", {"a a"}}}}};
    const Tokenizer tokenizer(parse_tokenizer_json(file.dump()));
    CHECK(tokenizer.encode("aa<x><y>", false) == std::vector<Token>{5, 9, 1, 2, 3});
    CHECK(tokenizer.encode("aa<x><y>", true) == std::vector<Token>{5, 9, 8});
    CHECK(tokenizer.encode("ab", false) == std::vector<Token>{0});  // no token for "b", and none for the unknown
    CHECK(tokenizer.decode(9) == "<x>");
    CHECK(tokenizer.text_token(9).empty());
}

TEST_CASE("a mistake in a vocabulary file is named") {
    auto refusal = [](auto parse, std::string_view bytes) -> std::string {
        try {
            parse(bytes);
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    CHECK(refusal(parse_tiktoken, "YQ== 0\nYg==\n") == "line 2: no space between a token and its rank");
    CHECK(refusal(parse_tiktoken, "YQ== 0\nYQ== 1\n") == "tokens 0 and 1 are both \"a\"");
    CHECK(refusal(parse_tiktoken, "YQ== 99999999\n") == "line 1: rank 99999999 is too large");
    CHECK(refusal(parse_tokenizer_json, R"({"model":{"type":"Unigram"}})") ==
          "model.type is \"Unigram\": expected \"BPE\"");
    CHECK(refusal(parse_tokenizer_json, R"({"model":{"vocab":{"a":0},"merges":["a b"]}})") ==
          "model.merges[0]: there is no token 'b'");
    CHECK(refusal(parse_tokenizer_json, R"({"model":{"vocab":{"a":-1}}})") ==
          "model.vocab.a is -1: expected a whole number below 2^32");
    CHECK(refusal(parse_tokenizer_json, R"({"added_tokens":[{"id":1,"content":"x","lstrip":true}],"model":{}})") ==
          "added_tokens[0].lstrip is true: expected false");
    CHECK(refusal(parse_tokenizer_json, "[]") == "the file is an array: expected an object");
}

TEST_CASE("a model's tokenizer is its own if it brings one, else the built-in") {
    const std::string golden_folder = GPTOSS_SOURCE_DIR "/tests/golden/";
    CHECK(Tokenizer::of_model("")->num_text_tokens() == 199998);
    const std::shared_ptr<const Tokenizer> own = Tokenizer::of_model(golden_folder + "tiny-bf16.gguf");
    CHECK(own->num_text_tokens() + own->num_special_tokens() < 1000);
    CHECK_THROWS_AS(Tokenizer::from_path(golden_folder + "tiny"), Error);
}

TEST_CASE("a run of 5 MB of any white space, alone or between words, is encoded in a moment") {
    for (const char* space : {" ", "\t", "\n", "\r", "\r\n", "\v", "\f", "\xC2\xA0", "\xC2\x85", "\xE2\x80\x83",
                              "\xE2\x80\xA8", "\xE3\x80\x80", " \t", "\n "}) {
        for (const char* around : {"", "a", "\n"}) {
            CAPTURE(std::string(space));
            CAPTURE(std::string(around));
            std::string text = around;
            while (text.size() < 5 << 20) text += space;
            text += around;
            const auto begin = std::chrono::steady_clock::now();
            const std::vector<Token> tokens = o200k().encode(text, false);
            CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < 3);
            CHECK(o200k().decode(tokens) == text);
        }
    }
}

TEST_CASE("a vocabulary is recognised by its content, and what cannot be one is refused at once") {
    const std::filesystem::path directory =
        std::filesystem::temp_directory_path() / ("gptoss-" + std::to_string(::getpid()));
    std::filesystem::remove_all(directory);
    std::filesystem::create_directory(directory);
    const auto path = [&](const char* name) { return (directory / name).generic_string(); };
    const auto refused = [](const std::string& path, const std::string& words) {
        try {
            Tokenizer::from_path(path);
            FAIL_CHECK("accepted " << path);
        } catch (const Error& e) {
            CHECK(e.status() == Status::IoError);
            CHECK_MESSAGE(std::string(e.what()).find(words) != std::string::npos, e.what());
        }
    };
    const std::string gguf = GPTOSS_SOURCE_DIR "/tests/golden/tiny-bf16.gguf";
    for (const char* name : {"sha256-0123", "M.GGUF", "x.json"}) {
        std::filesystem::copy_file(gguf, path(name));
        CHECK(Tokenizer::from_path(path(name))->num_text_tokens() == 256);
    }
    std::ofstream(path("ranks")) << "YQ== 0\nYg== 1\n";
    CHECK(Tokenizer::from_path(path("ranks"))->num_text_tokens() == 2);
    std::filesystem::create_directory(path("model"));
#ifndef _WIN32  // where no directory has a FIFO, and links take rights
    CHECK(::mkfifo(path("model/tokenizer.json").c_str(), 0600) == 0);
    refused(path("model"), "/tokenizer.json: is not a regular file");
    refused(path("model/tokenizer.json"), "/tokenizer.json: is not a regular file");
    std::filesystem::remove(path("model/tokenizer.json"));
    std::filesystem::create_symlink("nowhere", path("model/tokenizer.json"));
    refused(path("model"), "/tokenizer.json: is a link to a file that is not there");
    std::filesystem::remove(path("model/tokenizer.json"));
#endif
    refused(path("model"), "/model: holds no vocabulary");
    std::ofstream(path("model/tokenizer.json"))
        << "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    refused(path("model"), "/tokenizer.json: is a git-lfs pointer");
    refused(path("none"), "/none: No such file");
    std::filesystem::remove_all(directory);
}
