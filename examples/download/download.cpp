#include "download.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "model_path.h"
#include "progress.h"

namespace hub {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

[[noreturn]] void fail(const fs::path& path, int error) {
    throw std::runtime_error(path.string() + ": " + std::strerror(error));
}

class Descriptor {
  public:
    Descriptor(const fs::path& path, int flags) : path_(path), fd_(open(path.c_str(), flags | O_CLOEXEC, 0666)) {
        if (fd_ < 0) fail(path, errno);
    }
    ~Descriptor() { close(fd_); }
    Descriptor(const Descriptor&) = delete;
    int operator*() const { return fd_; }

    void truncate(uint64_t size) const {
        if (ftruncate(fd_, static_cast<off_t>(size)) != 0) fail(path_, errno);
    }
    void write(const char* data, size_t size, uint64_t offset) const {
        while (size > 0) {
            const ssize_t n = pwrite(fd_, data, size, static_cast<off_t>(offset));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail(path_, n < 0 ? errno : ENOSPC);
            data += n;
            size -= static_cast<size_t>(n);
            offset += static_cast<uint64_t>(n);
        }
    }
    void sync() const {
        if (fsync(fd_) != 0) fail(path_, errno);
    }

  private:
    const fs::path path_;
    const int fd_;
};

void sync_folder(const fs::path& folder) { Descriptor(folder, O_RDONLY | O_DIRECTORY).sync(); }

// Whole or not at all.
void write_file(const fs::path& path, const std::string& content) {
    const fs::path part = path.string() + ".part";
    {
        const Descriptor file(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
        file.write(content.data(), content.size(), 0);
        file.sync();
    }
    fs::rename(part, path);
    sync_folder(path.parent_path());
}

// The hash that the hub lists of a file, of what stands in a file here.
std::string hash_of(const fs::path& path, const File& file, const std::atomic<bool>& stop) {
    const Descriptor input(path, O_RDONLY);
    const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    const bool large = !file.sha256.empty();
    bool good = context && EVP_DigestInit_ex(context.get(), large ? EVP_sha256() : EVP_sha1(), nullptr) == 1;
    const std::string header = "blob " + std::to_string(file.size);  // git's, with the NUL after it
    if (!large) good = good && EVP_DigestUpdate(context.get(), header.c_str(), header.size() + 1) == 1;
    std::vector<char> buffer(1 << 20);
    while (good) {
        if (stop) throw Stopped();
        const ssize_t n = read(*input, buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail(path, errno);
        if (n == 0) break;
        good = EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(n)) == 1;
    }
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    if (!good || EVP_DigestFinal_ex(context.get(), digest, &size) != 1)
        throw std::runtime_error(path.string() + ": libcrypto cannot compute its checksum");
    std::string text;
    for (unsigned int i = 0; i < size; ++i) {
        text += "0123456789abcdef"[digest[i] >> 4];
        text += "0123456789abcdef"[digest[i] & 15];
    }
    return text;
}

const std::string& listed_hash(const File& file) { return file.sha256.empty() ? file.git_id : file.sha256; }

std::optional<uint64_t> size_of(const fs::path& path) {
    std::error_code error;
    const uint64_t size = fs::file_size(path, error);
    return error ? std::nullopt : std::optional(size);
}

std::string url_of(const Settings& settings, const Name& name, const Listing& listing, const File& file) {
    std::string url = settings.endpoint + "/" + name.repository + "/resolve/" + listing.commit + "/";
    for (const unsigned char c : file.path) {
        if (std::isalnum(c) || std::strchr("-._~/", c)) {
            url += static_cast<char>(c);
        } else {
            char escaped[4];
            std::snprintf(escaped, sizeof escaped, "%%%02X", c);
            url += escaped;
        }
    }
    return url;
}

// Says that a folder's files are all there: which, and of what commit.
fs::path manifest_path(const Name& name, const fs::path& folder) {
    std::string file = name.file;
    std::replace(file.begin(), file.end(), '/', '+');
    return folder / (".download" + (file.empty() ? "" : "-" + file) + ".json");
}

// One call of download().
class Download {
  public:
    Download(const Settings& settings, const Name& name, const Listing& listing, const fs::path& folder, bool quiet)
        : settings_(settings), name_(name), listing_(listing), folder_(folder), quiet_(quiet) {}

    fs::path run() {
        Needed needed = hub::needed(listing_, name_);
        std::error_code error;
        fs::create_directories(folder_, error);
        if (error) throw std::runtime_error(folder_.string() + ": " + error.message());
        const Descriptor lock(folder_ / ".download.lock", O_RDWR | O_CREAT | O_NOFOLLOW);
        if (flock(*lock, LOCK_EX | LOCK_NB) != 0)
            throw std::runtime_error(folder_.string() + ": another download to this folder runs");
        fetch(needed.small);
        keep_indexed(needed.weights);
        fetch(needed.weights);
        Json files = Json::object();
        for (const auto* several : {&needed.small, &needed.weights})
            for (const File& file : *several) files[file.path] = {{"size", file.size}, {"hash", listed_hash(file)}};
        const Json manifest = {
            {"repository", name_.repository}, {"commit", listing_.commit}, {"files", files}, {"model", needed.model}};
        write_file(manifest_path(name_, folder_), manifest.dump(1) + "\n");
        return needed.model.empty() ? folder_ : folder_ / needed.model;
    }

  private:
    // Where a file's bytes are until they are known to be right. Those of another version are not gone on with.
    fs::path part_of(const File& file) const {
        return folder_ / (file.path + "." + listed_hash(file).substr(0, 12) + ".part");
    }

    // Keeps the .safetensors files that the index names: a repository may hold others.
    void keep_indexed(std::vector<File>& weights) const {
        std::ifstream file(folder_ / "model.safetensors.index.json");
        const bool listed = std::any_of(listing_.files.begin(), listing_.files.end(),
                                        [](const File& f) { return f.path == "model.safetensors.index.json"; });
        if (!listed || !name_.file.empty() || !file) return;
        const Json index = Json::parse(file, nullptr, false);
        const auto map = index.is_object() ? index.find("weight_map") : index.end();
        if (!index.is_object() || map == index.end() || !map->is_object())
            throw std::runtime_error("model.safetensors.index.json: has no weight_map");
        std::set<std::string> named;
        for (const auto& entry : *map)
            if (entry.is_string()) named.insert(entry.get<std::string>());
        std::erase_if(weights, [&](const File& weight) { return named.erase(weight.path) == 0; });
        if (!named.empty())
            throw std::runtime_error("model.safetensors.index.json names " + printable(*named.begin()) +
                                     ", which is not in " + name_.repository);
    }

    void check_space(const std::vector<File>& files) const {
        uint64_t missing = 0;
        for (const File& file : files)
            if (size_of(folder_ / file.path) != file.size)
                missing += file.size - std::min(file.size, size_of(part_of(file)).value_or(0));
        struct statvfs disk {};
        if (statvfs(folder_.c_str(), &disk) != 0) return;
        const uint64_t free = uint64_t{disk.f_bavail} * disk.f_frsize;
        if (missing > free)
            throw std::runtime_error(folder_.string() + ": " + size_text(missing) + " are missing, and the disk has " +
                                     size_text(free) + " free");
    }

    // Several threads take a file after the other. The first error ends them all.
    void fetch(const std::vector<File>& files) {
        if (files.empty()) return;
        check_space(files);
        uint64_t total = 0;
        for (const File& file : files) total += file.size;
        Progress progress(total, quiet_ || total < 10'000'000);
        std::atomic<size_t> next = 0;
        std::atomic<bool> stop = false;
        std::exception_ptr error;
        std::mutex mutex;
        const auto work = [&] {
            try {
                Connection connection(settings_, stop, [&](const std::string& line) { progress.note(line); });
                for (size_t i; !stop && (i = next++) < files.size();) fetch_one(connection, files[i], progress, stop);
            } catch (...) {
                const std::lock_guard lock(mutex);
                if (!stop.exchange(true)) error = std::current_exception();
            }
        };
        std::vector<std::thread> threads;
        const size_t count = std::min<size_t>(files.size(), static_cast<size_t>(settings_.parallel));
        for (size_t i = 1; i < count; ++i) threads.emplace_back(work);
        work();
        for (std::thread& thread : threads) thread.join();
        if (error) std::rethrow_exception(error);
    }

    void fetch_one(Connection& connection, const File& file, Progress& progress, std::atomic<bool>& stop) {
        const fs::path path = folder_ / file.path, part = part_of(file);
        fs::create_directories(path.parent_path());
        if (fs::is_regular_file(path) && size_of(path) == file.size && hash_of(path, file, stop) == listed_hash(file)) {
            progress.found(static_cast<int64_t>(file.size));
            progress.finished(file.path + ": is there");
            return;
        }
        const Descriptor output(part, O_RDWR | O_CREAT | O_NOFOLLOW);
        uint64_t have = size_of(part).value_or(0), counted = 0;
        if (have > file.size) output.truncate(have = 0);
        const auto count = [&](uint64_t now) {
            progress.found(static_cast<int64_t>(now) - static_cast<int64_t>(counted));
            counted = now;
        };
        count(have);
        uint64_t most = have;  // what was reached before: less is no progress
        const std::string url = url_of(settings_, name_, listing_, file);
        const Connection::Sink sink{[&](uint64_t offset) {
                                        output.truncate(have = offset);
                                        count(have);
                                    },
                                    [&](const char* data, size_t size) {
                                        output.write(data, size, have);
                                        have += size;
                                        counted += size;
                                        progress.received(size);
                                    }};
        const auto attempt = [&] {
            if (have < file.size || file.size == 0) connection.fetch(url, have, file.size, sink);
            output.sync();
            const std::string hash = hash_of(part, file, stop);
            if (hash == listed_hash(file)) return;
            output.truncate(have = 0);
            count(0);
            throw Transient("its checksum is " + hash + ", and the hub lists " + listed_hash(file));
        };
        const auto progressed = [&] { return have > std::exchange(most, std::max(most, have)); };
        connection.retry(file.path, attempt, progressed);
        if (fs::exists(path)) progress.note(file.path + ": replaces another of this name");
        fs::rename(part, path);
        sync_folder(path.parent_path());
        progress.finished(file.path + ": " + size_text(file.size));
    }

    const Settings& settings_;
    const Name& name_;
    const Listing& listing_;
    const fs::path folder_;
    const bool quiet_;
};

bool ask(const std::string& question) {
    std::cerr << question << " [y/N] " << std::flush;
    std::string answer;
    std::getline(std::cin, answer);
    return !answer.empty() && (answer[0] == 'y' || answer[0] == 'Y');
}

}  // namespace

fs::path download(const Settings& settings, const Name& name, const Listing& listing, const fs::path& folder,
                  bool quiet) {
    signal(SIGXFSZ, SIG_IGN);  // a limit of file sizes is an error that says so
    return Download(settings, name, listing, folder, quiet).run();
}

std::optional<fs::path> downloaded(const Name& name, const fs::path& folder) {
    std::ifstream file(manifest_path(name, folder));
    const Json manifest = Json::parse(file, nullptr, false);
    if (!manifest.is_object() || !manifest.contains("files") || !manifest["files"].is_object()) return {};
    for (const auto& entry : manifest["files"].items()) {
        if (!entry.value().is_object() || !entry.value()["size"].is_number_unsigned()) return {};
        if (size_of(folder / entry.key()) != entry.value()["size"].get<uint64_t>()) return {};
    }
    const std::string model = manifest.value("model", "");
    return model.empty() ? folder : folder / model;
}

std::string model_path(const std::string& model, bool agreed) {
    if (!model.starts_with("hf:")) return model;
    const Name name = Name::parse(model);
    const fs::path folder = cache_folder(name);
    if (const auto there = downloaded(name, folder)) return *there;
    const std::string command = "gptoss-download " + name.text();
    if (!agreed && !(isatty(STDIN_FILENO) && isatty(STDERR_FILENO)))
        throw std::runtime_error(model + " is not here yet: run `" + command + "` first, or give --yes");
    const Settings settings = Settings::from_environment();
    std::atomic<bool> stop = false;
    Connection connection(settings, stop, [](const std::string& line) { std::cerr << line << "\n"; });
    const Listing listing = list(connection, name);
    const Needed needed = hub::needed(listing, name);
    if (!agreed &&
        !ask(name.text() + " is not here yet. Download " + size_text(needed.bytes()) + " to " + folder.string() + "?"))
        throw std::runtime_error(model + " is not here: `" + command + "` downloads it");
    return download(settings, name, listing, folder, false);
}

}  // namespace hub
