#include "api/common.h"

namespace gptoss::api {

namespace {
// No std::string: to have one destroyed with its thread takes memory, and glibc ends the process where there is none.
thread_local char last_error[1024];
}  // namespace

gptoss_status fail(gptoss_status status, const char* message) noexcept {
    size_t size = std::strlen(message);
    if (size >= sizeof last_error)
        for (size = sizeof last_error - 1; (message[size] & 0xC0) == 0x80;) size--;  // no half of a character
    std::memmove(last_error, message, size);
    last_error[size] = 0;
    return status;
}

gptoss_status fail_with_current_exception() noexcept {
    const Error error = Error::current();
    return fail(static_cast<gptoss_status>(error.status()), error.what());
}

void require(const void* pointer, const char* name) {
    if (!pointer) throw Error(Status::InvalidArgument, std::string(name) + " must not be NULL");
}

}  // namespace gptoss::api

using namespace gptoss::api;

uint32_t gptoss_version(void) {
    return GPTOSS_VERSION_MAJOR * 10000 + GPTOSS_VERSION_MINOR * 100 + GPTOSS_VERSION_PATCH;
}

const char* gptoss_last_error(void) { return last_error; }

const char* gptoss_status_string(enum gptoss_status status) {
    switch (enum_value(status)) {
        case gptoss_status_success:
            return "success";
        case gptoss_status_invalid_argument:
            return "invalid argument";
        case gptoss_status_unsupported_argument:
            return "unsupported argument";
        case gptoss_status_invalid_state:
            return "invalid state";
        case gptoss_status_io_error:
            return "io error";
        case gptoss_status_insufficient_memory:
            return "insufficient memory";
        case gptoss_status_insufficient_resources:
            return "insufficient resources";
        case gptoss_status_unsupported_system:
            return "unsupported system";
        case gptoss_status_context_overflow:
            return "context overflow";
        case gptoss_status_device_lost:
            return "device lost";
        case gptoss_status_cancelled:
            return "cancelled";
        case gptoss_status_internal_error:
            return "internal error";
    }
    return "unknown status";
}
