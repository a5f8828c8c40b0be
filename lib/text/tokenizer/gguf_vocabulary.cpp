#include "base/error.h"
#include "base/fail.h"
#include "text/tokenizer/sources.h"

namespace gptoss::text {

bool is_vocabulary_key(std::string_view key) {
    for (const char* wanted : {"model", "pre", "tokens", "merges", "token_type", "unknown_token_id"})
        if (key.starts_with("tokenizer.ggml.") && key.substr(15) == wanted) return true;
    return false;
}

std::optional<TokenizerParts> gguf_vocabulary(const Gguf& gguf) {
    const std::string prefix = "tokenizer.ggml.";
    const auto key = [&](const char* name) { return prefix + name; };
    const std::vector<std::string>* names = gguf.texts(key("tokens"));
    if (!names || names->empty()) return std::nullopt;
    const auto unsupported = [&](const char* name, const std::string& value, const char* expected) {
        throw Error(Status::UnsupportedArgument, path_text(gguf.source) + ": metadata " + quote(key(name)) + " is " +
                                                     quote(value) + ": expected " + expected);
    };
    const std::string model = gguf.text(key("model")).value_or(""), pre = gguf.text(key("pre")).value_or("");
    if (model != "gpt2") unsupported("model", model, "'gpt2'");
    const bool gpt2 = pre == "gpt-2";
    if (!gpt2 && pre != "gpt-4o") unsupported("pre", pre, "'gpt-4o' or 'gpt-2'");
    const std::vector<int64_t>* types = gguf.integers(key("token_type"));
    if (types && types->size() != names->size())
        gguf.refuse(key("token_type"), "has " + std::to_string(types->size()) + " elements: expected one for each of " +
                                           std::to_string(names->size()) + " tokens");
    const Token unknown = gguf.integer(key("unknown_token_id")).value_or(no_token);
    if (unknown != no_token && unknown >= names->size())
        gguf.refuse(key("unknown_token_id"),
                    "is " + std::to_string(unknown) + ": expected a token below " + std::to_string(names->size()));

    constexpr int64_t control = 3, user_defined = 4, unused = 5;
    std::vector<std::string> tokens(names->size());
    std::vector<SpecialToken> specials;
    for (Token token = 0; token < tokens.size(); ++token) {
        const int64_t type = types ? (*types)[token] : 1;
        const std::string& name = (*names)[token];
        if (type == control || type == user_defined || type == unused)
            specials.push_back({name, token, type == user_defined});
        else
            tokens[token] = from_byte_level(name);
    }
    Vocabulary vocabulary(tokens);
    std::vector<Vocabulary::Merge> merges;
    const std::vector<std::string>* pairs = gguf.texts(key("merges"));
    for (size_t i = 0; pairs && i < pairs->size(); ++i) {
        const std::string_view merge = (*pairs)[i];
        // As in llama.cpp, a merge that makes no token of the vocabulary is none.
        const size_t space = merge.find(' ', 1);
        if (space == std::string_view::npos) continue;
        const Vocabulary::Merge pair = find_merge(vocabulary, merge.substr(0, space), merge.substr(space + 1));
        if (pair.left != no_token && pair.right != no_token && pair.token != no_token) merges.push_back(pair);
    }
    vocabulary.set_merges(merges);
    return TokenizerParts{.vocabulary = std::move(vocabulary),
                          .splitter = Splitter({{gpt2 ? gpt2_pattern : o200k_pattern}}),
                          .specials = std::move(specials),
                          .whole_pieces = !gpt2,
                          .unknown = unknown};
}

}  // namespace gptoss::text
