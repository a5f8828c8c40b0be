#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fail.h"
#include "base/json_node.h"
#include "text/tokenizer/sources.h"

namespace gptoss::text {

using nlohmann::json;

namespace {

using Node = JsonNode<json>;

[[noreturn]] void unsupported(const Node& node, const std::string& expected) {
    throw Error(Status::UnsupportedArgument, node.described() + ": expected " + expected);
}

Token get_id(const Node& node) {
    const uint32_t id = node.integer();
    if (id >= max_vocabulary) node.expected("a number below " + std::to_string(max_vocabulary));
    return id;
}

// A pattern that matches this text alone.
std::string pattern_of(const std::string& literal) {
    std::string pattern;
    for (char c : literal) {
        const bool is_plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (c > 0 && !is_plain) pattern += '\\';
        pattern += c;
    }
    return pattern;
}

void read_split(const Node& node, std::vector<Splitter::Rule>& rules) {
    const Node pattern = node.get("pattern"), behavior = node.get("behavior");
    const bool invert = node.boolean({"invert"}, false), removed = behavior.text() == "Removed";
    if (!removed && behavior.text() != "Isolated") unsupported(behavior, "\"Isolated\" or \"Removed\"");
    const auto regex = pattern.find("Regex");
    Splitter::Rule rule;
    rule.pattern = regex ? regex->text() : pattern_of(pattern.get("String").text());
    if (removed) (invert ? rule.keep_gaps : rule.keep_matches) = false;
    rules.push_back(std::move(rule));
}

// Refuses an option that has a value other than the one that this library has built in.
void require(const Node& node, const char* option, bool otherwise, bool expected) {
    if (node.boolean({option}, otherwise) == expected) return;
    const auto given = node.find(option);
    if (given) unsupported(*given, expected ? "true" : "false");
    node.refuse("\"" + std::string(option) + "\" is missing: expected " + (expected ? "true" : "false"));
}

// Adds the rules of one pre-tokenizer; true if it turns bytes into the byte-level alphabet.
bool read_pre_tokenizer(const Node& node, std::vector<Splitter::Rule>& rules) {
    const Node type = node.get("type");
    if (type.text() == "Split") {
        read_split(node, rules);
        return false;
    }
    if (type.text() != "ByteLevel") unsupported(type, "\"Split\" or \"ByteLevel\"");
    require(node, "add_prefix_space", true, false);
    if (node.boolean({"use_regex"}, true)) rules.push_back({gpt2_pattern});
    return true;
}

Splitter read_pre_tokenizers(const Node& root) {
    const Node node = root.get("pre_tokenizer");
    std::vector<Splitter::Rule> rules;
    bool byte_level = false;
    if (node.text({"type"}, "") == "Sequence") {
        const std::vector<Node> list = node.get("pretokenizers").elements();
        if (list.size() > 16) unsupported(node, "at most 16 pre-tokenizers");
        for (const Node& element : list) {
            if (byte_level) unsupported(element, "nothing after \"ByteLevel\"");
            byte_level = read_pre_tokenizer(element, rules);
        }
    } else {
        byte_level = read_pre_tokenizer(node, rules);
    }
    if (!byte_level) unsupported(node, "\"ByteLevel\" at its end");
    return Splitter(rules);
}

std::vector<SpecialToken> read_added_tokens(const Node& root) {
    std::vector<SpecialToken> tokens;
    const auto list = root.find("added_tokens");
    if (!list) return tokens;
    for (const Node& node : list->elements()) {
        for (const char* option : {"single_word", "lstrip", "rstrip"}) require(node, option, false, false);
        tokens.push_back({node.get("content").text(), get_id(node.get("id")), !node.boolean({"special"}, false)});
    }
    return tokens;
}

Vocabulary read_vocabulary(const Node& model, const std::vector<SpecialToken>& specials) {
    std::vector<std::string> tokens;
    for (const auto& [name, id] : model.get("vocab").members()) {
        const Token token = get_id(id);
        if (token >= tokens.size()) tokens.resize(token + 1);
        if (!tokens[token].empty()) id.refuse("is the id of two tokens, " + std::to_string(token));
        tokens[token] = from_byte_level(name);
    }
    for (const SpecialToken& special : specials)
        if (special.token < tokens.size()) tokens[special.token].clear();
    return Vocabulary(tokens);
}

// A merge is "a b" or ["a", "b"].
std::pair<std::string, std::string> read_pair(const Node& node) {
    const json& pair = node.json();
    if (pair.is_string()) {
        const std::string& text = node.text();
        if (const size_t space = text.find(' '); space != std::string::npos)
            return {text.substr(0, space), text.substr(space + 1)};
    } else if (pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string()) {
        return {pair[0].get<std::string>(), pair[1].get<std::string>()};
    }
    node.expected(R"("a b" or ["a", "b"])");
}

void read_merges(const Node& model, Vocabulary& vocabulary) {
    std::vector<Vocabulary::Merge> merges;
    for (const Node& node : model.get("merges").elements()) {
        const auto [left, right] = read_pair(node);
        merges.push_back(find_merge(vocabulary, left, right));
        const Vocabulary::Merge& merge = merges.back();
        for (auto& [token, name] : {std::pair(merge.left, left), {merge.right, right}, {merge.token, left + right}})
            if (token == no_token) node.refuse("there is no token " + quote(name));
    }
    vocabulary.set_merges(merges);
}

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view bytes) {
    const JsonOrigin origin{Status::IoError, "the file"};
    const JsonRoot<json> document(bytes, {}, [](const std::string& what) { throw Error(Status::IoError, what); });
    const Node root(*document, origin), model = root.get("model");
    if (const auto type = model.find("type"); type && type->text() != "BPE") unsupported(*type, "\"BPE\"");
    if (const auto normalizer = root.find("normalizer")) unsupported(*normalizer, "none");
    for (const char* option : {"continuing_subword_prefix", "end_of_word_suffix"})
        if (const auto value = model.find(option); value && !is_text(value->json(), "")) unsupported(*value, "\"\"");
    require(model, "byte_fallback", false, false);

    std::vector<SpecialToken> specials = read_added_tokens(root);
    Vocabulary vocabulary = read_vocabulary(model, specials);
    read_merges(model, vocabulary);
    Token unknown = no_token;
    if (const auto name = model.find("unk_token")) {
        unknown = vocabulary.find(from_byte_level(name->text()));
        for (const SpecialToken& special : specials)
            if (special.name == name->text()) unknown = special.token;
        if (unknown == no_token) name->expected("a token of the vocabulary");
    }
    return {.vocabulary = std::move(vocabulary),
            .splitter = read_pre_tokenizers(root),
            .specials = std::move(specials),
            .whole_pieces = model.boolean({"ignore_merges"}, false),
            .unknown = unknown};
}

}  // namespace gptoss::text
