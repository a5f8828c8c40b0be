// HTTP over libcurl: what may pass is tried again, what does not is an error that says so.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

typedef void CURL;

namespace hub {

struct Settings {
    std::string endpoint = "https://huggingface.co", token;
    int parallel = 4;     // files at once
    int retries = 5;      // in a row without a byte of progress
    double timeout = 60;  // seconds without a byte, after which a connection counts as lost

    // With HF_ENDPOINT and HF_TOKEN. Throws std::runtime_error for an endpoint that is no address.
    static Settings from_environment();
};

// An attempt failed, and another one may succeed.
struct Transient : std::runtime_error {
    explicit Transient(const std::string& message, double wait = 0) : std::runtime_error(message), wait(wait) {}
    double wait;  // seconds that the server asks for
};

// Somebody else failed, or an interrupt came: there is nothing to report.
struct Stopped {};

// One thread's.
class Connection {
  public:
    // stop: ends what runs, with Stopped. note: gets a line for each attempt that failed.
    Connection(const Settings& settings, std::atomic<bool>& stop, std::function<void(const std::string&)> note);
    ~Connection();
    Connection(const Connection&) = delete;

    struct Response {
        std::string body, next;  // next: the address of the next page, "" for the last
    };
    // A document of the hub's interface. Throws std::runtime_error and Stopped.
    Response get(const std::string& url);

    // A sink takes a file's bytes. begin() may be called again, with 0, where the server does not resume.
    struct Sink {
        std::function<void(uint64_t offset)> begin;
        std::function<void(const char* data, size_t size)> write;
    };
    // One attempt at the bytes of a file from offset on. Throws Transient, Stopped, and what the sink throws.
    void fetch(const std::string& url, uint64_t offset, uint64_t size, const Sink& sink);

    // Calls until it does not throw Transient. progressed() says whether bytes came since it was last asked: then the
    // count of failures begins anew. Throws std::runtime_error once there were too many.
    void retry(
        const std::string& what, const std::function<void()>& attempt,
        const std::function<bool()>& progressed = [] { return false; });

    const Settings& settings() const { return settings_; }

  private:
    struct Transfer;
    void perform(const std::string& url, Transfer& transfer);
    void wait(double seconds) const;

    const Settings& settings_;
    std::atomic<bool>& stop_;
    const std::function<void(const std::string&)> note_;
    CURL* curl_;
};

// Without the control characters that could take over a terminal.
std::string printable(std::string text);

}  // namespace hub
