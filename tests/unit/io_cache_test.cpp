#include "base/cache.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <chrono>
#include <random>

#include "io_helpers.h"

using namespace gptoss;
using namespace gptoss::io;
using namespace gptoss::io::test;

namespace {

std::string random_bytes(std::mt19937_64& random, size_t n) {
    std::string bytes(n, '\0');
    for (char& b : bytes) b = static_cast<char>(random());
    return bytes;
}

// The one file of a cache's directory.
std::string only_file(const std::string& directory) {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) files.push_back(entry.path());
    REQUIRE(files.size() == 1);
    return files[0];
}

// Sets an environment variable, or unsets it, while it lives.
class Variable {
  public:
    Variable(const char* name, const char* value) : name_(name) {
        if (const char* old = std::getenv(name)) old_ = old;
        set(value);
    }
    ~Variable() { set(old_ ? old_->c_str() : nullptr); }

  private:
    void set(const char* value) { value ? setenv(name_, value, 1) : unsetenv(name_); }
    const char* name_;
    std::optional<std::string> old_;
};

}  // namespace

TEST_CASE("cache: gives back what was written for a key, and nothing else") {
    const TempDirectory directory;
    const Cache cache(directory.path() + "/made/when needed");
    CHECK(!cache.read("key"));
    CHECK(!std::filesystem::exists(directory.path() + "/made"));
    cache.write("key", std::string("a\0value", 7));
    cache.write("other", "");
    CHECK(cache.read("key") == std::string("a\0value", 7));
    CHECK(cache.read("other") == "");
    CHECK(!cache.read("ke"));
    CHECK(!cache.read(""));
    cache.write("key", "another");
    CHECK(cache.read("key") == "another");
    cache.write("large", std::string(65 << 20, 'x'));
    CHECK(!cache.read("large"));
    const Cache none("");
    none.write("key", "value");
    CHECK(!none.read("key"));
}

TEST_CASE("cache: a file that is damaged anywhere, cut off or of another key is not there, and is replaced") {
    std::mt19937_64 random(std::random_device{}());
    const TempDirectory directory;
    const Cache cache(directory.path());
    const std::string key = "the key", value = random_bytes(random, 300);
    cache.write(key, value);
    const std::string path = only_file(directory.path()), whole = read_bytes(path);
    const auto store = [&](const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; };
    for (size_t at = 0; at < whole.size(); at++) {
        CAPTURE(at);
        std::string damaged = whole;
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
        store(damaged);
        CHECK(!cache.read(key));
        store(whole.substr(0, at));
        CHECK(!cache.read(key));
    }
    store(whole + '\0');
    CHECK(!cache.read(key));
    store(make_cache_entry("the kex", value));
    CHECK(!cache.read(key));
    for (int i = 0; i < 300; i++) {
        const std::string noise = random_bytes(random, random() % 400);
        CHECK(!parse_cache_entry(noise, key));
        // the right header's beginning, then anything
        CHECK(!parse_cache_entry(whole.substr(0, 8 + random() % 24) + noise, key));
    }
    cache.write(key, value);
    CHECK(cache.read(key) == value);
}

TEST_CASE("cache: a place that cannot be written to, or that is no directory, is silently none") {
    const TempDirectory directory;
    const std::string file = directory.write("file", "x");
    for (const std::string& place : {file, file + "/below", std::string("/proc/none"), std::string(5000, 'x')}) {
        CAPTURE(place);
        const Cache cache(place);
        cache.write("key", "value");
        CHECK(!cache.read("key"));
    }
    // a directory where the file would be
    const Cache cache(directory.path() + "/cache");
    cache.write("key", "value");
    const std::string path = only_file(directory.path() + "/cache");
    std::filesystem::remove(path);
    std::filesystem::create_directory(path);
    cache.write("key", "value");
    CHECK(!cache.read("key"));
    CHECK(only_file(directory.path() + "/cache") == path);  // nothing half written stays
}

TEST_CASE("cache: what ended writers left goes, and what is being written stays") {
    const TempDirectory directory;
    const Cache cache(directory.path());
    const std::string old = directory.write("0123456789abcdef.77-0.part", "x"),
                      fresh = directory.write("0123456789abcdef.78-0.part", "x"),
                      other = directory.write("notes.txt", "x");
    const auto long_ago = std::filesystem::file_time_type::clock::now() - std::chrono::hours(2);
    for (const std::string& path : {old, other}) std::filesystem::last_write_time(path, long_ago);
    cache.write("key", "value");
    CHECK(!std::filesystem::exists(old));
    CHECK(std::filesystem::exists(fresh));
    CHECK(std::filesystem::exists(other));
    CHECK(cache.read("key") == "value");
}

TEST_CASE("cache: its folders are the user's alone, whatever the umask") {
    const TempDirectory directory;
    const mode_t before = ::umask(0);
    Cache(directory.path() + "/a/b/").write("key", "value");
    ::umask(before);
    for (const char* made : {"/a", "/a/b"}) {
        struct stat status {};
        REQUIRE(::stat((directory.path() + made).c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0700);
    }
    struct stat status {};
    REQUIRE(::stat(only_file(directory.path() + "/a/b").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("cache: where the process may write no file so large, nothing is written and no signal comes") {
    const TempDirectory directory;
    const Cache cache(directory.path());
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
    rlimit small = limit;
    small.rlim_cur = 1000;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    cache.write("large", std::string(1000, 'x'));
    cache.write("small", std::string(100, 'x'));
    ::setrlimit(RLIMIT_FSIZE, &limit);
    CHECK(!cache.read("large"));
    CHECK(cache.read("small"));
}

TEST_CASE("cache: processes that write at once leave a whole value") {
    const TempDirectory directory;
    const Cache cache(directory.path());
    const auto value = [](int i) { return std::string(100000 + i * 1000, static_cast<char>('a' + i)); };
    cache.write("key", value(0));
    std::vector<pid_t> children;
    for (int i = 0; i < 3; i++) {
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            for (int n = 0; n < 50; n++) cache.write("key", value(i));
            ::_exit(0);
        }
        children.push_back(child);
    }
    for (int n = 0; n < 100; n++) {
        const auto read = cache.read("key");
        REQUIRE(read);
        CHECK(*read == value((*read)[0] - 'a'));
    }
    for (const pid_t child : children) {
        int status = 0;
        ::waitpid(child, &status, 0);
        CHECK(status == 0);
    }
    only_file(directory.path());
}

TEST_CASE("cache: where the user's is") {
    const Variable local("LOCALAPPDATA", nullptr);
    {
        const Variable xdg("XDG_CACHE_HOME", "/x/cache"), home("HOME", "/home/me");
        CHECK(Cache::user_directory() == "/x/cache/libgptoss");
    }
    const Variable xdg("XDG_CACHE_HOME", "not/absolute");
    {
        const Variable home("HOME", "/home/me");
        CHECK(Cache::user_directory() == "/home/me/.cache/libgptoss");
    }
    const Variable home("HOME", nullptr);
    CHECK(Cache::user_directory() == "");
}
