// What lies in a directory. Not by std::filesystem's iterator: libstdc++'s ends the process where memory is short.
#pragma once

#include <dirent.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <vector>

namespace gptoss {

// Paths of all entries, sorted by name; none where the directory cannot be read.
inline std::vector<std::filesystem::path> paths_in(const std::filesystem::path& directory) {
    struct Close {
        void operator()(DIR* dir) const { ::closedir(dir); }
    };
    const std::unique_ptr<DIR, Close> dir(::opendir(directory.c_str()));
    std::vector<std::filesystem::path> paths;
    while (const dirent* entry = dir ? ::readdir(dir.get()) : nullptr) paths.push_back(directory / entry->d_name);
    std::sort(paths.begin(), paths.end());
    return paths;
}

}  // namespace gptoss
