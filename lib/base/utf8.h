// Where text is valid UTF-8 and where it is not, as the Unicode standard's table 3-7 has it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gptoss {

struct Utf8Step {
    size_t size;  // bytes of the character, or of the invalid sequence
    bool valid;
    bool incomplete;  // the text ends within a character that could still become valid
};

// The first character of text, which is not empty. An invalid sequence is the longest start of a character, or one
// byte.
inline Utf8Step utf8_step(std::string_view text) {
    auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    unsigned char first = byte(0);
    if (first < 0x80) return {1, true, false};
    size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                    : first >= 0xE0 && first <= 0xEF ? 3
                    : first >= 0xF0 && first <= 0xF4 ? 4
                                                     : 0;
    if (length == 0) return {1, false, false};
    for (size_t i = 1; i < length; ++i) {
        if (i == text.size()) return {i, false, true};
        unsigned char low = 0x80, high = 0xBF;
        if (i == 1) {
            if (first == 0xE0) low = 0xA0;   // overlong
            if (first == 0xED) high = 0x9F;  // surrogates
            if (first == 0xF0) low = 0x90;   // overlong
            if (first == 0xF4) high = 0x8F;  // above U+10FFFF
        }
        if (byte(i) < low || byte(i) > high) return {i, false, false};
    }
    return {length, true, false};
}

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Moves the whole characters of bytes to the result, each invalid sequence as U+FFFD, and leaves the start of one.
inline std::string take_characters(std::string& bytes) {
    std::string out;
    size_t i = 0;
    while (i < bytes.size()) {
        const Utf8Step step = utf8_step(std::string_view(bytes).substr(i));
        if (step.incomplete) break;
        if (step.valid)
            out.append(bytes, i, step.size);
        else
            out += kReplacement;
        i += step.size;
    }
    bytes.erase(0, i);
    return out;
}

struct PrintableStep {
    size_t size;             // bytes of the character, or of the invalid sequence
    std::string_view shown;  // what stands for it
};

// The first character of text, which is not empty, for one line that does nothing to a terminal: U+FFFD stands for a
// control character and for what is not UTF-8.
inline PrintableStep printable_step(std::string_view text) {
    const Utf8Step step = utf8_step(text);
    const auto first = static_cast<unsigned char>(text[0]);
    const bool control = first < 0x20 || first == 0x7F || (first == 0xC2 && text.size() > 1 && text[1] < '\xA0');
    return {step.size, step.valid && !control ? text.substr(0, step.size) : kReplacement};
}

// The text as such a line.
inline std::string printable_line(std::string_view text) {
    std::string line;
    while (!text.empty()) {
        const PrintableStep step = printable_step(text);
        line += step.shown;
        text.remove_prefix(step.size);
    }
    return line;
}

}  // namespace gptoss
