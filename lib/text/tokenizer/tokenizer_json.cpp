#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer/sources.h"

namespace gptoss::text {

using nlohmann::json;

namespace {

[[noreturn]] void unsupported(const std::string& what) { throw Error(Status::UnsupportedArgument, what); }

const json* find(const json& object, const char* key) {
    if (!object.is_object()) return nullptr;
    auto entry = object.find(key);
    return entry == object.end() || entry->is_null() ? nullptr : &*entry;
}

// The value of a key that must be there.
const json& get(const json& object, const char* key, const char* where) {
    const json* value = find(object, key);
    if (!value) throw Error(Status::IoError, std::string(where) + " has no \"" + key + "\"");
    return *value;
}

const std::string& get_string(const json& object, const char* key, const char* where) {
    const json& value = get(object, key, where);
    if (!value.is_string()) throw Error(Status::IoError, std::string(where) + "'s \"" + key + "\" is not a string");
    return value.get_ref<const std::string&>();
}

bool get_bool(const json& object, const char* key, bool otherwise) {
    const json* value = find(object, key);
    return value && value->is_boolean() ? value->get<bool>() : otherwise;
}

Token get_id(const json& value, const std::string& name) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() >= max_vocabulary)
        throw Error(Status::IoError,
                    "the id of token \"" + name + "\" is not a number below " + std::to_string(max_vocabulary));
    return value.get<Token>();
}

std::string quote(const std::string& literal) {
    std::string pattern;
    for (char c : literal) {
        if (c > 0 && !std::isalnum(static_cast<unsigned char>(c))) pattern += '\\';
        pattern += c;
    }
    return pattern;
}

void read_split(const json& node, std::vector<Splitter::Rule>& rules) {
    const json& pattern = get(node, "pattern", "a Split pre-tokenizer");
    const std::string& behavior = get_string(node, "behavior", "a Split pre-tokenizer");
    const bool invert = get_bool(node, "invert", false);
    if (behavior != "Isolated" && behavior != "Removed") unsupported("Split behavior \"" + behavior + "\"");
    Splitter::Rule rule;
    rule.pattern = find(pattern, "Regex") ? get_string(pattern, "Regex", "a Split pattern")
                                          : quote(get_string(pattern, "String", "a Split pattern"));
    if (behavior == "Removed") (invert ? rule.keep_gaps : rule.keep_matches) = false;
    rules.push_back(std::move(rule));
}

// Adds the rules of one pre-tokenizer; true if it turns bytes into the byte-level alphabet.
bool read_pre_tokenizer(const json& node, std::vector<Splitter::Rule>& rules) {
    const std::string& type = get_string(node, "type", "the pre-tokenizer");
    if (type == "Split") {
        read_split(node, rules);
        return false;
    }
    if (type != "ByteLevel") unsupported("pre-tokenizer \"" + type + "\"");
    if (get_bool(node, "add_prefix_space", true)) unsupported("pre-tokenizer option \"add_prefix_space\"");
    if (get_bool(node, "use_regex", true)) rules.push_back({gpt2_pattern});
    return true;
}

Splitter read_pre_tokenizers(const json& root) {
    const json& node = get(root, "pre_tokenizer", "the file");
    std::vector<Splitter::Rule> rules;
    bool byte_level = false;
    if (find(node, "type") && is_text(node["type"], "Sequence")) {
        const json& list = get(node, "pretokenizers", "the pre-tokenizer");
        if (list.size() > 16) unsupported(std::to_string(list.size()) + " pre-tokenizers");
        for (const json& element : list) {
            if (byte_level) unsupported("a pre-tokenizer after \"ByteLevel\"");
            byte_level = read_pre_tokenizer(element, rules);
        }
    } else {
        byte_level = read_pre_tokenizer(node, rules);
    }
    if (!byte_level) unsupported("a pre-tokenizer without \"ByteLevel\"");
    return Splitter(rules);
}

std::vector<SpecialToken> read_added_tokens(const json& root) {
    std::vector<SpecialToken> tokens;
    const json* list = find(root, "added_tokens");
    if (!list) return tokens;
    for (const json& node : *list) {
        const std::string& name = get_string(node, "content", "an added token");
        for (const char* option : {"single_word", "lstrip", "rstrip"})
            if (get_bool(node, option, false)) unsupported("option \"" + std::string(option) + "\" of token " + name);
        tokens.push_back({name, get_id(get(node, "id", "an added token"), name), !get_bool(node, "special", false)});
    }
    return tokens;
}

Vocabulary read_vocabulary(const json& model, const std::vector<SpecialToken>& specials) {
    const json& vocab = get(model, "vocab", "the model");
    if (!vocab.is_object()) throw Error(Status::IoError, "the model's \"vocab\" is not an object");
    std::vector<std::string> tokens;
    for (auto& [name, id] : vocab.items()) {
        const Token token = get_id(id, name);
        if (token >= tokens.size()) tokens.resize(token + 1);
        if (!tokens[token].empty())
            throw Error(Status::IoError, "two tokens, one of them \"" + name + "\", have id " + std::to_string(token));
        tokens[token] = from_byte_level(name);
    }
    for (const SpecialToken& special : specials)
        if (special.token < tokens.size()) tokens[special.token].clear();
    return Vocabulary(tokens);
}

// A merge is "a b" or ["a", "b"].
std::pair<std::string, std::string> read_pair(const json& node, const std::string& where) {
    if (node.is_string()) {
        const std::string& text = node.get_ref<const std::string&>();
        if (const size_t space = text.find(' '); space != std::string::npos)
            return {text.substr(0, space), text.substr(space + 1)};
    } else if (node.is_array() && node.size() == 2 && node[0].is_string() && node[1].is_string()) {
        return {node[0].get<std::string>(), node[1].get<std::string>()};
    }
    throw Error(Status::IoError, where + R"( is neither "a b" nor ["a", "b"])");
}

void read_merges(const json& model, Vocabulary& vocabulary) {
    const json& list = get(model, "merges", "the model");
    if (!list.is_array()) throw Error(Status::IoError, "the model's \"merges\" is not an array");
    std::vector<Vocabulary::Merge> merges;
    for (const json& node : list) {
        const std::string where = "merge " + std::to_string(merges.size());
        const auto [left, right] = read_pair(node, where);
        merges.push_back(find_merge(vocabulary, left, right));
        const Vocabulary::Merge& merge = merges.back();
        for (auto& [token, name] : {std::pair(merge.left, left), {merge.right, right}, {merge.token, left + right}})
            if (token == no_token) throw Error(Status::IoError, where + ": there is no token \"" + name + "\"");
    }
    vocabulary.set_merges(merges);
}

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view bytes) {
    const JsonRoot<json> owner(bytes, {}, [](const std::string& what) { throw Error(Status::IoError, what); });
    const json& root = *owner;
    const json& model = get(root, "model", "the file");
    if (find(model, "type") && !is_text(model["type"], "BPE")) unsupported("model type " + model["type"].dump());
    if (const json* normalizer = find(root, "normalizer"))
        unsupported("normalizer " + normalizer->dump().substr(0, 80));
    for (const char* option : {"continuing_subword_prefix", "end_of_word_suffix"})
        if (const json* value = find(model, option); value && !is_text(*value, ""))
            unsupported("model option \"" + std::string(option) + "\"");
    if (get_bool(model, "byte_fallback", false)) unsupported("model option \"byte_fallback\"");

    std::vector<SpecialToken> specials = read_added_tokens(root);
    Vocabulary vocabulary = read_vocabulary(model, specials);
    read_merges(model, vocabulary);
    Token unknown = no_token;
    if (find(model, "unk_token")) {
        const std::string& name = get_string(model, "unk_token", "the model");
        unknown = vocabulary.find(from_byte_level(name));
        for (const SpecialToken& special : specials)
            if (special.name == name) unknown = special.token;
        if (unknown == no_token) throw Error(Status::IoError, "there is no token \"" + name + "\", the unknown token");
    }
    return {.vocabulary = std::move(vocabulary),
            .splitter = read_pre_tokenizers(root),
            .specials = std::move(specials),
            .whole_pieces = get_bool(model, "ignore_merges", false),
            .unknown = unknown};
}

}  // namespace gptoss::text
