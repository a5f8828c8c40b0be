// A vocabulary as tries, which a grammar walks to find the tokens that may come next. Immutable; made once a tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace gptoss::text {

// A bit for each token.
using TokenMask = std::vector<uint32_t>;

inline void allow(TokenMask& mask, Token token) { mask[token >> 5] |= 1u << (token & 31); }
inline void forbid(TokenMask& mask, Token token) { mask[token >> 5] &= ~(1u << (token & 31)); }
inline bool is_allowed(const TokenMask& mask, Token token) {
    return token >> 5 < mask.size() && (mask[token >> 5] >> (token & 31) & 1);
}

// Nodes in depth-first order: those below a node follow it.
struct TokenTrie {
    struct Node {
        uint32_t end;     // behind the last node below this one
        Token token;      // that ends here, or no_token
        uint8_t byte;     // that leads here
        uint8_t longest;  // characters that the tokens below add at most, up to 255
    };
    std::vector<Node> nodes;
    std::array<uint32_t, 256> roots;  // the node of a first byte; nodes.size() if there is none

    struct Entry {
        std::string_view bytes;
        Token token;
    };
    explicit TokenTrie(std::vector<Entry> entries);
    // The node that a text leads to, or nodes.size().
    uint32_t find(std::string_view text) const;
};

class TokenTable {
  public:
    // Longer tokens count as if they had this many characters.
    static constexpr uint32_t max_characters = 160;

    explicit TokenTable(std::shared_ptr<const Tokenizer> tokenizer);

    const std::shared_ptr<const Tokenizer>& tokenizer() const { return tokenizer_; }
    uint32_t num_tokens() const { return num_tokens_; }
    size_t mask_words() const { return (num_tokens_ + 31) / 32; }

    // Tokens that are whole characters and can stand in a JSON string as they are, and all others. A state in which
    // any such character may come allows most of the vocabulary without a look at it.
    const TokenTrie& plain() const { return plain_; }
    const TokenTrie& other() const { return other_; }
    uint32_t longest_token() const { return longest_token_; }  // bytes
    // Whether a token begins with this text and is longer.
    bool begins_longer_token(std::string_view text) const;
    // The plain tokens of at most that many characters; of max_characters: all of them.
    const TokenMask& plain_up_to(uint32_t characters) const { return plain_up_to_[characters]; }

  private:
    struct Split {
        std::vector<TokenTrie::Entry> plain, other;
    };
    TokenTable(std::shared_ptr<const Tokenizer> tokenizer, Split split);
    static Split split(const Tokenizer& tokenizer);

    const std::shared_ptr<const Tokenizer> tokenizer_;
    uint32_t num_tokens_ = 0;
    uint32_t longest_token_ = 0;
    std::vector<TokenMask> plain_up_to_;
    TokenTrie plain_, other_;
};

}  // namespace gptoss::text
