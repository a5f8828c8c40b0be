#include "base/cache.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/path.h"
#include "base/platform.h"

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

// As the XDG specification asks for: the user's alone, whatever the umask. What is there already stays as it is.
void make_private_directories(const fs::path& directory) {
    std::error_code ignored;
    if (directory.empty() || fs::exists(directory, ignored)) return;
    make_private_directories(directory.parent_path());
    platform::make_private_directory(directory);
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
    const fs::path directory = platform::user_cache_directory();
    return directory.empty() ? "" : to_utf8(directory / "libgptoss");
}

std::string Cache::path_of(std::string_view key) const {
    char name[17];
    std::snprintf(name, sizeof name, "%016llx", static_cast<unsigned long long>(hash(key)));
    return to_utf8(to_path(directory_) / name);
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
    const fs::path directory = to_path(directory_);
    make_private_directories(directory);
    remove_old_parts(directory);
    // Beside its place under a name that nobody else uses, then moved there at once: readers see the old file or the
    // new.
    static std::atomic<unsigned> counter{0};
    const std::string path = path_of(key);
    platform::replace_file(
        path, path + "." + std::to_string(platform::process_id()) + "-" + std::to_string(counter++) + kPart, entry);
}

}  // namespace gptoss
