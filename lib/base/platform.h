// What the operating system gives beyond the C++ standard, and all of the library that differs between systems: each
// has a platform_*.cpp. Text and paths are UTF-8 on all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace gptoss::platform {

// A regular file that is open for reading. Safe from many threads.
class OpenFile {
  public:
    // Throws IoError with the path and the system's reason, also for what is no regular file.
    explicit OpenFile(const std::string& path);
    ~OpenFile();
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;

    uint64_t size() const { return size_; }
    // Reads up to size bytes at offset, and returns how many: at the file's end 0. Throws IoError.
    size_t read(uint64_t offset, std::byte* out, size_t size) const;

  private:
    std::string path_;
    intptr_t handle_ = -1;
    uint64_t size_ = 0;
};

// The names of all entries of a directory, sorted. Throws IoError with the system's reason. Not by std::filesystem's
// iterator: libstdc++'s ends the process where memory is short.
std::vector<std::string> names_in(const std::string& directory);

// Makes a directory that is the user's alone; what is there already stays as it is.
void make_private_directory(const std::filesystem::path& directory) noexcept;

// Writes a file as a whole or not at all, the user's alone, over what is there. Returns whether it is written. part: a
// path beside it that no other writer uses.
bool replace_file(const std::string& path, const std::string& part, std::string_view bytes);

// The folder in which programs keep what they can make again; empty where the system names none.
std::filesystem::path user_cache_directory();

uint64_t process_id() noexcept;

// What the host can still give, bytes; UINT64_MAX where the system does not tell.
uint64_t memory_available();

// Calls in_child in every process that is forked from this one, before anything else runs there; returns 0.
int on_fork(void (*in_child)()) noexcept;

// Keeps the library that a function lies in loaded until the process ends.
void keep_loaded(void (*function)()) noexcept;

// While it lives, a write of this thread past the process's limit of file sizes (RLIMIT_FSIZE) fails instead of raising
// the signal that ends the process, and so do those of threads made meanwhile. Caches are worth no process.
class NoFileSizeSignal {
  public:
    NoFileSizeSignal() noexcept;
    ~NoFileSizeSignal();
    NoFileSizeSignal(const NoFileSizeSignal&) = delete;
    NoFileSizeSignal& operator=(const NoFileSizeSignal&) = delete;

  private:
    [[maybe_unused]] bool was_blocked_ = false, was_pending_ = false;
};

}  // namespace gptoss::platform
