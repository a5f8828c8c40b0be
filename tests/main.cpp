#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "at_end.h"
#include "posix.h"

namespace gptoss::test {

std::vector<std::function<void()>>& at_end() {
    static std::vector<std::function<void()>> calls;
    return calls;
}

}  // namespace gptoss::test

int main(int argc, char** argv) {
    // a cache of this run's own: what it keeps, it has found itself
    std::string cache = (std::filesystem::temp_directory_path() / "gptoss-test-cache-XXXXXX").string();
    if (!mkdtemp(cache.data())) return 1;
    setenv(CACHE_VARIABLE, cache.c_str(), 1);
    const int status = doctest::Context(argc, argv).run();
    for (const auto& call : gptoss::test::at_end()) call();
    std::filesystem::remove_all(cache);
    return status;
}
