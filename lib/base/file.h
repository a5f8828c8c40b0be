// A file that is read by offset, or bytes in its place. Not mapped: a file that shrinks while it is open gives an
// error, not a signal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/platform.h"

namespace gptoss {

class File {
  public:
    // Throws IoError with the path and the system's reason, also for what is no regular file or stands for one by
    // git-lfs.
    explicit File(const std::string& path);
    // These bytes, in memory; name stands for the path in errors.
    File(const std::string& name, std::vector<std::byte> bytes);
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    const std::string& path() const { return path_; }
    uint64_t size() const { return size_; }
    // Reads exactly size bytes at offset; throws IoError "<path>: …" if the file ends before. Safe from many threads.
    void read(uint64_t offset, std::byte* out, size_t size) const;
    // The whole file; throws IoError if it is larger than max_size.
    std::string read_all(size_t max_size) const;

  private:
    void refuse_pointer() const;

    std::string path_;
    std::optional<platform::OpenFile> file_;
    uint64_t size_ = 0;
    std::vector<std::byte> bytes_;  // where no file is open
};

}  // namespace gptoss
