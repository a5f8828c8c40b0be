// What every extern "C" function shares: exceptions become a status and this thread's message.
#pragma once

#include <gptoss.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <string>
#include <thread>
#include <type_traits>

#include "base/error.h"
#include "base/floating_point.h"
#include "base/process.h"

namespace gptoss::api {

static_assert(static_cast<int>(Status::InternalError) == gptoss_status_internal_error);
static_assert(static_cast<int>(Status::ContextOverflow) == gptoss_status_context_overflow);

// Stores the message behind gptoss_last_error; returns the status. Never throws.
gptoss_status fail(gptoss_status status, const char* message) noexcept;
// The status and message of the exception in flight.
gptoss_status fail_with_current_exception() noexcept;

// Runs f in the default floating-point environment; whatever it throws becomes a status.
template <typename F>
gptoss_status guard(F&& f) noexcept {
    const DefaultFloatingPoint ours;
    try {
        f();
        return gptoss_status_success;
    } catch (...) {
        return fail_with_current_exception();
    }
}

// Runs a callback of the caller's, in the floating-point environment that the call came with.
template <typename R, typename... P, typename... A>
R call_back(R (*callback)(P...), A... arguments) {
    const CallersFloatingPoint theirs;
    return callback(arguments...);
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

// A reference-counted handle: struct gptoss_x : Handle<gptoss_x>. T::kOnDevice tells whether it needs an open device:
// in a process that was forked after it was made, it cannot be used then, and releasing it does nothing.
template <typename T>
struct Handle {
    std::atomic<size_t> references{1};
    const unsigned forks = fork_count();

    static gptoss_status retain(T* handle) noexcept {
        if (!handle) return fail(gptoss_status_invalid_argument, "the handle to retain must not be NULL");
        handle->references.fetch_add(1, std::memory_order_relaxed);
        return gptoss_status_success;
    }
    static gptoss_status release(T* handle) noexcept {
        if (!handle || (T::kOnDevice && handle->forks != fork_count())) return gptoss_status_success;
        if (handle->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            const DefaultFloatingPoint ours;
            delete handle;
        }
        return gptoss_status_success;
    }
};

// A handle that a call uses: it lives until the call ends, also if a callback or another thread releases it meanwhile.
template <typename T>
class Held {
  public:
    // Throws InvalidArgument where handle is NULL, InvalidState where a fork took its device.
    Held(T* handle, const char* name) : handle_(handle) {
        require(handle, name);
        if (T::kOnDevice && handle->forks != fork_count()) refuse_after_fork();
        T::retain(handle);
    }
    ~Held() { T::release(handle_); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

    T* operator->() const { return handle_; }
    T& operator*() const { return *handle_; }

  private:
    T* const handle_;
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

// The size of a struct in the version that brought it, the padding at its end included; no caller has a smaller one.
template <typename T>
inline constexpr size_t kFirstSize = 0;
#define FIRST_SIZE(type, last)                 \
    template <>                                \
    inline constexpr size_t kFirstSize<type> = \
        (offsetof(type, last) + sizeof(type::last) + alignof(type) - 1) / alignof(type) * alignof(type)
FIRST_SIZE(gptoss_device_info, max_allocation_size);
FIRST_SIZE(gptoss_model_options, cache_directory);
FIRST_SIZE(gptoss_model_info, num_variants_left_out);
FIRST_SIZE(gptoss_memory_estimate, fits);
FIRST_SIZE(gptoss_adapter_info, device_bytes);
FIRST_SIZE(gptoss_generate_options, user_data);
FIRST_SIZE(gptoss_generation, status);
FIRST_SIZE(gptoss_usage, forced_tokens);
FIRST_SIZE(gptoss_context_stats, step_barriers);
FIRST_SIZE(gptoss_tap_options, num_values_out);
FIRST_SIZE(gptoss_embedding_options, unnormalized);
#undef FIRST_SIZE

// Throws InvalidArgument if no version of the struct was so small; name says where its struct_size stands.
template <typename T>
void check_struct_size(size_t size, const std::string& name) {
    static_assert(kFirstSize<T> > 0 && std::is_trivially_copyable_v<T>);
    if (size < kFirstSize<T>)
        throw Error(Status::InvalidArgument, name + "struct_size is " + std::to_string(size) + ", less than the " +
                                                 std::to_string(kFirstSize<T>) +
                                                 " of the struct's first version: set it to sizeof of the struct");
}

// Copies a caller's options struct of any version: what its struct_size does not cover is zero.
template <typename T>
T read_struct(const T* from, const char* name) {
    T out{};
    out.struct_size = sizeof(T);
    if (!from) return out;
    check_struct_size<T>(from->struct_size, std::string(name) + ".");
    std::memcpy(&out, from, std::min(from->struct_size, sizeof(T)));
    out.struct_size = sizeof(T);
    return out;
}

// Fills a caller's struct of any version: only what its struct_size covers is written.
template <typename T>
void write_struct(const T& value, T* to, const char* name) {
    require(to, name);
    check_struct_size<T>(to->struct_size, std::string(name) + "->");
    std::memcpy(reinterpret_cast<char*>(to) + sizeof(size_t), reinterpret_cast<const char*>(&value) + sizeof(size_t),
                std::min(to->struct_size, sizeof(T)) - sizeof(size_t));
}

}  // namespace gptoss::api
