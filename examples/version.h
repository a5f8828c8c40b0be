// The library's version, as the programs' --version says it.
#pragma once

#include <gptoss.h>

#include <string>

inline std::string version_line() {
    const uint32_t version = gptoss_version();
    return "libgptoss " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
           std::to_string(version % 100);
}
