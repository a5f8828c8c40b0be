// A folder of the user's in which this library keeps what it could make again at the cost of time, each value in a file
// of its own that its key finds. Nothing in it is trusted: what is not exactly what was written for the key is not
// there.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace gptoss {

class Cache {
  public:
    // directory: made when something is first written, for the user alone; "" keeps nothing.
    explicit Cache(std::string directory) : directory_(std::move(directory)) {}

    // The folder libgptoss in XDG_CACHE_HOME or ~/.cache, on Windows in LOCALAPPDATA; "" where the system names none.
    static std::string user_directory();

    std::optional<std::string> read(std::string_view key) const;
    // Whole or not at all, also beside other processes, of which the last one wins. A folder that cannot be written to
    // is none, as is one where the process may write no file so large.
    void write(std::string_view key, std::string_view value) const;

  private:
    std::string path_of(std::string_view key) const;

    std::string directory_;
};

// A file's bytes for a value, and the value out of them: none unless the bytes are those of exactly this key.
std::string make_cache_entry(std::string_view key, std::string_view value);
std::optional<std::string> parse_cache_entry(std::string_view bytes, std::string_view key);

}  // namespace gptoss
