#include "metrics.h"

#include <algorithm>
#include <cstdio>

namespace server {

namespace {

void observe(Metrics::Histogram& histogram, double seconds) {
    const auto bound = std::lower_bound(histogram.bounds.begin(), histogram.bounds.end(), seconds);
    ++histogram.counts[static_cast<size_t>(bound - histogram.bounds.begin())];
    histogram.sum += seconds;
}

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", value);
    return text;
}

std::string header(const std::string& name, const char* type, const char* help) {
    return "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

std::string value(const std::string& name, const char* type, const char* help, uint64_t value) {
    return header(name, type, help) + name + " " + std::to_string(value) + "\n";
}

std::string histogram(const std::string& name, const char* help, const Metrics::Histogram& histogram) {
    std::string out = header(name, "histogram", help);
    uint64_t count = 0;
    for (size_t i = 0; i < histogram.counts.size(); ++i) {
        count += histogram.counts[i];
        const std::string bound = i < histogram.bounds.size() ? number(histogram.bounds[i]) : "+Inf";
        out += name + "_bucket{le=\"" + bound + "\"} " + std::to_string(count) + "\n";
    }
    return out + name + "_sum " + number(histogram.sum) + "\n" + name + "_count " + std::to_string(count) + "\n";
}

Metrics::Histogram with_bounds(std::vector<double> bounds) {
    const size_t n = bounds.size() + 1;
    return {std::move(bounds), std::vector<uint64_t>(n), 0};
}

}  // namespace

Metrics::Metrics()
    : first_token_(with_bounds({0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120})),
      per_token_(with_bounds({0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5})) {}

void Metrics::count_request(const std::string& endpoint, int status) {
    std::lock_guard lock(mutex_);
    ++requests_[{endpoint, status}];
}

void Metrics::count_disconnect() {
    std::lock_guard lock(mutex_);
    ++disconnects_;
}

void Metrics::count_tokens(size_t prompt, size_t cached, size_t generated) {
    std::lock_guard lock(mutex_);
    prompt_tokens_ += prompt;
    cached_tokens_ += cached;
    generated_tokens_ += generated;
}

void Metrics::time_to_first_token(double seconds) {
    std::lock_guard lock(mutex_);
    observe(first_token_, seconds);
}

void Metrics::time_per_token(double seconds) {
    std::lock_guard lock(mutex_);
    observe(per_token_, seconds);
}

std::string Metrics::text(size_t running, size_t waiting) const {
    std::lock_guard lock(mutex_);
    std::string out = header("gptoss_requests_total", "counter", "Requests by endpoint and HTTP status.");
    for (const auto& [key, count] : requests_)
        out += "gptoss_requests_total{endpoint=\"" + key.first + "\",status=\"" + std::to_string(key.second) + "\"} " +
               std::to_string(count) + "\n";
    return out + value("gptoss_requests_running", "gauge", "Requests that are computed now.", running) +
           value("gptoss_requests_waiting", "gauge", "Requests that wait for a context.", waiting) +
           value("gptoss_disconnects_total", "counter", "Requests whose client went away.", disconnects_) +
           value("gptoss_prompt_tokens_total", "counter", "Tokens of prompts.", prompt_tokens_) +
           value("gptoss_cached_tokens_total", "counter", "Tokens of prompts that a context held already.",
                 cached_tokens_) +
           value("gptoss_generated_tokens_total", "counter", "Tokens of answers.", generated_tokens_) +
           histogram("gptoss_time_to_first_token_seconds", "From a request's arrival to its first token.",
                     first_token_) +
           histogram("gptoss_time_per_token_seconds", "Mean time between the tokens of an answer.", per_token_);
}

}  // namespace server
