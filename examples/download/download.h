// A model's files in a folder: each is there under its name only once it is whole and has the hub's checksum.
#pragma once

#include <optional>

#include "hub.h"

namespace hub {

// Downloads what is not there yet, several files at once, and goes on with what an earlier run has begun. Returns what
// to load: the folder, or the first GGUF file in it. Throws std::runtime_error; what came until then is kept.
std::filesystem::path download(const Settings& settings, const Name& name, const Listing& listing,
                               const std::filesystem::path& folder, bool quiet);

// Returns what to load, if a download to the folder has ended well; needs no network.
std::optional<std::filesystem::path> downloaded(const Name& name, const std::filesystem::path& folder);

}  // namespace hub
