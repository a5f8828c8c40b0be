// The one exception type of the library. It never crosses the ABI: lib/api turns it into a status and a message.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <utility>

namespace gptoss {

// Values equal enum gptoss_status of the public header; lib/api/common.h checks that they do.
enum class Status {
    Success = 0,
    InvalidArgument = 1,
    UnsupportedArgument = 2,
    InvalidState = 3,
    IoError = 4,
    InsufficientMemory = 5,
    InsufficientResources = 6,
    UnsupportedSystem = 7,
    ContextOverflow = 8,
    DeviceLost = 9,
    Cancelled = 10,
    InternalError = 11,
};

// Copies share their message, so that copying takes no memory, and each thread that an error concerns throws its own.
class Error : public std::exception {
  public:
    // message names the thing that failed: a file, a tensor, a value.
    Error(Status status, std::string message)
        : status_(status), message_(std::make_shared<const std::string>(std::move(message))) {}

    // The exception in flight, of whatever type.
    static Error current() noexcept;

    Status status() const { return status_; }
    const char* what() const noexcept override { return message_ ? message_->c_str() : "out of host memory"; }

  private:
    Error() = default;  // where there is no memory for a message

    Status status_ = Status::InsufficientMemory;
    std::shared_ptr<const std::string> message_ = nullptr;
};

}  // namespace gptoss
