#include <new>

#include "api/common.h"

namespace gptoss::api {

namespace {
thread_local std::string last_error;
}

gptoss_status fail(gptoss_status status, const char* message) noexcept {
    try {
        last_error = message;
    } catch (...) {
        last_error.clear();  // too little memory even for the message: the status still tells
    }
    return status;
}

gptoss_status fail_with_current_exception() noexcept {
    try {
        throw;
    } catch (const Error& e) {
        return fail(static_cast<gptoss_status>(e.status()), e.what());
    } catch (const std::bad_alloc&) {
        return fail(gptoss_status_insufficient_memory, "out of host memory");
    } catch (const std::exception& e) {
        return fail(gptoss_status_internal_error, e.what());
    } catch (...) {
        return fail(gptoss_status_internal_error, "unknown exception");
    }
}

void require(const void* pointer, const char* name) {
    if (!pointer) throw Error(Status::InvalidArgument, std::string(name) + " must not be NULL");
}

}  // namespace gptoss::api

using namespace gptoss::api;

uint32_t gptoss_version(void) {
    return GPTOSS_VERSION_MAJOR * 10000 + GPTOSS_VERSION_MINOR * 100 + GPTOSS_VERSION_PATCH;
}

const char* gptoss_last_error(void) { return last_error.c_str(); }

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
