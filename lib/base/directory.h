// What lies in a directory. Not by std::filesystem's iterator: libstdc++'s ends the process where memory is short.
#pragma once

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include "base/error.h"

namespace gptoss {

// Paths of all entries, sorted. Throws IoError with the system's reason.
inline std::vector<std::filesystem::path> paths_in(const std::filesystem::path& directory) {
    struct Close {
        void operator()(DIR* dir) const { ::closedir(dir); }
    };
    std::vector<std::filesystem::path> paths;
    const std::unique_ptr<DIR, Close> dir(::opendir(directory.c_str()));
    errno = dir ? 0 : errno;
    while (const dirent* entry = dir ? ::readdir(dir.get()) : nullptr) {
        paths.push_back(directory / entry->d_name);
        errno = 0;
    }
    if (errno) throw Error(Status::IoError, directory.native() + ": " + std::generic_category().message(errno));
    std::sort(paths.begin(), paths.end());
    return paths;
}

}  // namespace gptoss
