// Text tokens and how byte-pair encoding joins them. Immutable once built; knows no special tokens and no pattern.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gptoss::text {

using Token = uint32_t;
inline constexpr Token no_token = UINT32_MAX;
// Ids and ranks of merges are below this; files that ask for more are refused.
inline constexpr uint32_t max_vocabulary = 1 << 21;

class Vocabulary {
  public:
    // Two neighbouring tokens that become one. Of all merges possible in a piece the first of the list comes first.
    struct Merge {
        Token left;
        Token right;
        Token token;
    };

    // bytes_of[id]: the bytes of token id; empty where there is no text token of that id. Throws IoError for bytes
    // that two tokens share.
    explicit Vocabulary(std::span<const std::string> bytes_of);
    // The same from one arena: token id is arena[offsets[id], offsets[id + 1]).
    Vocabulary(std::string arena, std::vector<uint32_t> offsets);

    void set_merges(std::span<const Merge> merges);
    // Takes the place of a list of merges where ranks decide (.tiktoken): whatever two neighbours spell a token may
    // join, the lowest id first.
    void set_merges_from_ranks();

    // Ids are below this.
    uint32_t id_limit() const { return static_cast<uint32_t>(offsets_.size() - 1); }
    uint32_t num_tokens() const { return num_tokens_; }
    // Empty if there is no text token of this id.
    std::string_view bytes(Token token) const;
    // no_token if no token has these bytes.
    Token find(std::string_view bytes) const;

    // What two neighbours become; no_token if they do not merge.
    Token merge(Token left, Token right) const;

    // Appends the tokens of one piece of text. Bytes that the vocabulary lacks give unknown, or nothing if that is
    // no_token. Time grows as n log n at worst, whatever the text.
    void encode_piece(std::string_view piece, Token unknown, std::vector<Token>& out) const;

  private:
    struct TokenSlot {
        uint32_t hash = 0;
        Token token = no_token;
    };
    static constexpr uint32_t no_rank = UINT32_MAX;
    static constexpr size_t max_short = 64;      // parts
    static constexpr size_t window_size = 4096;  // bytes

    void index_tokens();
    void reserve_merges(size_t count, size_t num_ranks);
    void add_merge(const Merge& merge, uint32_t rank);
    uint32_t find_merge(Token left, Token right) const;  // its rank; no_rank if they do not merge
    void append_merged(std::string_view text, Token unknown, std::vector<Token>& out) const;
    bool encode_by_windows(std::string_view piece, std::vector<Token>& out) const;
    // Merge the parts of a piece in place; give how many are left.
    size_t merge_short(std::span<Token> parts) const;
    size_t merge_long(std::span<Token> parts) const;

    std::string arena_;
    std::vector<uint32_t> offsets_;
    uint32_t num_tokens_ = 0;
    Token byte_tokens_[256];
    bool has_all_bytes_ = false;
    // Hash tables with open addressing; their sizes are powers of two, at least twice what they hold.
    std::vector<TokenSlot> by_bytes_;
    std::vector<uint64_t> merges_{UINT64_MAX};  // left << 42 | right << 21 | rank
    std::vector<Token> merged_;                 // by rank
};

}  // namespace gptoss::text
