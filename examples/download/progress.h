// How far a download is: a line on a terminal that is drawn again and again, and elsewhere a line for each file.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

namespace hub {

class Progress {
  public:
    // On standard error. quiet: nothing but what note() says.
    Progress(uint64_t total, bool quiet);
    ~Progress();
    Progress(const Progress&) = delete;

    // Bytes that came over the network, and bytes that were there or are no longer good.
    void received(uint64_t bytes) { done_ += bytes, received_ += bytes; }
    void found(int64_t bytes) { done_ += static_cast<uint64_t>(bytes); }

    // A line of its own.
    void note(const std::string& line);
    // The same for what is of interest while nothing is drawn.
    void finished(const std::string& line);

  private:
    void draw();

    const uint64_t total_;
    const bool quiet_, drawn_;
    const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
    std::atomic<uint64_t> done_ = 0, received_ = 0;
    std::mutex mutex_;
    std::condition_variable changed_;
    double speed_ = 0;  // bytes a second, of the last seconds
    uint64_t received_before_ = 0;
    bool over_ = false;
    std::thread painter_;
};

}  // namespace hub
