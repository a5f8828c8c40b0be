// Text to tokens and back. Immutable: any number of threads may share one.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/tokenizer/splitter.h"
#include "text/tokenizer/vocabulary.h"

namespace gptoss::text {

// Values equal enum gptoss_special_token of the public header.
enum class Special {
    Return = 1,
    Start = 2,
    Message = 3,
    End = 4,
    Refusal = 5,
    Constrain = 6,
    Channel = 7,
    Call = 8,
    Untrusted = 9,
    EndUntrusted = 10,
};

// "<|return|>" and so on; throws InvalidArgument for a value that is none of them.
std::string_view special_name(Special special);

struct SpecialToken {
    std::string name;
    Token token;
    bool always = false;  // found in text even where special tokens are not allowed, unless it is a control token
};

// Whether a special token's name has the form of Harmony's control tokens, <|…|>. No text becomes one of these unless
// special tokens are allowed, whatever a vocabulary file says of it.
bool is_control_name(std::string_view name);

// All that a vocabulary file says.
struct TokenizerParts {
    Vocabulary vocabulary;
    Splitter splitter;
    std::vector<SpecialToken> specials;
    bool whole_pieces = true;  // a piece that is a token is that token, whatever the merges say
    Token unknown = no_token;  // stands for bytes without a token
};

class Tokenizer {
  public:
    // The built-in o200k_harmony.
    static std::shared_ptr<const Tokenizer> o200k_harmony();
    // From a tokenizer.json, .tiktoken or .gguf file of any name, or a directory that holds one of them. Throws
    // IoError.
    static std::shared_ptr<const Tokenizer> from_path(const std::string& path);
    // The tokenizer of a model whose vocabulary is in this file: the built-in where path is "" or a GGUF file without
    // one.
    static std::shared_ptr<const Tokenizer> of_model(const std::string& path);

    explicit Tokenizer(TokenizerParts parts);
    Tokenizer(const Tokenizer&) = delete;
    Tokenizer& operator=(const Tokenizer&) = delete;

    // Any bytes are accepted and come back from decode(). allow_special: the names of special tokens in the text
    // become those tokens, else they are plain text.
    std::vector<Token> encode(std::string_view text, bool allow_special) const;
    void encode(std::string_view text, bool allow_special, std::vector<Token>& out) const;

    // The bytes of a text token or the name of a special one; throws InvalidArgument if there is no such token.
    std::string_view decode(Token token) const;
    std::string decode(const std::vector<Token>& tokens) const;
    // Empty if it is no text token.
    std::string_view text_token(Token token) const { return parts_.vocabulary.bytes(token); }
    // NUL-terminated; nullptr if it is no special token.
    const std::string* special_token_name(Token token) const;

    std::optional<Token> find_special(std::string_view name) const;
    std::optional<Token> find_special(Special special) const { return find_special(special_name(special)); }

    // All ids are below this.
    uint32_t id_limit() const { return id_limit_; }
    uint32_t num_text_tokens() const { return parts_.vocabulary.num_tokens(); }
    uint32_t num_special_tokens() const { return static_cast<uint32_t>(special_names_.size()); }

  private:
    std::optional<Token> special_at(std::string_view text, bool allow_special) const;
    void encode_text(std::string_view text, Splitter::Scratch& scratch, std::vector<Token>& out) const;

    TokenizerParts parts_;
    std::unordered_map<Token, std::string> special_names_;
    std::unordered_map<std::string_view, Token> special_ids_;  // keys live in special_names_
    std::vector<size_t> special_lengths_;                      // of the names, longest first
    std::unordered_set<Token> always_;
    bool starts_special_[256] = {};
    uint32_t id_limit_ = 0;
};

}  // namespace gptoss::text
