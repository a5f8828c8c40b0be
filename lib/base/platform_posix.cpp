#ifndef _WIN32

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <system_error>

#include "base/fail.h"
#include "base/platform.h"

namespace gptoss::platform {

namespace fs = std::filesystem;

namespace {

std::string reason(int error) { return std::generic_category().message(error); }

std::string reason_not_opened(const std::string& path, int error) {
    struct stat status {};
    if (error == ENOENT && ::lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode))
        return "is a link to a file that is not there";
    return reason(error);
}

bool write_all(int file, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(file, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
}

// Empty where the variable is not set, or names no absolute path.
fs::path absolute_path(const char* variable) {
    const char* value = std::getenv(variable);
    return value && fs::path(value).is_absolute() ? value : fs::path();
}

}  // namespace

OpenFile::OpenFile(const std::string& path) : path_(path) {
    // O_NONBLOCK: a FIFO in a file's place is refused below instead of waited for.
    int file;
    do file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (file < 0 && errno == EINTR);
    if (file < 0) fail(path, reason_not_opened(path, errno));
    struct stat status {};
    if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
        ::close(file);
        fail(path, S_ISDIR(status.st_mode) ? "is a directory, not a file" : "is not a regular file");
    }
    handle_ = file;
    size_ = static_cast<uint64_t>(status.st_size);
#ifdef POSIX_FADV_SEQUENTIAL
    ::posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL);  // only advice: a larger read-ahead
#endif
}

OpenFile::~OpenFile() { ::close(static_cast<int>(handle_)); }

size_t OpenFile::read(uint64_t offset, std::byte* out, size_t size) const {
    const size_t piece = std::min<size_t>(size, size_t{1} << 30);  // Linux reads at most 2 GiB at once
    ssize_t n;
    do n = ::pread(static_cast<int>(handle_), out, piece, static_cast<off_t>(offset));
    while (n < 0 && errno == EINTR);
    if (n < 0) fail(path_, "reading at offset " + std::to_string(offset) + ": " + reason(errno));
    return static_cast<size_t>(n);
}

std::vector<std::string> names_in(const std::string& directory) {
    struct Close {
        void operator()(DIR* dir) const { ::closedir(dir); }
    };
    std::vector<std::string> names;
    const std::unique_ptr<DIR, Close> dir(::opendir(directory.c_str()));
    errno = dir ? 0 : errno;
    while (const dirent* entry = dir ? ::readdir(dir.get()) : nullptr) {
        names.emplace_back(entry->d_name);
        errno = 0;
    }
    if (errno) fail(directory, reason(errno));
    std::sort(names.begin(), names.end());
    return names;
}

void make_private_directory(const fs::path& directory) noexcept { ::mkdir(directory.c_str(), 0700); }

bool replace_file(const std::string& path, const std::string& part, std::string_view bytes) {
    const NoFileSizeSignal none;
    const int file = ::open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) return false;
    const bool written = write_all(file, bytes);
    if (::close(file) == 0 && written && std::rename(part.c_str(), path.c_str()) == 0) return true;
    ::unlink(part.c_str());
    return false;
}

fs::path user_cache_directory() {
    const fs::path cache = absolute_path("XDG_CACHE_HOME"), home = absolute_path("HOME");
    return !cache.empty() || home.empty() ? cache : home / ".cache";
}

uint64_t process_id() noexcept { return static_cast<uint64_t>(::getpid()); }

uint64_t memory_available() {
    std::ifstream meminfo("/proc/meminfo");
    std::string key, unit;
    for (uint64_t kilobytes; meminfo >> key >> kilobytes; std::getline(meminfo, unit))
        if (key == "MemAvailable:") return kilobytes * 1024;
    return UINT64_MAX;
}

int on_fork(void (*in_child)()) noexcept { return pthread_atfork(nullptr, nullptr, in_child); }

void keep_loaded([[maybe_unused]] void (*function)()) noexcept {
#ifdef RTLD_NODELETE
    Dl_info library{};
    if (dladdr(reinterpret_cast<const void*>(function), &library) && library.dli_fname)
        dlopen(library.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
#endif
}

namespace {

sigset_t file_size_signal() noexcept {
    sigset_t signal;
    sigemptyset(&signal);
    sigaddset(&signal, SIGXFSZ);
    return signal;
}

bool is_pending() noexcept {
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    return sigismember(&pending, SIGXFSZ) == 1;
}

}  // namespace

NoFileSizeSignal::NoFileSizeSignal() noexcept : was_pending_(is_pending()) {
    const sigset_t signal = file_size_signal();
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, &signal, &before);
    was_blocked_ = sigismember(&before, SIGXFSZ) == 1;
}

NoFileSizeSignal::~NoFileSizeSignal() {
    const sigset_t signal = file_size_signal();
    int taken;
    if (!was_pending_ && is_pending()) sigwait(&signal, &taken);  // returns at once
    if (!was_blocked_) pthread_sigmask(SIG_UNBLOCK, &signal, nullptr);
}

}  // namespace gptoss::platform

#endif
