#include "options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "../version.h"
#include "model_path.h"

namespace server {

namespace {

void take_model_defaults(Options& options) {
    std::ifstream file(std::filesystem::path(options.model) / "generation_config.json");
    const nlohmann::json json = nlohmann::json::parse(file, nullptr, false);
    if (!json.is_object()) return;
    const auto number = [&]<typename T>(const char* key, T otherwise) {
        const auto entry = json.find(key);
        return entry != json.end() && entry->is_number() ? entry->get<T>() : otherwise;
    };
    const bool sampled = json.value("/do_sample"_json_pointer, nlohmann::json(true)) != false;
    options.temperature = sampled ? number("temperature", options.temperature) : 0;
    options.top_p = number("top_p", options.top_p);
    options.top_k = number("top_k", options.top_k);
    if (options.context_length == 0) options.context_length = number("max_length", uint64_t{0});
}

}  // namespace

std::optional<int> parse_options(int argc, char** argv, Options& options) {
    CLI::App app("Serves a gpt-oss model to clients of OpenAI's API, and a page to chat with it at /.");
    app.name("gptoss-server");
    app.set_version_flag("--version", version_line);
    std::string key_file;
    const std::map<std::string, gptoss_weight_type> weights = {
        {"file", gptoss_weight_type_default}, {"bf16", gptoss_weight_type_bf16}, {"q8", gptoss_weight_type_q8}};
    const std::map<std::string, gptoss_kernel_tier> tiers = {{"default", gptoss_kernel_tier_default},
                                                             {"exact", gptoss_kernel_tier_exact},
                                                             {"coopmat", gptoss_kernel_tier_coopmat},
                                                             {"integer", gptoss_kernel_tier_integer}};

    app.add_option("MODEL", options.model,
                   "Directory of a Hugging Face checkpoint, a .gguf file, or hf:OWNER/NAME on the Hugging Face hub")
        ->required();
    app.add_flag("-y,--yes", options.yes, "Download a model of the hub without asking");
    app.add_option("--name", options.name, "Name of the model in answers (default: that of its directory or file)");
    app.add_flag("--strict-model", options.strict_model, "Refuse requests for a model of another name");

    const char* const network = "Network";
    app.add_option("--host", options.host, "Address to listen on (default: 127.0.0.1, this machine alone)")
        ->group(network);
    app.add_option("--port", options.port, "Port to listen on; 0 takes a free one (default: 8080)")
        ->check(CLI::Range(0, 65535))
        ->group(network);
    app.add_option("--api-key", options.api_key, "Require this key (default: GPTOSS_API_KEY, or none)")
        ->envname("GPTOSS_API_KEY")
        ->group(network);
    app.add_option("--api-key-file", key_file, "Read the key from this file")->check(CLI::ExistingFile)->group(network);
    app.add_option("--cors", options.cors_origin, "Let pages of this origin use the server; * for any (default: none)")
        ->group(network);
    app.add_option("--max-body", options.max_body, "Bytes a request may have (default: 16000000)")->group(network);

    const char* const load = "Load";
    app.add_option("--parallel", options.parallel, "Requests that are computed at once (default: 8)")
        ->check(CLI::Range(1, 1024))
        ->group(load);
    app.add_option("--queue", options.queue, "Requests that may wait; more get status 429 (default: 64)")
        ->check(CLI::Range(0, 4096))
        ->group(load);
    app.add_option("--timeout", options.timeout, "Seconds a request may take (default: 600)")
        ->check(CLI::PositiveNumber)
        ->group(load);
    app.add_option("--grace", options.grace, "Seconds that running requests get to finish at SIGTERM (default: 30)")
        ->check(CLI::NonNegativeNumber)
        ->group(load);

    const char* const device = "Device";
    app.add_option("-d,--device", options.device, "Index or a part of the name of the device (default: the best)")
        ->group(device);
    app.add_option("--weights", options.weights, "Dense weights in memory: file (default, as they come), bf16 or q8")
        ->transform(CLI::CheckedTransformer(weights, CLI::ignore_case).description(""))
        ->group(device);
    app.add_option("--tier", options.tier,
                   "Kernels: default (the fastest that the device has), exact, coopmat, integer")
        ->transform(CLI::CheckedTransformer(tiers, CLI::ignore_case).description(""))
        ->group(device);
    app.add_option("--memory", options.memory, "GB of device memory to take at most (default: all that is free)")
        ->check(CLI::PositiveNumber)
        ->group(device);
    app.add_option("-c,--context", options.context_length,
                   "Tokens a request and its answer may have (default: the model's)")
        ->group(device);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e);
    }
    if (!key_file.empty()) std::getline(std::ifstream(key_file), options.api_key);
    if (!key_file.empty() && options.api_key.empty()) {
        std::fprintf(stderr, "gptoss-server: %s: its first line is empty, and a key was expected\n", key_file.c_str());
        return 1;
    }
    options.model = hub::model_path(options.model, options.yes);
    take_model_defaults(options);
    if (options.name.empty())
        options.name = (std::filesystem::path(options.model) / "").lexically_normal().parent_path().filename().string();
    return std::nullopt;
}

}  // namespace server
