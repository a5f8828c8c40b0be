#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

namespace gptoss {

// The numbers in decimal, a space between them.
inline std::string join(std::initializer_list<uint32_t> numbers) {
    std::string text;
    for (const uint32_t n : numbers) text += (text.empty() ? "" : " ") + std::to_string(n);
    return text;
}

}  // namespace gptoss
