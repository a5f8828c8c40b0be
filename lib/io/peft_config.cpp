// PEFT's adapter_config.json.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cmath>
#include <new>

#include "base/fail.h"
#include "io/adapter.h"
#include "io/json.h"

namespace gptoss::io {

namespace {

using Json = nlohmann::ordered_json;  // the first pattern that matches counts
using Node = JsonNode<Json>;

// Whether a member says anything but no: null, false, "none" and what is empty do not.
bool is_set(const Node& config, const char* name) {
    const auto at = config.json().find(name);
    if (at == config.json().end() || at->is_null()) return false;
    if (at->is_boolean()) return at->get<bool>();
    return !(at->is_structured() && at->empty()) && !is_text(*at, "none") && !is_text(*at, "");
}

void refuse_if_set(const Node& config, const char* name, const char* what) {
    if (is_set(config, name)) config.get(name).refuse(std::string("is set: ") + what);
}

// Whether `(.*\.)?(pattern)$` matches at the start of the name, as PEFT has it.
bool matches(const std::string& pattern, const std::string& name, const std::string& source) {
    struct Free {
        void operator()(pcre2_code* code) const { pcre2_code_free(code); }
        void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
        void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
    };
    const std::string whole = "(.*\\.)?(" + pattern + ")$";
    int error = 0;
    size_t offset = 0;
    const std::unique_ptr<pcre2_code, Free> code(
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(whole.data()), whole.size(),
                      PCRE2_ANCHORED | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr));
    if (!code && error == PCRE2_ERROR_HEAP_FAILED) throw std::bad_alloc();
    if (!code) fail(source, "pattern " + quote(pattern) + " is no regular expression");
    const std::unique_ptr<pcre2_match_data, Free> data(pcre2_match_data_create_from_pattern(code.get(), nullptr));
    const std::unique_ptr<pcre2_match_context, Free> limits(pcre2_match_context_create(nullptr));
    if (!data || !limits) throw std::bad_alloc();
    pcre2_set_match_limit(limits.get(), 10'000);  // names are short
    pcre2_set_heap_limit(limits.get(), 1024);
    const int count =
        pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0, data.get(), limits.get());
    if (count == PCRE2_ERROR_NOMEMORY) throw std::bad_alloc();
    if (count < 0 && count != PCRE2_ERROR_NOMATCH)
        fail(source, "pattern " + quote(pattern) + " takes too many steps on " + quote(name));
    return count >= 0;
}

}  // namespace

PeftConfig::PeftConfig(const char* json, size_t size, const std::string& source) : source_(source) {
    const auto refuse = [&](const std::string& what) { fail(source, printable(what)); };
    const JsonRoot<Json> root({json, size}, {.max_depth = 16, .unique_keys = true}, refuse);
    if (!(*root).is_object()) refuse("is not a JSON object");
    const JsonOrigin origin = json_origin(source);
    const Node config(*root, origin);
    if (const Node type = config.get("peft_type"); type.text() != "LORA") type.expected("\"LORA\"");
    refuse_if_set(config, "use_dora", "this library does not apply DoRA; merge the adapter into its model");
    refuse_if_set(config, "modules_to_save", "whole modules cannot be replaced; merge the adapter into its model");
    refuse_if_set(config, "bias", "biases are not applied; merge the adapter into its model");
    refuse_if_set(config, "lora_bias", "biases are not applied; merge the adapter into its model");
    refuse_if_set(config, "fan_in_fan_out", "no matrix of gpt-oss is stored that way");
    refuse_if_set(config, "layer_replication", "layers are not replicated");
    refuse_if_set(config, "trainable_token_indices", "embeddings of tokens cannot be replaced");
    refuse_if_set(config, "alora_invocation_tokens", "an activated LoRA applies to a part of the tokens only");
    refuse_if_set(config, "use_qalora", "QALoRA is not applied");
    refuse_if_set(config, "use_bdlora", "BD-LoRA is not applied");
    refuse_if_set(config, "arrow_config", "Arrow routing is not applied");
    if (const auto init = config.find("init_lora_weights"); init && init->json().is_string())
        for (const char* changes : {"pissa", "olora", "corda", "lora_ga"})
            if (init->text().starts_with(changes))
                init->expected("an adapter of the model as it is: this one's training changed the model's own weights");
    rank_ = config.get("r").integer();
    alpha_ = config.get("lora_alpha").number();
    rslora_ = config.boolean({"use_rslora"}, false);
    const auto patterns = [&](const char* name, std::vector<Pattern>& out) {
        if (const auto given = config.find(name)) {
            given->require(given->json().is_object(), "an object");
            for (const auto& [pattern, value] : given->json().items())
                out.push_back({pattern, Node(value, origin).number()});
        }
    };
    patterns("rank_pattern", ranks_);
    patterns("alpha_pattern", alphas_);
}

float PeftConfig::value_of(const std::vector<Pattern>& patterns, const std::string& name, float otherwise) const {
    for (const Pattern& pattern : patterns)
        if (matches(pattern.text, name, source_)) return pattern.value;
    return otherwise;
}

uint32_t PeftConfig::rank_of(const std::string& name) const {
    const float rank = value_of(ranks_, name, static_cast<float>(rank_));
    if (!(rank >= 1 && rank <= max_lora_rank && rank == std::floor(rank)))
        fail(source_, "the rank of " + quote(name) + " is " + std::to_string(rank) + ": expected 1 to " +
                          std::to_string(max_lora_rank));
    return static_cast<uint32_t>(rank);
}

float PeftConfig::scale_of(const std::string& name) const {
    const double rank = rank_of(name), alpha = value_of(alphas_, name, alpha_);
    return static_cast<float>(alpha / (rslora_ ? std::sqrt(rank) : rank));
}

}  // namespace gptoss::io
