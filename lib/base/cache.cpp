#include "base/cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/file_size_signal.h"
#include "base/hash.h"

namespace gptoss {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMaxFile = 64 << 20;
constexpr char kMagic[8] = {'g', 'p', 't', 'o', 's', 's', 'c', '1'};

// What a file begins with; the key and the value follow.
struct Header {
    char magic[8];
    uint64_t checksum;  // of all that follows it
    uint64_t key_size;
    uint64_t value_size;
};
constexpr size_t kChecked = offsetof(Header, key_size);

// NULL where the variable is not set, or names no absolute path.
const char* absolute_path(const char* variable) {
    const char* value = std::getenv(variable);
    return value && fs::path(value).is_absolute() ? value : nullptr;
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

// As the XDG specification asks for: the user's alone, whatever the umask. What is there already stays as it is.
void make_private_directories(const fs::path& directory) {
    std::error_code ignored;
    if (directory.empty() || fs::exists(directory, ignored)) return;
    make_private_directories(directory.parent_path());
    ::mkdir(directory.c_str(), 0700);
}

constexpr char kPart[] = ".part";

// Removes the parts of writers that were ended before they could: no write takes so long.
void remove_old_parts(const fs::path& directory) {
    const auto old = fs::file_time_type::clock::now() - std::chrono::hours(1);
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
        std::error_code skip;
        if (entry->path().extension() == kPart && entry->is_regular_file(skip) && entry->last_write_time(skip) < old)
            fs::remove(entry->path(), skip);
    }
}

}  // namespace

std::string make_cache_entry(std::string_view key, std::string_view value) {
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.key_size = key.size();
    header.value_size = value.size();
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes.append(key).append(value);
    header.checksum = hash(std::string_view(bytes).substr(kChecked));
    std::memcpy(bytes.data(), &header, sizeof header);
    return bytes;
}

std::optional<std::string> parse_cache_entry(std::string_view bytes, std::string_view key) {
    Header header{};
    if (bytes.size() < sizeof header) return {};
    std::memcpy(&header, bytes.data(), sizeof header);
    const std::string_view content = bytes.substr(sizeof header);
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.key_size != key.size() ||
        content.size() < key.size() || header.value_size != content.size() - key.size() ||
        content.substr(0, key.size()) != key || header.checksum != hash(bytes.substr(kChecked)))
        return {};
    return std::string(content.substr(key.size()));
}

std::string Cache::user_directory() {
    if (const char* cache = absolute_path("XDG_CACHE_HOME")) return fs::path(cache) / "libgptoss";
    if (const char* home = absolute_path("HOME")) return fs::path(home) / ".cache" / "libgptoss";
    if (const char* local = absolute_path("LOCALAPPDATA")) return fs::path(local) / "libgptoss";
    return "";
}

std::string Cache::path_of(std::string_view key) const {
    char name[17];
    std::snprintf(name, sizeof name, "%016llx", static_cast<unsigned long long>(hash(key)));
    return fs::path(directory_) / name;
}

std::optional<std::string> Cache::read(std::string_view key) const {
    if (directory_.empty()) return {};
    try {
        return parse_cache_entry(File(path_of(key)).read_all(kMaxFile), key);
    } catch (const Error&) {
        return {};  // there is none, or none that can be read
    }
}

void Cache::write(std::string_view key, std::string_view value) const {
    const std::string entry = make_cache_entry(key, value);
    if (directory_.empty() || entry.size() > kMaxFile) return;
    make_private_directories(directory_);
    remove_old_parts(directory_);
    // Beside its place under a name that nobody else uses, then moved there at once: readers see the old file or the
    // new.
    static std::atomic<unsigned> counter{0};
    const std::string path = path_of(key);
    const std::string part = path + "." + std::to_string(::getpid()) + "-" + std::to_string(counter++) + kPart;
    const NoFileSizeSignal none;
    const int file = ::open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) return;
    const bool written = write_all(file, entry);
    if (::close(file) != 0 || !written || std::rename(part.c_str(), path.c_str()) != 0) ::unlink(part.c_str());
}

}  // namespace gptoss
