#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "error.h"
#include "text/tokenizer.h"

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
