#include "bench_experts.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <list>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace {

// Which of a model's experts a token uses, layer after layer, by their numbers among all layers'.
using Uses = std::vector<uint32_t>;

Uses uses_of(const gptoss::Model& model, const std::vector<uint32_t>& tokens) {
    const uint32_t num_experts = model.info().num_experts;
    Uses uses;
    gptoss::Context context(model, tokens.size() + 1);
    gptoss::TapOptions options;
    options.kinds = gptoss_tap_kind_experts;
    context.set_tap(
        [&](const gptoss::Tap& tap) {
            for (size_t i = 0; i < tap.num_columns; i++)
                uses.push_back(tap.layer * num_experts + static_cast<uint32_t>(tap.values[i]));
        },
        options);
    context.append(tokens);
    context.process();
    return uses;
}

// The share of uses that find their expert among as many as there is room for, of which the longest unused one makes
// room for what is missing; none is there at first.
double recently_used_hits(const Uses& uses, size_t num_all, size_t room) {
    std::list<uint32_t> recent;
    std::vector<std::list<uint32_t>::iterator> at(num_all, recent.end());
    size_t hits = 0;
    for (const uint32_t expert : uses) {
        if (at[expert] != recent.end()) {
            hits++;
            recent.erase(at[expert]);
        } else if (recent.size() == room) {
            at[recent.back()] = recent.end();
            recent.pop_back();
        }
        at[expert] = recent.insert(recent.begin(), expert);
    }
    return double(hits) / uses.size();
}

// How many experts, used alike, would have the entropy of these counts.
double effective(const std::vector<size_t>& counts) {
    const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
    double entropy = 0;
    for (const size_t n : counts)
        if (n > 0) entropy -= n / sum * std::log(n / sum);
    return std::exp(entropy);
}

}  // namespace

nlohmann::json bench_experts(const gptoss::Model& model, const std::string& text, size_t most, bool quiet) {
    const gptoss_model_info info = model.info();
    std::vector<uint32_t> tokens = model.tokenizer().encode(text);
    tokens.resize(std::min({tokens.size(), most, static_cast<size_t>(info.max_context_length) - 1}));
    if (tokens.empty()) throw std::invalid_argument("the text of --experts is empty");
    const Uses uses = uses_of(model, tokens);
    const size_t num_all = size_t{info.num_layers} * info.num_experts;
    std::vector<size_t> counts(num_all);
    for (const uint32_t expert : uses) counts[expert]++;

    nlohmann::json result{{"tokens", tokens.size()}};
    if (!quiet)
        std::printf("experts of %zu tokens, %u of %u in each of %u layers\n\n%-6s %10s %8s %8s %7s\n", tokens.size(),
                    info.num_active_experts, info.num_experts, info.num_layers, "layer", "effective", "least", "most",
                    "unused");
    for (uint32_t layer = 0; layer < info.num_layers; layer++) {
        const auto begin = counts.begin() + layer * info.num_experts;
        const std::vector<size_t> of(begin, begin + info.num_experts);
        const auto [least, greatest] = std::minmax_element(of.begin(), of.end());
        const auto unused = std::count(of.begin(), of.end(), 0);
        const double tokens_least = double(*least) / tokens.size(), tokens_most = double(*greatest) / tokens.size();
        if (!quiet)
            std::printf("%-6u %10.2f %7.1f%% %7.1f%% %7zu\n", layer, effective(of), 100 * tokens_least,
                        100 * tokens_most, static_cast<size_t>(unused));
        result["layers"].push_back({{"effective", effective(of)},
                                    {"least", tokens_least},
                                    {"most", tokens_most},
                                    {"unused", unused},
                                    {"uses", of}});
    }

    // MXFP4 has 17 bytes for 32 weights
    const double expert_bytes = 3.0 * info.hidden_size * info.intermediate_size * 17 / 32;
    std::vector<size_t> sorted = counts;
    std::sort(sorted.rbegin(), sorted.rend());
    if (!quiet) std::printf("\n%-10s %10s %12s %14s\n", "on device", "GB", "most used", "last used");
    for (const int percent : {10, 25, 50, 75, 90}) {
        const size_t room = std::max<size_t>(1, num_all * percent / 100);
        const double of_most =
            std::accumulate(sorted.begin(), sorted.begin() + room, 0.0) / static_cast<double>(uses.size());
        const double of_last = recently_used_hits(uses, num_all, room);
        if (!quiet)
            std::printf("%9d%% %10.3f %11.1f%% %13.1f%%\n", percent, room * expert_bytes / 1e9, 100 * of_most,
                        100 * of_last);
        result["budgets"].push_back({{"experts", room},
                                     {"bytes", room * expert_bytes},
                                     {"hits_of_most_used", of_most},
                                     {"hits_of_last_used", of_last}});
    }
    if (!quiet)
        std::printf(
            "\neffective: as many experts, used alike, would be as evenly used. least, most: share of the tokens.\n"
            "most used, last used: hits of experts on the device, with those there that this text uses most, and with\n"
            "those that were used last, token after token, none at first.\n");
    return result;
}
