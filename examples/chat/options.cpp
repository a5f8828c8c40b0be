#include "options.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "handles.h"

namespace chat {

namespace {

int list_devices() {
    const char* const types[] = {"other", "integrated GPU", "discrete GPU", "virtual GPU", "CPU"};
    uint32_t count;
    check(gptoss_device_count(&count));
    for (uint32_t i = 0; i < count; ++i) {
        gptoss_device_info info = {.struct_size = sizeof info};
        check(gptoss_device_get_info(i, &info));
        std::printf("%u  %s\n   %s, %s, %.1f of %.1f GB free, %s\n", i, info.name, types[info.type], info.driver,
                    static_cast<double>(info.memory_available) / 1e9, static_cast<double>(info.memory_size) / 1e9,
                    !info.supported                           ? "can't run gpt-oss"
                    : info.tier == gptoss_kernel_tier_coopmat ? "tier coopmat"
                                                              : "tier exact");
    }
    if (count == 0) std::fputs("There is no Vulkan device.\n", stderr);
    return count == 0;
}

}  // namespace

std::string default_model() {
    namespace fs = std::filesystem;
    std::error_code error;
    const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
    const fs::path candidates[] = {program / "../../nano/gptoss-nano", program / "../share/gptoss/gptoss-nano",
                                   fs::path(GPTOSS_SOURCE_DIR) / "nano/gptoss-nano"};
    for (const fs::path& path : candidates)
        if (fs::exists(path / "config.json", error)) return fs::weakly_canonical(path).string();
    throw std::runtime_error("gptoss-nano is not beside this program; name a model: chat MODEL");
}

void Options::take_model_defaults() {
    std::ifstream file(std::filesystem::path(model) / "generation_config.json");
    const nlohmann::json json = nlohmann::json::parse(file, nullptr, false);
    if (!json.is_object()) return;
    auto number = [&]<typename T>(const char* key, T otherwise) {
        const auto entry = json.find(key);
        return entry != json.end() && entry->is_number() ? entry->get<T>() : otherwise;
    };
    const bool sampled = json.value("/do_sample"_json_pointer, nlohmann::json(true)) != false;
    if (!temperature) temperature = sampled ? number("temperature", 1.0f) : 0.0f;
    if (!top_p) top_p = number("top_p", 1.0f);
    if (!top_k) top_k = number("top_k", 0u);
    if (context_length == 0) context_length = number("max_length", uint64_t{0});
}

std::optional<int> parse_options(int argc, char** argv, Options& options) {
    CLI::App app(
        "A chat with a gpt-oss model on any Vulkan device.\n"
        "Without a terminal, standard input is the one question, and the answer alone goes to standard output.");
    app.name("chat");
    app.set_version_flag("--version", [] {
        const uint32_t version = gptoss_version();
        return "libgptoss " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
               std::to_string(version % 100);
    });
    bool list = false;
    const std::map<std::string, gptoss_weight_type> weights = {
        {"file", gptoss_weight_type_default}, {"bf16", gptoss_weight_type_bf16}, {"q8", gptoss_weight_type_q8}};
    const std::map<std::string, gptoss_kernel_tier> tiers = {{"default", gptoss_kernel_tier_default},
                                                             {"exact", gptoss_kernel_tier_exact},
                                                             {"coopmat", gptoss_kernel_tier_coopmat},
                                                             {"integer", gptoss_kernel_tier_integer}};

    app.add_option(
        "MODEL", options.model,
        "Directory of a Hugging Face checkpoint, or a .gguf file (default: gptoss-nano, which comes with the "
        "source)");
    app.add_option("-p,--prompt", options.prompt, "Answer this and leave; - reads it from standard input");
    app.add_option("-r,--reasoning", options.reasoning, "How long to think: low, medium (default) or high")
        ->check(CLI::IsMember({"low", "medium", "high"}));
    const CLI::Option* hide =
        app.add_flag("--hide-reasoning,!--show-reasoning", options.hide_reasoning,
                     "Show the answers alone (default with --reasoning low), or the reasoning too");
    app.add_option("-s,--system", options.instructions, "Instructions for the model");
    app.add_option(
        "-t,--tools", options.tools,
        "JSON file of functions the model may call: an array of {name, description, parameters, command}; the "
        "command gets the call's JSON arguments on its standard input and prints the result");
    app.add_option("-d,--device", options.device, "Index or a part of the name of the device (default: the best)");
    app.add_flag("--list-devices", list, "List the Vulkan devices and leave");
    app.add_option("--weights", options.weights, "Dense weights in memory: file (default, as they come), bf16 or q8")
        ->transform(CLI::CheckedTransformer(weights, CLI::ignore_case).description(""));
    app.add_option("--tier", options.tier,
                   "Kernels: default (the fastest that the device has), exact, coopmat, or integer (for prompts, on a "
                   "device with integer dot products)")
        ->transform(CLI::CheckedTransformer(tiers, CLI::ignore_case).description(""));
    app.add_option("--memory", options.memory,
                   "GB of device memory to take at most; what finds no room stays in host memory (default: all that is "
                   "free)")
        ->check(CLI::PositiveNumber);
    app.add_option("-c,--context", options.context_length, "Tokens a conversation may hold (default: the model's)");
    app.add_option("-n,--max-tokens", options.max_tokens,
                   "Tokens an answer may take (default: what the context holds)");

    const char* const sampling = "Sampling";
    app.add_option("--temperature", options.temperature, "0 takes the most likely token (default: 1, or the model's)")
        ->check(CLI::NonNegativeNumber)
        ->group(sampling);
    app.add_option("--top-p", options.top_p, "Sample among the tokens that make up this probability (default: 1)")
        ->check(CLI::Range(0.0, 1.0))
        ->group(sampling);
    app.add_option("--top-k", options.top_k, "Sample among this many tokens (default: all)")->group(sampling);
    app.add_option("--min-p", options.min_p,
                   "Leave out tokens less likely than this part of the likeliest (default: 0)")
        ->check(CLI::Range(0.0, 1.0))
        ->group(sampling);
    app.add_option("--seed", options.seed, "The same seed gives the same answers (default: another one each time)")
        ->group(sampling);
    app.add_option("--presence-penalty", options.presence_penalty,
                   "For tokens that the answer has, -2 to 2 (default: 0)")
        ->check(CLI::Range(-2.0, 2.0))
        ->group(sampling);
    app.add_option("--frequency-penalty", options.frequency_penalty, "The same for each time it has them (default: 0)")
        ->check(CLI::Range(-2.0, 2.0))
        ->group(sampling);
    app.add_option("--repetition-penalty", options.repetition_penalty,
                   "Divides the logits of tokens of the conversation (default: 1)")
        ->check(CLI::PositiveNumber)
        ->group(sampling);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e);
    }
    if (list) return list_devices();
    if (!*hide) options.hide_reasoning = options.reasoning == "low";
    return std::nullopt;
}

}  // namespace chat
