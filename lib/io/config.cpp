#include "io/config.h"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <tuple>

#include "base/fail.h"
#include "base/json_node.h"
#include "base/text.h"
#include "io/json.h"

namespace gptoss::io {

using nlohmann::json;

namespace {

using Node = JsonNode<json>;

std::string value_text(float value) { return number_text(value); }
std::string value_text(std::unsigned_integral auto value) { return std::to_string(value); }

void check_architecture(const Node& root) {
    if (const auto type = root.find({"model_type"})) {
        if (!is_text(type->json(), "gpt_oss")) type->expected("\"gpt_oss\"");
    } else if (const auto architectures = root.find({"architectures"})) {
        const std::vector<Node> names = architectures->elements();
        if (names.size() != 1 || !is_text(names[0].json(), "GptOssForCausalLM"))
            (names.empty() ? *architectures : names[0]).expected("\"GptOssForCausalLM\"");
    } else if (!root.has("num_experts")) {  // OpenAI's layout names no architecture
        root.refuse("neither model_type nor OpenAI's num_experts is there: not a gpt-oss model");
    }
    if (const auto act = root.find({"hidden_act"}))
        if (!is_text(act->json(), "silu")) act->expected("\"silu\"");
}

// Experts are in MXFP4 or the checkpoint is refused: by its config where that says so, else by its tensors.
void check_quantization(const Node& root) {
    const auto quantization = root.find({"quantization_config"});
    const auto method = quantization ? quantization->find({"quant_method"}) : std::nullopt;
    const bool mlx = root.has("quantization") || (quantization && !method && quantization->has("bits"));
    if (mlx) root.refuse("this is an MLX checkpoint: " + std::string(expected_checkpoint));
    if (quantization && (!method || !is_text(method->json(), "mxfp4")))
        root.refuse("the weights are quantized by " + quote(method ? method->text() : "an unnamed method") + ": " +
                    expected_checkpoint);
}

// YaRN's own factor of cosines and sines.
double yarn_attention(double factor, double scale = 1) { return factor > 1 ? 0.1 * scale * std::log(factor) + 1 : 1; }

// One object that describes a rotary embedding, as transformers writes it.
void parse_rope_object(const Node& rope, Config& c) {
    static const char* const known[] = {"rope_type",
                                        "type",
                                        "rope_theta",
                                        "factor",
                                        "beta_fast",
                                        "beta_slow",
                                        "original_max_position_embeddings",
                                        "truncate",
                                        "attention_factor",
                                        "mscale",
                                        "mscale_all_dim",
                                        "partial_rotary_factor"};
    for (const auto& [name, value] : rope.members())
        if (!value.json().is_null() && std::find(std::begin(known), std::end(known), name) == std::end(known))
            value.refuse("is a field that this library does not know");
    if (rope.number({"partial_rotary_factor"}, 1) != 1) rope.get({"partial_rotary_factor"}).expected("1");
    c.rope_theta = rope.number({"rope_theta"}, c.rope_theta);
    const std::string type = rope.text({"rope_type", "type"}, "default");
    if (type == "default") {
        c.rope_factor = 1;
        return;
    }
    if (type != "yarn") rope.refuse("rope_type is " + quote(type) + ": expected 'yarn' or 'default'");
    c.rope_factor = rope.get({"factor"}).number();
    c.rope_beta_fast = rope.number({"beta_fast"}, c.rope_beta_fast);
    c.rope_beta_slow = rope.number({"beta_slow"}, c.rope_beta_slow);
    c.rope_original_context = rope.integer({"original_max_position_embeddings"}, c.rope_original_context);
    c.rope_truncate = rope.boolean({"truncate"}, true);  // as transformers reads it; gpt-oss says false
    const double factor = c.rope_factor, derived = yarn_attention(factor);
    if (const auto given = rope.find({"attention_factor"})) {
        c.rope_attention_factor = static_cast<float>(given->number() / derived);
    } else if (rope.has("mscale") || rope.has("mscale_all_dim")) {
        const double mscale = rope.get({"mscale"}).number(), all_dim = rope.get({"mscale_all_dim"}).number();
        c.rope_attention_factor =
            static_cast<float>(yarn_attention(factor, mscale) / yarn_attention(factor, all_dim) / derived);
    }
}

bool same_rope(const Config& a, const Config& b) {
    const auto fields = [](const Config& c) {
        return std::tie(c.rope_theta, c.rope_factor, c.rope_beta_fast, c.rope_beta_slow, c.rope_original_context,
                        c.rope_truncate, c.rope_attention_factor);
    };
    return fields(a) == fields(b);
}

// The rotary embedding of OpenAI's layout is flat; transformers has it in rope_scaling, since version 5 with the base
// in rope_parameters, which may hold one object for each type of layer.
void parse_rope(const Node& root, Config& c) {
    c.rope_theta = root.number({"rope_theta"}, c.rope_theta);
    c.rope_original_context = root.integer({"initial_context_length"}, c.rope_original_context);
    if (root.has("rope_scaling_factor")) {
        c.rope_factor = root.get({"rope_scaling_factor"}).number();
        c.rope_beta_slow = root.number({"rope_ntk_alpha"}, c.rope_beta_slow);
        c.rope_beta_fast = root.number({"rope_ntk_beta"}, c.rope_beta_fast);
        return;
    }
    const auto rope = root.find({"rope_parameters", "rope_scaling"});
    if (!rope) {
        if (root.json().contains("rope_parameters") || root.json().contains("rope_scaling"))
            c.rope_factor = 1;  // null: plain
        return;
    }
    const char* const layer_types[] = {"full_attention", "sliding_attention"};
    if (!rope->has(layer_types[0]) && !rope->has(layer_types[1])) return parse_rope_object(*rope, c);
    const Config before = c;
    for (const char* type : layer_types) {
        Config of_type = before;
        parse_rope_object(rope->get({type}), of_type);
        if (type != layer_types[0] && !same_rope(c, of_type))
            rope->refuse("differs between full_attention and sliding_attention: expected the same for both");
        c = of_type;
    }
    if (rope->members().size() > std::size(layer_types))
        rope->expected("nothing beside full_attention and sliding_attention");
}

std::vector<bool> parse_sliding(const Node& root, uint32_t n_layers) {
    std::vector<bool> sliding(n_layers);
    const auto given = root.find({"layer_types"});
    const std::vector<Node> types = given ? given->elements() : std::vector<Node>{};
    if (given && types.size() != n_layers)
        given->refuse("has " + std::to_string(types.size()) +
                      " elements: expected one for each of num_hidden_layers, " + std::to_string(n_layers));
    for (uint32_t i = 0; i < n_layers; i++) {
        sliding[i] = given ? is_text(types[i].json(), "sliding_attention") : i % 2 == 0;
        if (given && !sliding[i] && !is_text(types[i].json(), "full_attention"))
            types[i].expected("\"sliding_attention\" or \"full_attention\"");
    }
    return sliding;
}

std::vector<uint32_t> read_eos_tokens(const Node& root) {
    std::vector<uint32_t> tokens;
    if (const auto eos = root.find({"eos_token_id"})) {
        if (!eos->json().is_array()) return {eos->integer()};
        for (const Node& token : eos->elements()) tokens.push_back(token.integer());
    }
    return tokens;
}

}  // namespace

const char* const expected_checkpoint =
    "this library runs experts in MXFP4 beside weights in F32, F16, BF16 or Q8_0; give openai/gpt-oss-20b or "
    "ggml-org/gpt-oss-20b-GGUF instead";

Config parse_config(const char* text, size_t size, const std::string& source) {
    const JsonRoot<json> document = parse_json(text, size, source);
    const JsonOrigin origin = json_origin(source);
    const Node root(*document, origin);
    check_architecture(root);
    check_quantization(root);

    Config c;
    c.n_layers = root.get({"num_hidden_layers"}).integer();
    c.hidden = root.get({"hidden_size"}).integer();
    c.intermediate = root.get({"intermediate_size"}).integer();
    c.n_heads = root.get({"num_attention_heads"}).integer();
    c.n_kv_heads = root.get({"num_key_value_heads"}).integer();
    c.head_dim = root.integer({"head_dim"}, c.head_dim);
    c.n_experts = root.get({"num_local_experts", "num_experts"}).integer();
    c.n_active_experts = root.get({"num_experts_per_tok", "experts_per_token"}).integer();
    c.vocab = root.get({"vocab_size"}).integer();
    c.window = root.get({"sliding_window"}).integer();
    c.norm_eps = root.number({"rms_norm_eps"}, c.norm_eps);
    c.swiglu_limit = root.number({"swiglu_limit"}, c.swiglu_limit);
    c.tied_embeddings = root.boolean({"tie_word_embeddings"}, c.tied_embeddings);
    parse_rope(root, c);
    c.eos_tokens = read_eos_tokens(root);
    // The original layout leaves the longest context to be what YaRN stretches the trained one to.
    const double stretched = double{c.rope_factor} * c.rope_original_context;
    c.max_context = root.integer({"max_position_embeddings"},
                                 static_cast<uint32_t>(stretched >= 1 && stretched < 4e9 ? stretched : 0));
    // Before memory is taken for the layers.
    if (c.n_layers > max_layers) check_config(c, source);
    c.sliding = parse_sliding(root, c.n_layers);
    check_config(c, source);
    return c;
}

std::vector<uint32_t> parse_eos_tokens(const char* text, size_t size, const std::string& source) {
    const JsonRoot<json> document = parse_json(text, size, source);
    const JsonOrigin origin = json_origin(source);
    return read_eos_tokens(Node(*document, origin));
}

void check_config(const Config& c, const std::string& source) {
    auto require = [&](bool ok, const char* name, auto value, const std::string& expected) {
        if (!ok) fail(source, std::string(name) + " is " + value_text(value) + ": expected " + expected);
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
    require(c.rope_attention_factor > 0 && c.rope_attention_factor <= 1e3f, "the rope's attention factor",
            c.rope_attention_factor, "a number above 0, up to 1000");
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
