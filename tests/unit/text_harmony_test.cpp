#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "error.h"
#include "text/harmony.h"

using namespace gptoss;
using namespace gptoss::text;
using Json = nlohmann::ordered_json;

namespace {

const std::shared_ptr<const Tokenizer>& o200k() {
    static const std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::o200k_harmony();
    return tokenizer;
}

// The vectors of a kind, with those added for hard cases.
Json golden(const std::string& name) {
    Json all = Json::array();
    for (const char* part : {".json", "_more.json"})
        for (Json& example : Json::parse(std::ifstream(GPTOSS_SOURCE_DIR "/tests/golden/o200k/" + name + part)))
            all.push_back(std::move(example));
    return all;
}

std::string render(const Json& conversation) {
    return o200k()->decode(render_conversation(*o200k(), conversation.dump()));
}

}  // namespace

TEST_CASE("conversations render as OpenAI's harmony library renders them") {
    for (const Json& example : golden("harmony_render")) {
        CAPTURE(example["name"]);
        const std::vector<Token> tokens = render_conversation(*o200k(), example.dump());
        CHECK(o200k()->decode(tokens) == example["text"].get<std::string>());
        CHECK(tokens == example["tokens"].get<std::vector<Token>>());
    }
}

TEST_CASE("a mistake in a conversation is named by its path") {
    auto message_of = [](const char* json) -> std::string {
        try {
            render_conversation(*o200k(), json);
        } catch (const Error& e) {
            CHECK(e.status() == Status::InvalidArgument);
            return e.what();
        }
        return "";
    };
    CHECK(message_of(R"({})") == "conversation: \"messages\" is missing");
    CHECK(message_of(R"({"messages":[{"role":"user","content":"x"},{"role":"bard","content":"x"}]})") ==
          "messages[1].role: there is no role \"bard\"");
    CHECK(render({{"messages", Json::array()}}) == "<|start|>assistant");
}

TEST_CASE("completions parse as OpenAI's harmony library parses them") {
    for (const Json& example : golden("harmony_parse")) {
        CAPTURE(example["name"]);
        HarmonyParser parser(o200k());
        Json deltas = Json::array();
        for (Token token : example["tokens"]) {
            parser.process(token);
            if (!parser.delta().empty()) deltas.push_back({parser.channel(), parser.recipient(), parser.delta()});
        }
        CHECK(deltas == example["deltas"]);
        CHECK(Json::parse(parser.messages_json()) == example["messages"]);
        CHECK(!parser.is_malformed());
    }
}
