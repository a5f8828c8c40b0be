// What the command line asks for; what it leaves open takes the model's own defaults.
#pragma once

#include <gptoss.h>

#include <cstdint>
#include <optional>
#include <string>

#include "settings.h"

namespace chat {

struct Options {
    std::string model;
    bool yes = false;                   // download the model without asking
    std::optional<std::string> prompt;  // one shot; "-" for standard input alone
    std::string reasoning = "medium", instructions, tools;
    std::string schema, grammar;  // files: what answers must be
    bool hide_reasoning = false;

    std::string device;  // "" for the most capable one
    gptoss_weight_type weights = gptoss_weight_type_default;
    gptoss_kernel_tier tier = gptoss_kernel_tier_default;
    double memory = 0;            // device memory to take at most, GB; 0 for what is free
    uint64_t context_length = 0;  // 0 for the model's
    Settings settings;

    // Fills what is still open from the generation_config.json in the model's directory, if there is one.
    void take_model_defaults();
};

// The model that comes with the source, where this program finds it. Throws if it doesn't.
std::string default_model();

// Parses the command line; for --help, --list-devices and mistakes returns the exit status in its place.
std::optional<int> parse_options(int argc, char** argv, Options& options);

}  // namespace chat
