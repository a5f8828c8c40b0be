// Text that must not depend on the host's locale.
#pragma once

#include <charconv>
#include <string>
#include <string_view>

namespace gptoss {

// The shortest digits that give the number back.
inline std::string number_text(double value) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
}
inline std::string number_text(float value) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

// ASCII letters in lower case; all else stays.
inline std::string ascii_lower(std::string_view text) {
    std::string lower(text);
    for (char& c : lower)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return lower;
}

}  // namespace gptoss
