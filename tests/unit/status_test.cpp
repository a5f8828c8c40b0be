#include <doctest/doctest.h>
#include <gptoss.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>

#include "api/common.h"

using namespace gptoss;

TEST_CASE("an exception becomes its status and message") {
    CHECK(api::guard([] { throw Error(Status::IoError, "weights.bin: truncated"); }) == gptoss_status_io_error);
    CHECK(std::string(gptoss_last_error()) == "weights.bin: truncated");
    CHECK(api::guard([] { throw std::bad_alloc(); }) == gptoss_status_insufficient_memory);
    CHECK(api::guard([] { throw 7; }) == gptoss_status_internal_error);
    CHECK(api::guard([] { throw std::system_error(EAGAIN, std::generic_category()); }) ==
          gptoss_status_insufficient_resources);
    CHECK(api::guard([] { throw std::filesystem::filesystem_error("x", {}); }) == gptoss_status_io_error);
    CHECK(api::guard([] {}) == gptoss_status_success);
}

TEST_CASE("a long message ends before the character that has no room") {
    for (size_t n = 1015; n < 1030; n++) {
        const std::string text = std::string(n, 'a') + "ö" + std::string(2000, 'b');
        api::fail(gptoss_status_io_error, text.c_str());
        const std::string message = gptoss_last_error();
        CHECK(message.size() <= 1023);
        CHECK(message.size() >= 1022);
        CHECK(text.starts_with(message));
        CHECK((n != 1022 || message.size() == 1022));
    }
    api::fail(gptoss_status_io_error, gptoss_last_error());  // its own
    CHECK(std::string(gptoss_last_error()) == std::string(1023, 'a'));
}

TEST_CASE("options structs of an older version are read as far as they go") {
    gptoss_generate_options options{};
    options.struct_size = offsetof(gptoss_generate_options, stop_tokens);
    options.max_tokens = 5;
    options.num_stop_tokens = 9;
    gptoss_generate_options read = api::read_struct(&options, "options");
    CHECK(read.max_tokens == 5);
    CHECK(read.num_stop_tokens == 0);
    options.struct_size = 0;
    CHECK_THROWS_AS(api::read_struct(&options, "options"), Error);
}
