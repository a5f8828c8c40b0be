#include <array>

#include "text/tokenizer/sources.h"

namespace gptoss::text {

namespace {

// GPT-2 writes a byte as the character of that number where this is printable; the others, in order, as U+0100 and up.
constexpr std::array<unsigned char, 68> make_others() {
    std::array<unsigned char, 68> others{};
    size_t n = 0;
    for (int b = 0; b < 256; ++b)
        if (b < 0x21 || (b > 0x7E && b < 0xA1) || b == 0xAD) others[n++] = static_cast<unsigned char>(b);
    return others;
}
constexpr std::array<unsigned char, 68> others = make_others();

}  // namespace

std::string from_byte_level(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        unsigned c = static_cast<unsigned char>(text[i]);
        if (c >= 0xC2 && c <= 0xC5 && i + 1 < text.size())
            c = (c & 0x1F) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3F);
        if (c >= 0x100 && c < 0x100 + others.size())
            out += static_cast<char>(others[c - 0x100]);
        else if ((c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xFF && c != 0xAD))
            out += static_cast<char>(c);
        else
            return std::string(text);
    }
    return out;
}

Vocabulary::Merge find_merge(const Vocabulary& vocabulary, std::string_view left, std::string_view right) {
    const std::string a = from_byte_level(left), b = from_byte_level(right);
    return {vocabulary.find(a), vocabulary.find(b), vocabulary.find(a + b)};
}

}  // namespace gptoss::text
