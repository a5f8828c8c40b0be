// What the server counts, in the text format that Prometheus reads.
#pragma once

#include <array>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace server {

class Metrics {
  public:
    struct Histogram {
        std::vector<double> bounds;    // seconds, ascending
        std::vector<uint64_t> counts;  // of each bound and, last, of what is beyond them
        double sum = 0;
    };

    Metrics();

    void count_request(const std::string& endpoint, int status);
    void count_disconnect();
    void count_tokens(size_t prompt, size_t cached, size_t generated);
    void time_to_first_token(double seconds);
    void time_per_token(double seconds);
    std::string text(size_t running, size_t waiting) const;

  private:
    mutable std::mutex mutex_;
    std::map<std::pair<std::string, int>, uint64_t> requests_;
    uint64_t disconnects_ = 0, prompt_tokens_ = 0, cached_tokens_ = 0, generated_tokens_ = 0;
    Histogram first_token_, per_token_;
};

}  // namespace server
