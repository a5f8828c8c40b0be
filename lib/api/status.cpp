#include "api/common.h"
#include "base/utf8.h"

namespace gptoss::api {

namespace {
// No std::string: to have one destroyed with its thread takes memory, and glibc ends the process where there is none.
thread_local char last_error[1024];
}  // namespace

gptoss_status fail(gptoss_status status, const char* message) noexcept {
    // names and texts of files are in it, which whoever prints it need not trust
    size_t size = 0;
    for (std::string_view rest = message; !rest.empty();) {
        const PrintableStep step = printable_step(rest);
        if (size + step.shown.size() >= sizeof last_error) break;
        std::memmove(last_error + size, step.shown.data(), step.shown.size());
        size += step.shown.size();
        rest.remove_prefix(step.size);
    }
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
