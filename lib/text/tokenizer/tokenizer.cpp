#include "text/tokenizer/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"

namespace gptoss::text {

std::string_view special_name(Special special) {
    switch (special) {
        case Special::Return:
            return "<|return|>";
        case Special::Start:
            return "<|start|>";
        case Special::Message:
            return "<|message|>";
        case Special::End:
            return "<|end|>";
        case Special::Refusal:
            return "<|refusal|>";
        case Special::Constrain:
            return "<|constrain|>";
        case Special::Channel:
            return "<|channel|>";
        case Special::Call:
            return "<|call|>";
        case Special::Untrusted:
            return "<|untrusted|>";
        case Special::EndUntrusted:
            return "<|end_untrusted|>";
    }
    throw Error(Status::InvalidArgument, "there is no special token type " + std::to_string(static_cast<int>(special)));
}

bool is_control_name(std::string_view name) {
    return name.size() > 4 && name.starts_with("<|") && name.ends_with("|>");
}

Tokenizer::Tokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
    id_limit_ = parts_.vocabulary.id_limit();
    for (auto& [name, token, always] : parts_.specials) {
        if (name.empty() || token == no_token)
            throw Error(Status::IoError, "special token " + std::to_string(token) + " has no name");
        auto [entry, is_new] = special_names_.emplace(token, name);
        if (!is_new && entry->second != name)
            throw Error(Status::IoError, "special tokens " + entry->second + " and " + name + " are both token " +
                                             std::to_string(token));
        auto [id, is_new_name] = special_ids_.emplace(entry->second, token);
        if (!is_new_name && id->second != token)
            throw Error(Status::IoError, "special token " + name + " has two ids: " + std::to_string(id->second) +
                                             " and " + std::to_string(token));
        starts_special_[static_cast<unsigned char>(name[0])] = true;
        special_lengths_.push_back(name.size());
        if (always && !is_control_name(name)) always_.insert(token);
        if (token == parts_.unknown && is_control_name(name)) parts_.unknown = no_token;
        id_limit_ = std::max(id_limit_, token + 1);
    }
    std::sort(special_lengths_.begin(), special_lengths_.end(), std::greater<>());
    special_lengths_.erase(std::unique(special_lengths_.begin(), special_lengths_.end()), special_lengths_.end());
    parts_.specials = {};
}

const std::string* Tokenizer::special_token_name(Token token) const {
    auto entry = special_names_.find(token);
    return entry == special_names_.end() ? nullptr : &entry->second;
}

std::optional<Token> Tokenizer::find_special(std::string_view name) const {
    auto entry = special_ids_.find(name);
    if (entry == special_ids_.end()) return std::nullopt;
    return entry->second;
}

std::string_view Tokenizer::decode(Token token) const {
    if (const std::string* name = special_token_name(token)) return *name;
    std::string_view bytes = parts_.vocabulary.bytes(token);
    if (bytes.empty()) throw Error(Status::InvalidArgument, "the vocabulary has no token " + std::to_string(token));
    return bytes;
}

std::string Tokenizer::decode(const std::vector<Token>& tokens) const {
    std::string out;
    for (Token token : tokens) out += decode(token);
    return out;
}

std::vector<Token> Tokenizer::encode(std::string_view text, bool allow_special) const {
    std::vector<Token> out;
    encode(text, allow_special, out);
    return out;
}

void Tokenizer::encode(std::string_view text, bool allow_special, std::vector<Token>& out) const {
    if (text.size() >= UINT32_MAX)
        throw Error(Status::UnsupportedArgument,
                    "a text of " + std::to_string(text.size()) + " bytes is too long: 4 GiB can be encoded at once");
    Splitter::Scratch scratch(parts_.splitter);
    size_t begin = 0;  // of the text since the last special token
    if (allow_special || !always_.empty()) {
        for (size_t i = 0; i < text.size();) {
            std::optional<Token> special = special_at(text.substr(i), allow_special);
            if (!special) {
                ++i;
                continue;
            }
            encode_text(text.substr(begin, i - begin), scratch, out);
            out.push_back(*special);
            begin = i += special_names_.at(*special).size();
        }
    }
    encode_text(text.substr(begin), scratch, out);
}

// The special token with the longest name that text begins with.
std::optional<Token> Tokenizer::special_at(std::string_view text, bool allow_special) const {
    if (!starts_special_[static_cast<unsigned char>(text[0])]) return std::nullopt;
    for (size_t length : special_lengths_) {
        if (length > text.size()) continue;
        std::optional<Token> special = find_special(text.substr(0, length));
        if (special && (allow_special || always_.count(*special))) return special;
    }
    return std::nullopt;
}

// Valid UTF-8 is split by the pattern; a run of anything else is a piece of its own, byte for byte.
void Tokenizer::encode_text(std::string_view text, Splitter::Scratch& scratch, std::vector<Token>& out) const {
    auto encode_piece = [&](std::string_view piece) {
        Token token = parts_.whole_pieces ? parts_.vocabulary.find(piece) : no_token;
        if (token != no_token)
            out.push_back(token);
        else
            parts_.vocabulary.encode_piece(piece, parts_.unknown, out);
    };
    const Splitter::Sink sink = encode_piece;
    size_t begin = 0;
    while (begin < text.size()) {
        const bool valid = utf8_step(text.substr(begin)).valid;
        size_t end = begin;
        while (end < text.size()) {
            Utf8Step step = utf8_step(text.substr(end));
            if (step.valid != valid) break;
            end += step.size;
        }
        std::string_view span = text.substr(begin, end - begin);
        if (valid)
            parts_.splitter.split(span, scratch, sink);
        else
            encode_piece(span);
        begin = end;
    }
}

}  // namespace gptoss::text
