#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "at_end.h"

namespace gptoss::test {

std::vector<std::function<void()>>& at_end() {
    static std::vector<std::function<void()>> calls;
    return calls;
}

}  // namespace gptoss::test

int main(int argc, char** argv) {
    const int status = doctest::Context(argc, argv).run();
    for (const auto& call : gptoss::test::at_end()) call();
    return status;
}
