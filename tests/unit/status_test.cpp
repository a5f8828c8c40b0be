#include <doctest/doctest.h>
#include <gptoss.h>

#include "api/common.h"

using namespace gptoss;

TEST_CASE("an exception becomes its status and message") {
    CHECK(api::guard([] { throw Error(Status::IoError, "weights.bin: truncated"); }) == gptoss_status_io_error);
    CHECK(std::string(gptoss_last_error()) == "weights.bin: truncated");
    CHECK(api::guard([] { throw std::bad_alloc(); }) == gptoss_status_insufficient_memory);
    CHECK(api::guard([] { throw 7; }) == gptoss_status_internal_error);
    CHECK(api::guard([] {}) == gptoss_status_success);
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
