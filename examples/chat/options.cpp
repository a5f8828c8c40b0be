#include "options.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <gptoss.hpp>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "../version.h"
#include "system.h"

namespace chat {

namespace {

int list_devices() {
    const char* const types[] = {"other", "integrated GPU", "discrete GPU", "virtual GPU", "CPU"};
    const std::vector<gptoss_device_info> devices = gptoss::devices();
    for (size_t i = 0; i < devices.size(); ++i) {
        const gptoss_device_info& info = devices[i];
        std::printf("%zu  %s\n   %s, %s, %.1f of %.1f GB free, %s\n", i, info.name, types[info.type], info.driver,
                    static_cast<double>(info.memory_available) / 1e9, static_cast<double>(info.memory_size) / 1e9,
                    !info.supported                           ? "can't run gpt-oss"
                    : info.tier == gptoss_kernel_tier_coopmat ? "tier coopmat"
                                                              : "tier exact");
    }
    if (devices.empty()) std::fputs("There is no Vulkan device.\n", stderr);
    return devices.empty();
}

// An option whose mistakes are answered with what it may be.
template <typename Set>
CLI::Option* add_number(CLI::App& app, const std::string& name, const Set& set, const std::string& help) {
    const auto parse = [name, set](const std::string& text) {
        try {
            set(text);
        } catch (const std::invalid_argument& e) {
            throw CLI::ValidationError(name.substr(name.find("--")), e.what());
        }
    };
    return app.add_option_function<std::string>(name, parse, help)->type_name("NUMBER");
}

}  // namespace

std::string default_model() {
    namespace fs = std::filesystem;
    std::error_code error;
    const fs::path program = programs::program_file().parent_path();
    const fs::path candidates[] = {program / "gptoss-nano", program / "../../nano/gptoss-nano",
                                   program / "../share/gptoss/gptoss-nano",
                                   fs::path(GPTOSS_SOURCE_DIR) / "nano/gptoss-nano"};
    for (const fs::path& path : candidates)
        if (fs::exists(path / "config.json", error)) return fs::weakly_canonical(path).string();
    throw std::runtime_error("gptoss-nano is not beside this program; name a model: chat MODEL");
}

void Options::take_model_defaults() {
    std::ifstream file(std::filesystem::path(model) / "generation_config.json");
    const nlohmann::json json = nlohmann::json::parse(file, nullptr, false);
    if (!json.is_object()) return;
    const auto take = [&]<typename T>(const char* key, std::optional<T>& value) {
        const auto entry = json.find(key);
        if (!value && entry != json.end() && entry->is_number()) value = entry->get<T>();
    };
    const bool sampled = json.value("/do_sample"_json_pointer, nlohmann::json(true)) != false;
    if (!sampled && !settings.temperature) settings.temperature = 0;
    take("temperature", settings.temperature);
    take("top_p", settings.top_p);
    take("top_k", settings.top_k);
    std::optional<uint64_t> max_length;
    take("max_length", max_length);
    if (context_length == 0) context_length = max_length.value_or(0);
}

std::optional<int> parse_options(int argc, char** argv, Options& options) {
    CLI::App app(
        "A chat with a gpt-oss model on any Vulkan device.\n"
        "Without a terminal, standard input is the one question, and the answer alone goes to standard output.");
    app.name("chat");
    app.set_version_flag("--version", version_line);
    bool list = false;
    const std::map<std::string, gptoss_weight_type> weights = {
        {"file", gptoss_weight_type_default}, {"bf16", gptoss_weight_type_bf16}, {"q8", gptoss_weight_type_q8}};
    const std::map<std::string, gptoss_kernel_tier> tiers = {{"default", gptoss_kernel_tier_default},
                                                             {"exact", gptoss_kernel_tier_exact},
                                                             {"coopmat", gptoss_kernel_tier_coopmat},
                                                             {"integer", gptoss_kernel_tier_integer}};

    app.add_option(
        "MODEL", options.model,
        "Directory of a Hugging Face checkpoint, a .gguf file, or hf:OWNER/NAME on the Hugging Face hub (default: "
        "gptoss-nano, which comes with the source)");
    app.add_flag("-y,--yes", options.yes, "Download a model of the hub without asking");
    app.add_option("-p,--prompt", options.prompt,
                   "Answer this and leave. What a pipe or a file on standard input holds follows it; - is that alone");
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
    CLI::Option* schema = app.add_option("--schema", options.schema,
                                         "JSON file of a JSON schema: the answers are JSON that is valid by it");
    app.add_option("--grammar", options.grammar,
                   "File of a grammar in llama.cpp's GBNF: the answers are texts of its rule root")
        ->excludes(schema);
    app.add_option("-d,--device", options.device, "Index or a part of the name of the device (default: the best)");
    app.add_flag("--list-devices", list, "List the Vulkan devices and leave");
    app.add_option("--weights", options.weights, "Dense weights in memory: file (default, as they come), bf16 or q8")
        ->transform(CLI::CheckedTransformer(weights, CLI::ignore_case).description(""));
    app.add_option("--tier", options.tier,
                   "Kernels: default (the fastest that the device has), exact, coopmat, or integer (for prompts, on a "
                   "device with integer dot products)")
        ->transform(CLI::CheckedTransformer(tiers, CLI::ignore_case).description(""));
    add_number(
        app, "--memory",
        [&](const std::string& text) {
            options.memory = parse_number(text, {0.001, 1e6, false});
        },
        "GB of device memory to take at most; what finds no room stays in host memory (default: all that is free)");
    add_number(
        app, "-c,--context",
        [&](const std::string& text) {
            options.context_length = parse_whole_number(text, {1, 1e9, true});
        },
        "Tokens a conversation may hold (default: the model's)");
    for (const Setting& setting : all_settings()) {
        const std::string name = std::string("--") + setting.name;
        const bool short_name = name == "--max-tokens";
        const auto set = [&options, &setting](const std::string& text) { setting.set(options.settings, text); };
        CLI::Option* const option = add_number(app, short_name ? "-n," + name : name, set, setting.help);
        if (!short_name) option->group("Sampling");
    }
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
