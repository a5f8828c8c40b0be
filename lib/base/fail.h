// Errors about a file: all of them IoError, all beginning with the file that they are about.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace gptoss {

// A path for a message. A long one loses its middle, so that the reason behind it is never cut off: the message of an
// error has 1023 bytes.
inline std::string path_text(std::string_view path) {
    constexpr size_t head = 80, tail = 180;
    if (path.size() <= head + tail + 3) return std::string(path);
    const auto continues = [&](size_t at) { return (static_cast<unsigned char>(path[at]) & 0xC0) == 0x80; };
    size_t begin = head, end = path.size() - tail;
    while (begin > 0 && continues(begin)) begin--;  // no half of a character
    while (end < path.size() && continues(end)) end++;
    return std::string(path.substr(0, begin)) + "..." + std::string(path.substr(end));
}

[[noreturn]] inline void fail(std::string_view path, const std::string& message) {
    throw Error(Status::IoError, path_text(path) + ": " + message);
}

// Text from a file for a message: shortened, with anything but printable ASCII replaced.
inline std::string printable(std::string_view text) {
    constexpr size_t longest = 120;
    std::string out;
    for (char c : text.substr(0, longest)) out += c >= 0x20 && c < 0x7F ? c : '?';
    return text.size() > longest ? out + "..." : out;
}

inline std::string quote(std::string_view name) { return "'" + printable(name) + "'"; }

}  // namespace gptoss
