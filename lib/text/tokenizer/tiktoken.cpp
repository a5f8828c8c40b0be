#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "text/tokenizer/sources.h"

namespace gptoss::text {

namespace {

[[noreturn]] void fail(size_t line, const std::string& what) {
    throw Error(Status::IoError, "line " + std::to_string(line) + ": " + what);
}

// Empty if it is no base64.
std::string decode_base64(std::string_view text) {
    auto value = [](unsigned char c) {
        return c >= 'A' && c <= 'Z'   ? c - 'A'
               : c >= 'a' && c <= 'z' ? c - 'a' + 26
               : c >= '0' && c <= '9' ? c - '0' + 52
               : c == '+'             ? 62
               : c == '/'             ? 63
                                      : -1;
    };
    if (text.size() % 4 != 0) return {};
    while (!text.empty() && text.back() == '=') text.remove_suffix(1);
    std::string out;
    uint32_t bits = 0;
    int num_bits = 0;
    for (char c : text) {
        int digit = value(static_cast<unsigned char>(c));
        if (digit < 0) return {};
        bits = bits << 6 | static_cast<uint32_t>(digit);
        num_bits += 6;
        if (num_bits >= 8) out += static_cast<char>(bits >> (num_bits -= 8));
    }
    return out;
}

}  // namespace

TokenizerParts parse_tiktoken(std::string_view bytes) {
    std::vector<std::string> tokens;
    for (size_t line = 1; !bytes.empty(); ++line) {
        std::string_view text = bytes.substr(0, bytes.find('\n'));
        bytes.remove_prefix(std::min(text.size() + 1, bytes.size()));
        if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
        if (text.empty()) continue;
        const size_t space = text.find(' ');
        if (space == std::string_view::npos) fail(line, "no space between a token and its rank");
        std::string token = decode_base64(text.substr(0, space));
        if (token.empty()) fail(line, "a token that is not base64");
        uint32_t rank = 0;
        const char* end = text.data() + text.size();
        auto [rest, error] = std::from_chars(text.data() + space + 1, end, rank);
        if (error != std::errc() || rest != end) fail(line, "a rank that is not a number");
        if (rank >= max_vocabulary) fail(line, "rank " + std::to_string(rank) + " is too large");
        if (rank >= tokens.size()) tokens.resize(rank + 1);
        if (!tokens[rank].empty()) fail(line, "rank " + std::to_string(rank) + " appears twice");
        tokens[rank] = std::move(token);
    }
    if (tokens.empty()) throw Error(Status::IoError, "no tokens");
    Vocabulary vocabulary{tokens};
    vocabulary.set_merges_from_ranks();
    return {.vocabulary = std::move(vocabulary),
            .splitter = Splitter({{o200k_pattern}}),
            .specials = harmony_specials(static_cast<Token>(tokens.size()))};
}

}  // namespace gptoss::text
