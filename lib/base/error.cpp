#include "base/error.h"

#include <filesystem>
#include <new>
#include <system_error>

namespace gptoss {

Error Error::current() noexcept {
    try {
        try {
            throw;
        } catch (const Error& e) {
            return e;
        } catch (const std::bad_alloc&) {
            return Error();
        } catch (const std::filesystem::filesystem_error& e) {
            return Error(Status::IoError, e.what());
        } catch (const std::system_error& e) {  // a thread that could not be made
            return Error(Status::InsufficientResources, e.what());
        } catch (const std::exception& e) {
            return Error(Status::InternalError, e.what());
        } catch (...) {
            return Error(Status::InternalError, "unknown exception");
        }
    } catch (const std::bad_alloc&) {
        return Error();
    }
}

}  // namespace gptoss
