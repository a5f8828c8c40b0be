// The command line of gptoss-server.
#pragma once

#include <gptoss.h>

#include <cstdint>
#include <optional>
#include <string>

namespace server {

struct Options {
    std::string model, name;  // name: by which clients know it
    bool strict_model = false;
    bool yes = false;  // download the model without asking

    std::string host = "127.0.0.1", api_key, cors_origin;
    int port = 8080;
    size_t parallel = 8, queue = 64;     // requests that are computed at once, and that wait
    double timeout = 600, grace = 30;    // seconds: of a request; of those that run when the server is told to stop
    size_t max_body = 16 * 1000 * 1000;  // bytes

    std::string device;  // "" for the most capable one
    gptoss_weight_type weights = gptoss_weight_type_default;
    gptoss_kernel_tier tier = gptoss_kernel_tier_default;
    double memory = 0;            // device memory to take at most, GB; 0 for what is free
    uint64_t context_length = 0;  // 0 for the model's

    // For requests that leave them open; from the generation_config.json in the model's directory, if there is one.
    double temperature = 1, top_p = 1;
    int64_t top_k = 0;
};

// For --help and mistakes returns the exit status in place of options.
std::optional<int> parse_options(int argc, char** argv, Options& options);

}  // namespace server
