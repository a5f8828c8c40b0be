#include <doctest/doctest.h>
#include <gptoss.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include "api/common.h"
#include "base/utf8.h"

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

TEST_CASE("structs: of version 0.1 or later, and as far as the caller's goes") {
    gptoss_generate_options options{};
    options.max_tokens = 5;
    for (size_t size = 0; size < offsetof(gptoss_generate_options, output_callback); size++) {
        options.struct_size = size;
        CHECK_THROWS_AS(api::read_struct(&options, "options"), Error);
    }
    options.struct_size = sizeof options;
    CHECK(api::read_struct(&options, "options").max_tokens == 5);

    struct {
        gptoss_device_info info;
        char newer[64];
    } larger{};
    gptoss_device_info value{};
    value.max_allocation_size = 7;
    std::strcpy(value.uuid, "uuid");
    for (const size_t size : {offsetof(gptoss_device_info, uuid), sizeof value, sizeof larger}) {
        std::memset(&larger, 'x', sizeof larger);
        larger.info.struct_size = size;
        api::write_struct(value, &larger.info, "info_out");
        CHECK(larger.info.struct_size == size);
        CHECK(larger.info.max_allocation_size == 7);
        CHECK(larger.info.uuid[0] == (size < sizeof value ? 'x' : 'u'));
        CHECK(larger.newer[0] == 'x');
    }
    for (size_t size = 0; size < offsetof(gptoss_device_info, uuid); size++) {
        larger.info.struct_size = size;
        CHECK_THROWS_AS(api::write_struct(value, &larger.info, "info_out"), Error);
    }
}

TEST_CASE("a line of the log does nothing to a terminal") {
    CHECK(printable_line("plain, gr\u00FCn \u65E5") == "plain, gr\u00FCn \u65E5");
    CHECK(printable_line("\x1b[2J\r\n\t\x7f") == "\uFFFD[2J\uFFFD\uFFFD\uFFFD\uFFFD");
    CHECK(printable_line("a\u009B1mb\u00A0") == "a\uFFFD1mb\u00A0");
    CHECK(printable_line("\xff\xe2\x82") == "\uFFFD\uFFFD");
    CHECK(printable_line(std::string_view("\0", 1)) == "\uFFFD");
    CHECK(printable_line("") == "");
}

TEST_CASE("the text of an error does nothing to a terminal") {
    const auto shown = [](const char* message) {
        api::fail(gptoss_status_io_error, message);
        return std::string(gptoss_last_error());
    };
    CHECK(shown("a tensor \x1b]0;owned\x07 of gr\u00FCn\n") == "a tensor \uFFFD]0;owned\uFFFD of gr\u00FCn\uFFFD");
    CHECK(shown("a\u009B1m\xff") == "a\uFFFD1m\uFFFD");
    // what stands for them is longer: still whole characters, and no more than there is room for
    CHECK(shown(std::string(2000, '\x1b').c_str()).size() == 1023);
    CHECK(shown(("a" + std::string(2000, '\x1b')).c_str()).size() == 1 + 3 * 340);
}
