#include "io/config.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <limits>

#include "base/fail.h"
#include "base/json.h"
#include "io/json.h"

namespace gptoss::io {

using nlohmann::json;

namespace {

constexpr uint32_t max_layers = 1024;

std::string number_text(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", x);
    return text;
}

// The fields of one JSON object. A field that is null counts as missing; the two layouts call some by other names.
class Fields {
  public:
    using Names = std::initializer_list<const char*>;

    Fields(const json& object, const std::string& source) : object_(object), source_(source) {}

    const json* find(Names names) const {
        for (const char* name : names)
            if (auto at = object_.find(name); at != object_.end() && !at->is_null()) return &*at;
        return nullptr;
    }

    uint32_t integer(Names names) const {
        const json* value = find(names);
        if (!value) fail(source_, std::string(*names.begin()) + " is missing");
        return integer(names, *value);
    }
    uint32_t integer(Names names, uint32_t otherwise) const {
        const json* value = find(names);
        return value ? integer(names, *value) : otherwise;
    }
    float number(Names names, float otherwise) const {
        const json* value = find(names);
        if (!value) return otherwise;
        double x = value->is_number() ? value->get<double>() : NAN;
        if (!(std::abs(x) <= std::numeric_limits<float>::max())) refuse(names, *value, "a float32");
        return static_cast<float>(x);
    }
    bool boolean(Names names, bool otherwise) const {
        const json* value = find(names);
        if (value && !value->is_boolean()) refuse(names, *value, "true or false");
        return value ? value->get<bool>() : otherwise;
    }
    std::string text(Names names, const char* otherwise) const {
        const json* value = find(names);
        if (value && !value->is_string()) refuse(names, *value, "a string");
        return value ? value->get<std::string>() : otherwise;
    }
    [[noreturn]] void refuse(Names names, const json& value, const std::string& expected) const {
        fail(source_, std::string(*names.begin()) + " is " +
                          printable(value.dump(-1, ' ', false, json::error_handler_t::replace)) + ": expected " +
                          expected);
    }

  private:
    uint32_t integer(Names names, const json& value) const {
        double x = value.is_number() ? value.get<double>() : NAN;
        if (!(x >= 0 && x <= UINT32_MAX && x == std::floor(x))) refuse(names, value, "a whole number below 2^32");
        return static_cast<uint32_t>(x);
    }

    const json& object_;
    const std::string& source_;
};

void check_architecture(const Fields& fields, const std::string& source) {
    if (const json* type = fields.find({"model_type"})) {
        if (!is_text(*type, "gpt_oss")) fields.refuse({"model_type"}, *type, "\"gpt_oss\"");
    } else if (const json* architectures = fields.find({"architectures"})) {
        if (!architectures->is_array() || architectures->size() != 1 ||
            !is_text((*architectures)[0], "GptOssForCausalLM"))
            fields.refuse({"architectures"}, *architectures, "[\"GptOssForCausalLM\"]");
    } else if (!fields.find({"num_experts"})) {  // OpenAI's layout names no architecture
        fail(source, "neither model_type nor OpenAI's num_experts is there: not a gpt-oss model");
    }
}

// The rotary embedding of OpenAI's layout is flat; transformers has it in rope_scaling, since version 5 with the base
// in rope_parameters.
void parse_rope(const json& root, const Fields& fields, const std::string& source, Config& c) {
    c.rope_theta = fields.number({"rope_theta"}, c.rope_theta);
    c.rope_original_context = fields.integer({"initial_context_length"}, c.rope_original_context);
    if (fields.find({"rope_scaling_factor"})) {
        c.rope_factor = fields.number({"rope_scaling_factor"}, c.rope_factor);
        c.rope_beta_slow = fields.number({"rope_ntk_alpha"}, c.rope_beta_slow);
        c.rope_beta_fast = fields.number({"rope_ntk_beta"}, c.rope_beta_fast);
        return;
    }
    const json* scaling = fields.find({"rope_parameters", "rope_scaling"});
    if (!scaling) {
        if (root.contains("rope_parameters") || root.contains("rope_scaling")) c.rope_factor = 1;  // null: plain
        return;
    }
    if (!scaling->is_object()) fields.refuse({"rope_scaling"}, *scaling, "an object");
    const std::string where = source + ": rope_scaling";
    const Fields rope(*scaling, where);
    c.rope_theta = rope.number({"rope_theta"}, c.rope_theta);
    const std::string type = rope.text({"rope_type", "type"}, "default");
    if (type == "default") {
        c.rope_factor = 1;
        return;
    }
    if (type != "yarn") fail(where, "rope_type is " + quote(type) + ": expected 'yarn' or 'default'");
    if (!rope.find({"factor"})) fail(where, "factor is missing");
    c.rope_factor = rope.number({"factor"}, 1);
    c.rope_beta_fast = rope.number({"beta_fast"}, c.rope_beta_fast);
    c.rope_beta_slow = rope.number({"beta_slow"}, c.rope_beta_slow);
    c.rope_original_context = rope.integer({"original_max_position_embeddings"}, c.rope_original_context);
    c.rope_truncate = rope.boolean({"truncate"}, true);  // as transformers reads it; gpt-oss says false
    // The library derives how YaRN scales attention from the factor; a model that says otherwise would run wrong.
    const float derived = 0.1f * std::log(c.rope_factor) + 1;
    if (const json* given = rope.find({"attention_factor"}))
        if (!(std::abs(rope.number({"attention_factor"}, 0) - derived) < 1e-3f))
            rope.refuse({"attention_factor"}, *given, number_text(derived));
    if (rope.find({"mscale", "mscale_all_dim"})) fail(where, "mscale is not supported");
}

std::vector<bool> parse_sliding(const Fields& fields, uint32_t n_layers) {
    std::vector<bool> sliding(n_layers);
    const json* types = fields.find({"layer_types"});
    if (types && (!types->is_array() || types->size() != n_layers))
        fields.refuse({"layer_types"}, *types, "a list of num_hidden_layers entries");
    for (uint32_t i = 0; i < n_layers; i++) {
        sliding[i] = types ? is_text((*types)[i], "sliding_attention") : i % 2 == 0;
        if (types && !sliding[i] && !is_text((*types)[i], "full_attention"))
            fields.refuse({"layer_types"}, (*types)[i], "\"sliding_attention\" or \"full_attention\"");
    }
    return sliding;
}

}  // namespace

Config parse_config(const char* text, size_t size, const std::string& source) {
    const JsonRoot<json> owner = parse_json(text, size, source);
    const json& root = *owner;
    const Fields fields(root, source);
    check_architecture(fields, source);
    if (fields.boolean({"tie_word_embeddings"}, false))
        fail(source, "tie_word_embeddings is true: only models with an output matrix of their own are supported");

    Config c;
    c.n_layers = fields.integer({"num_hidden_layers"});
    c.hidden = fields.integer({"hidden_size"});
    c.intermediate = fields.integer({"intermediate_size"});
    c.n_heads = fields.integer({"num_attention_heads"});
    c.n_kv_heads = fields.integer({"num_key_value_heads"});
    c.head_dim = fields.integer({"head_dim"}, c.head_dim);
    c.n_experts = fields.integer({"num_local_experts", "num_experts"});
    c.n_active_experts = fields.integer({"num_experts_per_tok", "experts_per_token"});
    c.vocab = fields.integer({"vocab_size"});
    c.window = fields.integer({"sliding_window"});
    c.norm_eps = fields.number({"rms_norm_eps"}, c.norm_eps);
    c.swiglu_limit = fields.number({"swiglu_limit"}, c.swiglu_limit);
    parse_rope(root, fields, source, c);
    if (const json* eos = fields.find({"eos_token_id"})) {
        const json& first = eos->is_array() && !eos->empty() ? (*eos)[0] : *eos;
        const json one = {{"eos_token_id", first}};
        c.eos_token = Fields(one, source).integer({"eos_token_id"});
    }
    // The original layout leaves the longest context to be what YaRN stretches the trained one to.
    const double stretched = double{c.rope_factor} * c.rope_original_context;
    c.max_context = fields.integer({"max_position_embeddings"},
                                   static_cast<uint32_t>(stretched >= 1 && stretched < 4e9 ? stretched : 0));
    // Before memory is taken for the layers.
    if (c.n_layers > max_layers) check_config(c, source);
    c.sliding = parse_sliding(fields, c.n_layers);
    check_config(c, source);
    return c;
}

void check_config(const Config& c, const std::string& source) {
    auto require = [&](bool ok, const char* name, double value, const std::string& expected) {
        if (!ok) fail(source, std::string(name) + " is " + number_text(value) + ": expected " + expected);
    };
    // The upper bounds are far beyond any real model. They keep every product of sizes within 64 bits, and kernels
    // within what every device has: 65535 workgroups for the tiles of 64 rows of the vocabulary, 1024 counters for
    // experts; loops over the heads of a group and the experts of a token are unrolled.
    auto size = [&](const char* name, uint32_t value, uint32_t most, uint32_t multiple = 1) {
        std::string expected = multiple > 1 ? "a multiple of " + std::to_string(multiple) + " from " : "";
        require(value >= 1 && value <= most && value % multiple == 0, name, value,
                expected + std::to_string(multiple) + " to " + std::to_string(most));
    };
    size("the number of layers", c.n_layers, max_layers);
    size("hidden_size", c.hidden, 1 << 16, 32);
    size("intermediate_size", c.intermediate, 1 << 16, 32);
    size("the number of attention heads", c.n_heads, 1 << 10);
    size("the number of key-value heads", c.n_kv_heads, c.n_heads);
    require(c.n_heads % c.n_kv_heads == 0, "the number of key-value heads", c.n_kv_heads,
            "a divisor of the number of attention heads, " + std::to_string(c.n_heads));
    require(c.n_heads / c.n_kv_heads <= 64, "the number of attention heads", c.n_heads,
            "at most 64 for each of " + std::to_string(c.n_kv_heads) + " key-value heads");
    require(c.head_dim == 64, "head_dim", c.head_dim, "64");
    size("the number of experts", c.n_experts, 1 << 10);
    size("the number of experts per token", c.n_active_experts, std::min(c.n_experts, 32u));
    size("vocab_size", c.vocab, 65535 * 64);
    size("sliding_window", c.window, 1 << 24);
    size("the original context of the rope", c.rope_original_context, 1 << 24);
    require(c.sliding.size() == c.n_layers, "the number of layer types", c.sliding.size(), std::to_string(c.n_layers));

    // Comparisons that are false for NaN.
    require(c.rope_factor >= 1 && c.rope_factor <= 1e6f, "the rope factor", c.rope_factor, "a number from 1 to 1e6");
    size("the longest context", c.max_context, 1 << 24);  // may follow from the factor
    require(c.norm_eps > 0 && c.norm_eps < 1, "rms_norm_eps", c.norm_eps, "a number between 0 and 1");
    require(c.swiglu_limit > 0 && c.swiglu_limit <= 1e6f, "swiglu_limit", c.swiglu_limit,
            "a number above 0, up to 1e6");
    require(c.swiglu_alpha > 0 && c.swiglu_alpha <= 1e6f, "swiglu_alpha", c.swiglu_alpha,
            "a number above 0, up to 1e6");
    require(c.rope_theta > 1 && c.rope_theta <= 1e12f, "rope_theta", c.rope_theta, "a number above 1, up to 1e12");
    require(c.rope_beta_slow > 0 && c.rope_beta_slow < c.rope_beta_fast && c.rope_beta_fast <= 1e6f, "rope beta_slow",
            c.rope_beta_slow, "a number above 0 and below beta_fast, " + number_text(c.rope_beta_fast));
}

}  // namespace gptoss::io
