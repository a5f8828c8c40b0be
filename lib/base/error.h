// The one exception type of the library. It never crosses the ABI: lib/api turns it into a status and a message.
#pragma once

#include <exception>
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

class Error : public std::exception {
  public:
    // message names the thing that failed: a file, a tensor, a value.
    Error(Status status, std::string message) : status_(status), message_(std::move(message)) {}

    Status status() const { return status_; }
    const char* what() const noexcept override { return message_.c_str(); }

  private:
    Status status_;
    std::string message_;
};

}  // namespace gptoss
