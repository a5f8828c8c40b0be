// Measures a model on a device: prefill and decode speed, and how far from the memory's bandwidth a token is.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <future>
#include <gptoss.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench_experts.h"

namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Options {
    std::string model, device, weights = "default", kv = "f16", experts, adapter;
    std::vector<size_t> prompts{64, 256, 2048}, generates{16, 128}, depths{0}, sequences, threads, lookups;
    size_t repeat = 5, batch = 0;
    double memory = 0;  // GB
    gptoss_kernel_tier tier = gptoss_kernel_tier_default;
    bool as_json = false, profile = false, grammar = false;
    double temperature = 0, top_p = 1;
};

// Any tokens do: speed does not depend on them, but for which experts they choose.
std::vector<uint32_t> some_tokens(size_t n, uint32_t vocabulary) {
    std::vector<uint32_t> tokens(n);
    uint32_t state = 1;
    for (uint32_t& token : tokens) token = (state = state * 1664525 + 1013904223) % vocabulary;
    return tokens;
}

// Objects of any properties, and objects of which much is given.
constexpr char kAnyJson[] =
    R"({"type": "array", "minItems": 9999, "items": {"type": "object", "additionalProperties": false,
        "properties": {"name": {"type": "string"}, "number": {"type": "number"}}}})";
constexpr char kForcedJson[] =
    R"({"type": "array", "minItems": 9999, "items": {"type": "object", "additionalProperties": false,
        "required": ["temperature_in_degrees", "measured_by_the_station"], "properties": {
        "temperature_in_degrees": {"type": "integer"}, "measured_by_the_station": {"enum": ["Norrland", "Gotland"]}}}})";

struct Spread {
    double median, least, most;
};

Spread spread(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return {values[values.size() / 2], values.front(), values.back()};
}

class Bench {
  public:
    // The model is loaded while this is made.
    explicit Bench(const Options& options)
        : options_(options),
          model_(options.model, model_options(options)),
          load_seconds_(seconds_since(start_)),
          info_(model_.info()),
          device_(gptoss::devices().at(info_.device)),
          bandwidth_(gptoss::measure_bandwidth(info_.device)),
          context_(model_, std::min<size_t>(longest(options), info_.max_context_length), options.batch),
          tokens_(some_tokens(longest(options), info_.vocabulary_size)) {
        sampler_.temperature(static_cast<float>(options.temperature)).top_p(static_cast<float>(options.top_p));
    }

    void run() {
        json result{{"model", options_.model},       {"device", device_.name},
                    {"driver", device_.driver},      {"weight_bytes", info_.weight_bytes},
                    {"load_seconds", load_seconds_}, {"copy_bandwidth", bandwidth_}};
        print("%s on %s (%s)\nweights %.2f GB, loaded in %.2f s; the device copies %.2f GB/s\n\n",
              options_.model.c_str(), device_.name, device_.driver, info_.weight_bytes / 1e9, load_seconds_,
              bandwidth_ / 1e9);
        print("%-8s %8s %10s %10s %10s %s\n", "test", "depth", "tokens/s", "least", "most", "");
        for (size_t depth : options_.depths) {
            for (size_t n : options_.prompts) result["prefill"].push_back(prefill(depth, n));
            for (size_t n : options_.generates) result["decode"].push_back(decode(depth, n));
            for (size_t n : options_.generates)
                if (!options_.adapter.empty()) result["adapter"].push_back(by_adapter(depth, n));
            for (size_t n : options_.generates)
                if (options_.grammar) {
                    result["grammar"].push_back(by_grammar("json", kAnyJson, depth, n));
                    result["grammar"].push_back(by_grammar("forced", kForcedJson, depth, n));
                }
        }
        for (size_t n : options_.lookups) result["prompt_lookup"].push_back(lookup(n));
        if (!options_.sequences.empty()) result["sequences"] = together();
        for (size_t n : options_.threads)
            for (size_t call : {size_t{1}, options_.generates.back()}) result["threads"].push_back(threads(n, call));
        const gptoss_context_stats stats = context_.stats();
        result["step"] = {{"dispatches", stats.step_dispatches}, {"barriers", stats.step_barriers}, {"submits", 1}};
        result["memory"] = {
            {"weights", info_.weight_bytes}, {"cache", stats.cache_bytes}, {"activations", stats.activation_bytes}};
        print("\na decoded token: 1 submit, %u dispatches (%.2f a layer), %u barriers\n", stats.step_dispatches,
              double(stats.step_dispatches) / info_.num_layers, stats.step_barriers);
        print("memory: weights %.1f MB, cache %.1f MB, activations %.1f MB\n", info_.weight_bytes / 1e6,
              stats.cache_bytes / 1e6, stats.activation_bytes / 1e6);
        info_ = model_.info();
        if (info_.host_weight_bytes) {
            result["memory"]["host_weights"] = info_.host_weight_bytes;
            result["experts"] = {
                {"on_device", info_.num_device_experts}, {"hits", info_.expert_hits}, {"misses", info_.expert_misses}};
            print("in host memory: weights %.1f MB; experts on the device: %u of %u, %llu hits, %llu misses\n",
                  info_.host_weight_bytes / 1e6, info_.num_device_experts, info_.num_layers * info_.num_experts,
                  static_cast<unsigned long long>(info_.expert_hits),
                  static_cast<unsigned long long>(info_.expert_misses));
        }
        if (options_.profile) {
            result["profile"]["decode"] = profile(1);
            result["profile"]["prefill"] = profile(std::min<size_t>(options_.prompts.back(), 256));
        }
        if (options_.as_json) std::printf("%s\n", result.dump(2).c_str());
    }

  private:
    template <typename... Values>
    void print(const char* format, Values... values) const {
        if (!options_.as_json) std::printf(format, values...);
        std::fflush(stdout);
    }

    // A context that holds `depth` tokens, all processed.
    void fill(size_t depth) {
        context_.reset();
        if (depth == 0) return;
        context_.append(gptoss::span(tokens_.data(), depth));
        context_.process();
    }

    json prefill(size_t depth, size_t n) {
        std::vector<double> rates;
        for (size_t run = 0; run <= options_.repeat; run++) {
            fill(depth);
            std::vector<uint32_t> prompt(tokens_.begin() + depth, tokens_.begin() + depth + n);
            // another first token each time, so that no prefix is reused
            prompt[0] = static_cast<uint32_t>((prompt[0] + run + 1) % info_.vocabulary_size);
            context_.append(prompt);
            const auto start = Clock::now();
            context_.process();
            if (run > 0) rates.push_back(n / seconds_since(start));  // the first run builds pipelines
        }
        const Spread s = spread(rates);
        print("pp%-6zu %8zu %10.2f %10.2f %10.2f   first token after %.3f s\n", n, depth, s.median, s.least, s.most,
              n / s.median);
        return {{"tokens", n}, {"depth", depth}, {"tokens_per_second", s.median}, {"least", s.least}, {"most", s.most}};
    }

    json decode(size_t depth, size_t n) {
        std::vector<double> rates;
        for (size_t run = 0; run <= options_.repeat; run++) {
            fill(depth);
            if (depth == 0) context_.append(tokens_[0]);
            context_.process();
            gptoss::GenerateOptions generate;
            generate.sampler = &sampler_;
            generate.max_tokens = n;
            generate.stop_tokens.emplace();  // none
            const auto start = Clock::now();
            const size_t made = context_.generate([](uint32_t) {}, generate).num_tokens;
            if (run > 0) rates.push_back(made / seconds_since(start));
        }
        const gptoss_context_stats stats = context_.stats();
        const Spread s = spread(rates);
        const double bytes = double(info_.bytes_per_token) + double(stats.cache_bytes_per_token);
        // a copy moves each byte twice; a token only reads
        const double share = bytes * s.median / bandwidth_;
        print("tg%-6zu %8zu %10.2f %10.2f %10.2f   %.3f GB a token, %.0f%% of the copy bandwidth\n", n, depth, s.median,
              s.least, s.most, bytes / 1e9, share * 100);
        return {{"tokens", n},    {"depth", depth},           {"tokens_per_second", s.median}, {"least", s.least},
                {"most", s.most}, {"bytes_per_token", bytes}, {"share_of_bandwidth", share}};
    }

    // An answer of n tokens without prompt lookup and with it, in turn.
    json lookup(size_t n) {
        struct Way {
            const char* name;
            gptoss_prompt_lookup lookup;
            std::vector<double> rates, passes;
        };
        std::vector<Way> ways{{"off", gptoss_prompt_lookup_off, {}, {}},
                              {"on", gptoss_prompt_lookup_default, {}, {}},
                              {"always", gptoss_prompt_lookup_always, {}, {}}};
        const size_t depth = std::max<size_t>(1, options_.depths.back());
        for (size_t run = 0; run <= options_.repeat; run++)
            for (Way& way : ways) {
                fill(0);
                context_.append(gptoss::span(tokens_.data(), depth));
                context_.process();
                gptoss::GenerateOptions generate;
                generate.sampler = &sampler_;
                generate.max_tokens = n;
                generate.stop_tokens.emplace();  // none
                generate.prompt_lookup = way.lookup;
                const uint64_t steps = context_.stats().decode_steps;
                const auto start = Clock::now();
                const double made = static_cast<double>(context_.generate([](uint32_t) {}, generate).num_tokens);
                const double seconds = seconds_since(start);
                if (run == 0) continue;
                way.rates.push_back(made / seconds);
                way.passes.push_back(made / static_cast<double>(context_.stats().decode_steps - steps));
            }
        json result{{"tokens", n}, {"depth", depth}};
        for (const Way& way : ways) {
            std::vector<double> ratios;
            for (size_t i = 0; i < way.rates.size(); i++) ratios.push_back(way.rates[i] / ways[0].rates[i]);
            const Spread s = spread(way.rates), ratio = spread(ratios), passes = spread(way.passes);
            print("lookup%-4zu %6zu %10.2f %10.2f %10.2f   %s: %.2f times as fast, %.2f tokens a forward pass\n", n,
                  depth, s.median, s.least, s.most, way.name, ratio.median, passes.median);
            result[way.name] = {{"tokens_per_second", s.median},
                                {"least", s.least},
                                {"most", s.most},
                                {"ratio", ratio.median},
                                {"tokens_per_pass", passes.median}};
        }
        return result;
    }

    // Decode by a grammar of JSON beside decode without one, in turn, both without prompt lookup: how often that is
    // right depends on what is said, which is not the same.
    json by_grammar(const char* name, const char* schema, size_t depth, size_t n) {
        gptoss::Sampler sampler;
        sampler.temperature(static_cast<float>(options_.temperature)).top_p(static_cast<float>(options_.top_p));
        sampler.grammar(gptoss::Grammar::json_schema(model_.tokenizer(), schema));
        std::vector<double> with, ratios, work_ratios;
        size_t forced = 0;
        for (size_t run = 0; run <= options_.repeat; run++) {
            double rates[2], work[2];
            for (const bool grammar : {false, true}) {
                fill(depth);
                context_.append(tokens_[0]);
                context_.process();
                gptoss::GenerateOptions generate;
                generate.sampler = grammar ? &sampler : &sampler_;
                generate.max_tokens = n;
                generate.stop_tokens.emplace();  // none
                generate.prompt_lookup = gptoss_prompt_lookup_off;
                const std::clock_t work_before = std::clock();
                const auto start = Clock::now();
                const gptoss::Generated made = context_.generate([](uint32_t) {}, generate);
                rates[grammar] = made.num_tokens / seconds_since(start);
                work[grammar] = static_cast<double>(std::clock() - work_before) / made.num_tokens;
                if (grammar) forced = made.usage.forced_tokens;
            }
            if (run == 0) continue;
            with.push_back(rates[1]);
            ratios.push_back(rates[1] / rates[0]);
            work_ratios.push_back(work[1] / work[0]);
        }
        const Spread s = spread(with), ratio = spread(ratios), work_ratio = spread(work_ratios);
        print(
            "%s%-4zu %*zu %10.2f %10.2f %10.2f   %.3f (%.3f to %.3f) of the speed without a grammar, %.3f of the "
            "processor time; %zu forced\n",
            name, n, static_cast<int>(12 - std::strlen(name)), depth, s.median, s.least, s.most, ratio.median,
            ratio.least, ratio.most, work_ratio.median, forced);
        return {{"grammar", name},       {"tokens", n},
                {"depth", depth},        {"tokens_per_second", s.median},
                {"ratio", ratio.median}, {"processor_time_ratio", work_ratio.median},
                {"forced", forced}};
    }

    // Decode with the adapter beside decode without one, in turn, both without prompt lookup.
    json by_adapter(size_t depth, size_t n) {
        const gptoss::Adapter adapter(model_, options_.adapter);
        std::vector<double> with, ratios, work_ratios;
        for (size_t run = 0; run <= options_.repeat; run++) {
            double rates[2], work[2];
            for (const bool adapted : {false, true}) {
                if (adapted) context_.adapter(adapter);
                fill(depth);
                context_.append(tokens_[0]);
                context_.process();
                gptoss::GenerateOptions generate;
                generate.sampler = &sampler_;
                generate.max_tokens = n;
                generate.stop_tokens.emplace();  // none
                generate.prompt_lookup = gptoss_prompt_lookup_off;
                const std::clock_t work_before = std::clock();
                const auto start = Clock::now();
                const size_t made = context_.generate([](uint32_t) {}, generate).num_tokens;
                rates[adapted] = made / seconds_since(start);
                work[adapted] = static_cast<double>(std::clock() - work_before) / made;
                context_.no_adapter();
            }
            if (run == 0) continue;
            with.push_back(rates[1]);
            ratios.push_back(rates[1] / rates[0]);
            work_ratios.push_back(work[1] / work[0]);
        }
        const Spread s = spread(with), ratio = spread(ratios), work_ratio = spread(work_ratios);
        print(
            "lora%-4zu %8zu %10.2f %10.2f %10.2f   %.3f (%.3f to %.3f) of the speed without the adapter, %.3f of the "
            "processor time\n",
            n, depth, s.median, s.least, s.most, ratio.median, ratio.least, ratio.most, work_ratio.median);
        return {{"tokens", n},
                {"depth", depth},
                {"tokens_per_second", s.median},
                {"ratio", ratio.median},
                {"processor_time_ratio", work_ratio.median}};
    }

    // n contexts with room for so many tokens more than their prompts, of the last depth.
    std::vector<gptoss::Context> contexts(size_t n, size_t room) const {
        std::vector<gptoss::Context> made;
        for (size_t i = 0; i < n; i++) made.emplace_back(model_, several_depth() + room, options_.batch);
        return made;
    }
    size_t several_depth() const { return std::max<size_t>(1, options_.depths.back()); }

    // Each has its prompt again, of which only the last token is not processed; no two prompts are the same.
    void fill(std::vector<gptoss::Context>& contexts) const {
        const size_t before = several_depth() - 1;
        for (size_t i = 0; i < contexts.size(); i++) {
            contexts[i].reset();
            contexts[i].append(gptoss::span(tokens_.data(), before));
            if (before > 0) contexts[i].process();
            contexts[i].append(static_cast<uint32_t>((tokens_[before] + 31 * i + 1) % info_.vocabulary_size));
        }
    }

    // So many contexts that generate at once, each of the numbers in turn; tokens a second of all of them together.
    json together() {
        const std::vector<size_t>& counts = options_.sequences;
        const size_t length = options_.generates.back();
        std::vector<gptoss::Context> contexts = this->contexts(*std::max_element(counts.begin(), counts.end()), length);
        std::vector<std::vector<double>> rates(counts.size()), work_rates(counts.size());
        for (size_t run = 0; run <= options_.repeat; run++)
            for (size_t c = 0; c < counts.size(); c++) {
                fill(contexts);
                std::vector<gptoss::Generation> all(counts[c]);
                for (size_t i = 0; i < all.size(); i++) {
                    all[i].context = &contexts[i];
                    all[i].options.sampler = &sampler_;
                    all[i].options.max_tokens = length;
                    all[i].options.stop_tokens.emplace();  // none
                }
                const std::clock_t work_before = std::clock();
                const auto start = Clock::now();
                gptoss::generate_together(all);
                const double seconds = seconds_since(start);
                const double work = static_cast<double>(std::clock() - work_before) / CLOCKS_PER_SEC;
                size_t made = 0;
                for (const gptoss::Generation& g : all) {
                    if (g.error) std::rethrow_exception(g.error);
                    made += g.result.num_tokens;
                }
                if (run == 0) continue;
                rates[c].push_back(made / seconds);
                work_rates[c].push_back(made / work);
            }
        json result;
        for (size_t c = 0; c < counts.size(); c++) {
            const Spread s = spread(rates[c]), work = spread(work_rates[c]);
            print("x%-7zu %8zu %10.2f %10.2f %10.2f   of all together; %.2f a second of processor time\n", counts[c],
                  several_depth(), s.median, s.least, s.most, work.median);
            result.push_back({{"sequences", counts[c]},
                              {"depth", several_depth()},
                              {"tokens_per_second", s.median},
                              {"least", s.least},
                              {"most", s.most},
                              {"tokens_per_processor_second", work.median}});
        }
        return result;
    }

    // n threads that sample, each from its own context, in calls of so many tokens; tokens a second of all of them, and
    // how many times those of the same calls one context after the other.
    json threads(size_t n, size_t call) {
        const size_t length = options_.generates.back();
        std::vector<gptoss::Context> contexts = this->contexts(n, length);
        const auto sample = [&](gptoss::Context& context) {
            std::vector<uint32_t> out(call);
            for (size_t made = 0; made < length;)
                made += context.sample(gptoss::span(out.data(), std::min(call, length - made)),
                                       static_cast<float>(options_.temperature));
        };
        const auto rate = [&](const auto& run) {
            fill(contexts);
            const auto start = Clock::now();
            run();
            return n * length / seconds_since(start);
        };
        std::vector<double> rates, ratios;
        for (size_t run = 0; run <= options_.repeat; run++) {
            const double alone = rate([&] {
                for (gptoss::Context& context : contexts) sample(context);
            });
            const double together = rate([&] {
                std::vector<std::future<void>> all;
                for (gptoss::Context& context : contexts)
                    all.push_back(std::async(std::launch::async, sample, std::ref(context)));
                for (std::future<void>& one : all) one.get();
            });
            if (run == 0) continue;
            rates.push_back(together);
            ratios.push_back(together / alone);
        }
        const Spread s = spread(rates), r = spread(ratios);
        print(
            "t%-7zu %8zu %10.2f %10.2f %10.2f   in calls of %zu; %.2f times (%.2f to %.2f) those of one after the "
            "other\n",
            n, several_depth(), s.median, s.least, s.most, call, r.median, r.least, r.most);
        return {
            {"threads", n},        {"tokens_a_call", call}, {"depth", several_depth()}, {"tokens_per_second", s.median},
            {"least", s.least},    {"most", s.most},        {"ratio", r.median},        {"least_ratio", r.least},
            {"most_ratio", r.most}};
    }

    json profile(size_t n) {
        const size_t depth = options_.depths.back();
        n = std::min(n, tokens_.size() - depth);
        fill(depth);
        context_.append(gptoss::span(tokens_.data() + depth, n));
        const std::vector<gptoss_kernel_time> times = context_.profile(n, &sampler_);
        json result = json::array();
        print("\n%zu token%s at a time after %zu, by kernel:\n", n, n == 1 ? "" : "s", depth);
        for (const gptoss_kernel_time& t : times) {
            print("  %-16s %12.1f us in %u dispatches\n", t.name, t.microseconds, t.dispatches);
            result.push_back({{"kernel", t.name}, {"microseconds", t.microseconds}, {"dispatches", t.dispatches}});
        }
        return result;
    }

  public:
    static gptoss_model_options model_options(const Options& options) {
        gptoss_model_options load{};
        load.device = options.device.empty() ? nullptr : options.device.c_str();
        load.weights = options.weights == "q8"     ? gptoss_weight_type_q8
                       : options.weights == "bf16" ? gptoss_weight_type_bf16
                                                   : gptoss_weight_type_default;
        load.kv = options.kv == "f32" ? gptoss_kv_type_f32 : gptoss_kv_type_f16;
        load.tier = options.tier;
        load.memory_budget = static_cast<uint64_t>(options.memory * 1e9);
        return load;
    }

  private:
    // Tokens that the context must hold for all tests.
    static size_t longest(const Options& options) {
        const auto most = [](const std::vector<size_t>& sizes) {
            return *std::max_element(sizes.begin(), sizes.end());
        };
        const size_t lookup = options.lookups.empty() ? 0 : most(options.lookups);
        return most(options.depths) + std::max({most(options.prompts), most(options.generates), lookup}) + 8;
    }

    const Options& options_;
    const Clock::time_point start_ = Clock::now();
    gptoss::Model model_;
    const double load_seconds_;
    gptoss_model_info info_;
    const gptoss_device_info device_;
    const double bandwidth_;
    gptoss::Context context_;
    gptoss::Sampler sampler_;
    const std::vector<uint32_t> tokens_;
};

void run_experts(const Options& options) {
    constexpr size_t kMostTokens = 4096;
    std::ifstream file(options.experts, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const gptoss::Model model(options.model, Bench::model_options(options));
    const json result{{"model", options.model}, {"experts", bench_experts(model, text, kMostTokens, options.as_json)}};
    if (options.as_json) std::printf("%s\n", result.dump(2).c_str());
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app("Measures prefill and decode of a gpt-oss model.");
    app.add_option("MODEL", options.model, "checkpoint directory or .gguf file")->required();
    app.add_option("--prompt", options.prompts, "prompt lengths, tokens")->delimiter(',')->capture_default_str();
    app.add_option("--generate", options.generates, "lengths of answers, tokens")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--depth", options.depths, "tokens already in the context")->delimiter(',')->capture_default_str();
    app.add_option("--sequences", options.sequences, "numbers of contexts that generate at once")->delimiter(',');
    app.add_option("--prompt-lookup", options.lookups, "lengths of answers, tokens, without prompt lookup and with it")
        ->delimiter(',');
    app.add_option("--threads", options.threads, "numbers of threads that sample, each from its own context")
        ->delimiter(',');
    app.add_option("--repeat", options.repeat, "timed runs of each test")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--batch", options.batch, "most tokens of a prompt processed at once; 0 for the default");
    app.add_option("--device", options.device, "index or part of the name");
    app.add_option("--weights", options.weights, "dense weights")->check(CLI::IsMember({"default", "bf16", "q8"}));
    app.add_option("--memory", options.memory,
                   "GB of device memory for the model and its context (default: all that is free)");
    const std::map<std::string, gptoss_kernel_tier> tiers = {{"default", gptoss_kernel_tier_default},
                                                             {"exact", gptoss_kernel_tier_exact},
                                                             {"coopmat", gptoss_kernel_tier_coopmat},
                                                             {"integer", gptoss_kernel_tier_integer}};
    app.add_option("--tier", options.tier, "kernels: default, exact, coopmat or integer")
        ->transform(CLI::CheckedTransformer(tiers, CLI::ignore_case).description(""));
    app.add_option("--kv", options.kv, "key-value cache")->check(CLI::IsMember({"f16", "f32"}));
    app.add_option("--temperature", options.temperature, "of the sampler; 0 is greedy");
    app.add_option("--top-p", options.top_p, "of the sampler");
    app.add_flag("--grammar", options.grammar, "decode by a grammar of JSON too, beside decode without one");
    app.add_option("--adapter", options.adapter, "a LoRA adapter: decode with it too, beside decode without one");
    app.add_option("--experts", options.experts,
                   "a file of text: measure nothing but how evenly it uses the experts, and what a budget would hit")
        ->check(CLI::ExistingFile);
    app.add_flag("--json", options.as_json, "print JSON");
    app.add_flag("--profile", options.profile, "time every kernel");
    CLI11_PARSE(app, argc, argv);
    try {
        if (options.experts.empty())
            Bench(options).run();
        else
            run_experts(options);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "bench: %s\n", e.what());
        return 1;
    }
    return 0;
}
