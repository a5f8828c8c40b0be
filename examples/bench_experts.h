// How evenly a model uses its experts on a text, and what a budget of device memory for them would hit.
#pragma once

#include <gptoss.hpp>
#include <nlohmann/json.hpp>
#include <string>

// Computes the first tokens of the text, at most `most`, and prints what it finds unless quiet.
nlohmann::json bench_experts(const gptoss::Model& model, const std::string& text, size_t most, bool quiet);
