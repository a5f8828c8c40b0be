// Tokens of a completion: whatever comes, text stays valid UTF-8 and no token of a malformed message is lost.
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "text/harmony/harmony.h"

using namespace gptoss;

static void check_utf8(std::string_view text) {
    while (!text.empty()) {
        Utf8Step step = utf8_step(text);
        if (!step.valid) std::abort();
        text.remove_prefix(step.size);
    }
}

// Three bytes a token; a first byte of 0xFF stands for one of the special tokens.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const std::shared_ptr<const text::Tokenizer> tokenizer = text::Tokenizer::o200k_harmony();
    text::HarmonyParser parser(tokenizer);
    std::string deltas;
    for (size_t i = 0; i + 3 <= size && i < 3000; i += 3) {
        const text::Token token =
            data[i] == 0xFF ? 199998 + data[i + 1] % 24u : data[i] << 16 | data[i + 1] << 8 | data[i + 2];
        parser.process(token);
        check_utf8(parser.delta());
        for (const std::string* text : {&parser.role(), &parser.channel(), &parser.recipient(), &parser.content_type()})
            check_utf8(*text);
        deltas += parser.delta();
    }
    bool malformed = false;
    std::string content;
    for (const auto& message : nlohmann::json::parse(parser.messages_json())) {
        content += message["content"].get<std::string>();
        malformed = malformed || message.contains("raw_tokens");
    }
    if (parser.is_malformed() && !malformed) std::abort();
    if (content.size() < deltas.size()) std::abort();
    return 0;
}
