// Paths as the interface has them, in UTF-8, for std::filesystem, which on Windows takes other text for the user's code
// page.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

namespace gptoss {

inline std::filesystem::path to_path(std::string_view utf8) { return std::u8string(utf8.begin(), utf8.end()); }

inline std::string to_utf8(const std::filesystem::path& path) {
    const std::u8string text = path.u8string();
    return {text.begin(), text.end()};
}

// What can't be looked at is none.
inline bool is_directory(const std::string& path) {
    std::error_code error;
    return std::filesystem::is_directory(to_path(path), error);
}

inline std::string file_name(const std::string& path) { return to_utf8(to_path(path).filename()); }

// The directory that a path lies in.
inline std::string directory_of(const std::string& path) {
    const std::string directory = to_utf8(to_path(path).parent_path());
    return directory.empty() ? "." : directory;
}

}  // namespace gptoss
