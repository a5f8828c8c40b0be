// What every extern "C" function shares: exceptions become a status and this thread's message.
#pragma once

#include <gptoss.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <type_traits>

#include "base/error.h"

namespace gptoss::api {

static_assert(static_cast<int>(Status::InternalError) == gptoss_status_internal_error);
static_assert(static_cast<int>(Status::ContextOverflow) == gptoss_status_context_overflow);

// Stores the message behind gptoss_last_error; returns the status. Never throws.
gptoss_status fail(gptoss_status status, const char* message) noexcept;
// The status and message of the exception in flight.
gptoss_status fail_with_current_exception() noexcept;

// Runs f; whatever it throws becomes a status.
template <typename F>
gptoss_status guard(F&& f) noexcept {
    try {
        f();
        return gptoss_status_success;
    } catch (...) {
        return fail_with_current_exception();
    }
}

// Throws InvalidArgument "<name> must not be NULL".
void require(const void* pointer, const char* name);

// What a caller stored in an enum, which need not be one of its values.
template <typename E>
int enum_value(const E& given) {
    static_assert(std::is_enum_v<E> && sizeof(E) == sizeof(int));
    int value;
    std::memcpy(&value, &given, sizeof value);
    return value;
}

// A reference-counted handle: struct gptoss_x : Handle<gptoss_x>.
template <typename T>
struct Handle {
    std::atomic<size_t> references{1};

    static gptoss_status retain(T* handle) noexcept {
        if (!handle) return fail(gptoss_status_invalid_argument, "the handle to retain must not be NULL");
        handle->references.fetch_add(1, std::memory_order_relaxed);
        return gptoss_status_success;
    }
    static gptoss_status release(T* handle) noexcept {
        if (handle && handle->references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete handle;
        return gptoss_status_success;
    }
};

// A call's turn on a handle that one thread at a time may use: a call that comes while another one runs is refused
// before it touches anything, so that the mistake is an error and not a data race.
class Turn {
  public:
    using Owner = std::atomic<std::thread::id>;  // of the running call; none between calls

    enum class Kind {
        Changes,
        Reads,  // also within a callback of the call that runs
    };

    // Throws InvalidState while another call has its turn.
    explicit Turn(Owner& owner, Kind kind = Kind::Changes) : owner_(&owner) {
        std::thread::id running;
        const std::thread::id mine = std::this_thread::get_id();
        if (owner.compare_exchange_strong(running, mine, std::memory_order_acquire)) return;
        if (running != mine)
            throw Error(Status::InvalidState, "another call is running on this handle, in another thread");
        if (kind == Kind::Changes)
            throw Error(Status::InvalidState, "another call is running on this handle: the one of this callback");
        owner_ = nullptr;
    }
    ~Turn() {
        if (owner_) owner_->store({}, std::memory_order_release);
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

  private:
    Owner* owner_;
};

// Copies a caller's options struct of any version: what its struct_size does not cover is zero.
template <typename T>
T read_struct(const T* from, const char* name) {
    static_assert(std::is_trivially_copyable_v<T>);
    T out{};
    out.struct_size = sizeof(T);
    if (!from) return out;
    if (from->struct_size < sizeof(size_t))
        throw Error(Status::InvalidArgument, std::string(name) + ".struct_size is " +
                                                 std::to_string(from->struct_size) +
                                                 ": set it to sizeof of the struct");
    std::memcpy(&out, from, std::min(from->struct_size, sizeof(T)));
    out.struct_size = sizeof(T);
    return out;
}

// Fills a caller's struct of any version: only what its struct_size covers is written.
template <typename T>
void write_struct(const T& value, T* to, const char* name) {
    static_assert(std::is_trivially_copyable_v<T>);
    require(to, name);
    size_t size = to->struct_size;
    if (size < sizeof(size_t))
        throw Error(Status::InvalidArgument, std::string(name) + "->struct_size is " + std::to_string(size) +
                                                 ": set it to sizeof of the struct");
    size = std::min(size, sizeof(T));
    std::memcpy(reinterpret_cast<char*>(to) + sizeof(size_t), reinterpret_cast<const char*>(&value) + sizeof(size_t),
                size - sizeof(size_t));
}

}  // namespace gptoss::api
