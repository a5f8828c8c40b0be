// Errors of this folder: all of them IoError, all beginning with the file that they are about.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace gptoss {

[[noreturn]] inline void fail(const std::string& source, const std::string& message) {
    throw Error(Status::IoError, source + ": " + message);
}

// Text from a file for a message: shortened, with anything but printable ASCII replaced.
inline std::string printable(std::string_view text) {
    constexpr size_t longest = 120;
    std::string out;
    for (char c : text.substr(0, longest)) out += c >= 0x20 && c < 0x7f ? c : '?';
    return text.size() > longest ? out + "..." : out;
}

inline std::string quote(std::string_view name) { return "'" + printable(name) + "'"; }

}  // namespace gptoss
