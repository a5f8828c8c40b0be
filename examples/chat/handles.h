// The library's handles, released at the end of a scope, and its statuses as exceptions.
#pragma once

#include <gptoss.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace chat {

struct Failure : std::runtime_error {
    Failure(gptoss_status status, const std::string& message) : std::runtime_error(message), status(status) {}
    gptoss_status status;
};

// Throws what the last call left in gptoss_last_error.
inline void check(gptoss_status status) {
    if (status != gptoss_status_success)
        throw Failure(status, std::string(gptoss_status_string(status)) + ": " + gptoss_last_error());
}

template <auto release>
struct Release {
    void operator()(auto* handle) const { release(handle); }
};

using Model = std::unique_ptr<gptoss_model, Release<gptoss_model_release>>;
using Tokenizer = std::unique_ptr<gptoss_tokenizer, Release<gptoss_tokenizer_release>>;
using Context = std::unique_ptr<gptoss_context, Release<gptoss_context_release>>;
using Sampler = std::unique_ptr<gptoss_sampler, Release<gptoss_sampler_release>>;
using Parser = std::unique_ptr<gptoss_harmony_parser, Release<gptoss_harmony_parser_release>>;

// Calls create(arguments..., &handle) and owns the handle.
template <typename Handle, typename Create, typename... Arguments>
Handle make(Create create, Arguments... arguments) {
    typename Handle::pointer handle = nullptr;
    check(create(arguments..., &handle));
    return Handle(handle);
}

}  // namespace chat
