// One request's generation. It runs on a thread of its own, so that a client that reads slowly holds nobody up.
#pragma once

#include <chrono>
#include <condition_variable>
#include <set>
#include <thread>

#include "api_error.h"
#include "service.h"
#include "stop_strings.h"

namespace server {

using Clock = std::chrono::steady_clock;

struct Sampling {
    float temperature = 1, top_p = 1, min_p = 0, presence_penalty = 0, frequency_penalty = 0, repetition_penalty = 1;
    uint32_t top_k = 0;
    uint64_t seed = 0;
    std::vector<uint32_t> biased{};  // tokens
    std::vector<float> biases{};     // of them
};

struct Turn {
    std::vector<uint32_t> prompt;
    Sampling sampling;
    size_t max_tokens = 0;  // 0: what the context holds
    std::vector<std::string> stop;
    int choices = 1;
    bool harmony = true;          // else the tokens are plain text
    std::set<std::string> tools;  // the functions that were offered
    std::optional<gptoss::Grammar> grammar;
    // Log-probabilities of the text's tokens are wanted, and with each so many of the likeliest tokens there.
    std::optional<uint32_t> top_logprobs;
};

// A part of an answer. A piece that begins an item comes before the item's text.
struct Piece {
    enum class Kind { reasoning, text, call, end };
    enum class End { none, stop, length, call };

    int choice = 0;
    Kind kind = Kind::text;
    bool begins = false;
    std::string text;  // of a call that begins: the function's name
    End end = End::none;
    Json logprobs = Json::array();  // of the text's tokens, if they are wanted: {token, logprob, bytes, top_logprobs}
};

struct Usage {
    size_t prompt = 0, cached = 0, generated = 0, reasoning = 0;
};

// The client is not there any more: nobody to tell.
struct ClientGone {};

// Throws ClientGone where nobody waits for the answer any more, ApiError where the server stops or the time is over.
void check_wanted(const Service& service, const std::function<bool()>& gone, Clock::time_point arrival);

class Generation {
  public:
    // Waits for a context and begins. `gone` says whether the client went away. Throws ApiError and ClientGone.
    Generation(Service& service, Turn turn, std::function<bool()> gone, Clock::time_point arrival);
    // Cancels what still runs.
    ~Generation();
    Generation(const Generation&) = delete;

    // The pieces since the last call, at least one, or none once there are no more. Throws ApiError and ClientGone.
    std::vector<Piece> next();
    // Complete once next() returned nothing.
    const Usage& usage() const { return usage_; }

  private:
    class Parser;

    void check() const;
    void cancel();
    void run() noexcept;
    void run_choice(gptoss::Context& context, int choice);
    void push(Piece piece);

    Service& service_;
    const Turn turn_;
    const std::function<bool()> gone_;
    const Clock::time_point arrival_;
    Contexts::Lease lease_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Piece> pieces_;
    bool done_ = false;
    std::exception_ptr error_;
    Usage usage_;
    std::atomic<bool> cancelled_ = false;
    std::thread thread_;
};

// What the library refused, as a client is told it.
ApiError api_error(const gptoss::Error& error);

}  // namespace server
