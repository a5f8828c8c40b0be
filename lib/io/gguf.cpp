#include "io/gguf.h"

#include <algorithm>
#include <limits>

#include "base/fail.h"
#include "base/text.h"

namespace gptoss::io {

namespace {

// Tensor types, by their number in the file; only those that gpt-oss uses are more than a name.
struct Format {
    uint32_t id;
    const char* name;
    std::optional<DType> type;
};
constexpr Format formats[] = {
    {0, "F32", DType::F32},
    {1, "F16", DType::F16},
    {8, "Q8_0", DType::Q8_0},
    {30, "BF16", DType::BF16},
    {39, "MXFP4", DType::MXFP4},
    {2, "Q4_0", {}},
    {3, "Q4_1", {}},
    {6, "Q5_0", {}},
    {7, "Q5_1", {}},
    {9, "Q8_1", {}},
    {10, "Q2_K", {}},
    {11, "Q3_K", {}},
    {12, "Q4_K", {}},
    {13, "Q5_K", {}},
    {14, "Q6_K", {}},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {28, "F64", {}},
    {29, "IQ1_M", {}},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
};

// Metadata of gpt-oss's architecture.
std::string key(const char* name) { return "gpt-oss." + std::string(name); }

class Metadata {
  public:
    explicit Metadata(const Gguf& gguf) : gguf_(gguf) {}

    uint32_t integer(const char* name) const {
        const std::optional<uint32_t> value = gguf_.integer(key(name));
        if (!value) gguf_.refuse(key(name), "is missing");
        return *value;
    }
    uint32_t integer(const char* name, uint32_t otherwise) const {
        return gguf_.integer(key(name)).value_or(otherwise);
    }
    float number(const char* name, float otherwise) const { return gguf_.number(key(name)).value_or(otherwise); }
    // Refuses a file that asks for a thing that the kernels do not do.
    void require(const char* name, uint32_t expected) const {
        if (const uint32_t value = integer(name, expected); value != expected)
            gguf_.refuse(key(name), "is " + std::to_string(value) + ": expected " + std::to_string(expected));
    }
    void require_number(const char* name, float expected) const {
        if (const float value = number(name, expected); value != expected)
            gguf_.refuse(key(name), "is " + number_text(value) + ": expected " + number_text(expected));
    }

  private:
    const Gguf& gguf_;
};

void read_rope(const Gguf& gguf, const Metadata& metadata, Config& c) {
    c.rope_theta = metadata.number("rope.freq_base", c.rope_theta);
    // llama.cpp multiplies cosines and sines by it, beside what YaRN derives from its factor.
    c.rope_attention_factor = metadata.number("rope.scaling.attn_factor", c.rope_attention_factor);
    c.rope_attention_factor = metadata.number("rope.scaling.yarn_attn_factor", c.rope_attention_factor);
    metadata.require_number("rope.scaling.yarn_log_multiplier", 0);
    const std::string scaling = gguf.text(key("rope.scaling.type")).value_or("");
    if (scaling == "yarn") {
        c.rope_factor = metadata.number("rope.scaling.factor", c.rope_factor);
        c.rope_original_context = metadata.integer("rope.scaling.original_context_length", c.rope_original_context);
        c.rope_beta_fast = metadata.number("rope.scaling.yarn_beta_fast", c.rope_beta_fast);
        c.rope_beta_slow = metadata.number("rope.scaling.yarn_beta_slow", c.rope_beta_slow);
        metadata.require_number("rope.scaling.yarn_ext_factor", 1);
    } else if (scaling.empty() || scaling == "none") {
        c.rope_factor = 1;
    } else {
        gguf.refuse(key("rope.scaling.type"), "is " + quote(scaling) + ": expected 'yarn' or 'none'");
    }
}

// Which layers have the window: every other one, unless the file says so itself, layer by layer.
std::vector<bool> read_sliding(const Gguf& gguf, uint32_t n_layers) {
    const std::string pattern = key("attention.sliding_window_pattern");
    std::vector<bool> sliding(n_layers);
    for (uint32_t i = 0; i < n_layers; i++) sliding[i] = i % 2 == 0;
    const Gguf::Value* given = gguf.find(pattern);
    if (!given) return sliding;
    if (std::holds_alternative<int64_t>(*given)) {  // every n-th layer sees all
        const uint32_t n = *gguf.integer(pattern);
        for (uint32_t i = 0; i < n_layers; i++) sliding[i] = n > 0 && i % n + 1 < n;
        return sliding;
    }
    const std::vector<int64_t>& layers = *gguf.integers(pattern);
    if (layers.size() != n_layers)
        gguf.refuse(pattern, "has " + std::to_string(layers.size()) + " elements: expected one for each of " +
                                 std::to_string(n_layers) + " layers");
    std::copy(layers.begin(), layers.end(), sliding.begin());
    return sliding;
}

}  // namespace

bool is_model_key(std::string_view key) {
    return key.starts_with("gpt-oss.") || key.starts_with("split.") || key == "general.architecture" ||
           key == "general.type" || key == "tokenizer.ggml.eos_token_id";
}

void check_gguf_architecture(const Gguf& gguf) {
    const std::string architecture = gguf.text("general.architecture").value_or("");
    if (architecture == "gptoss")
        fail(gguf.source,
             "is in Ollama's own format (general.architecture is 'gptoss'), which this library does not "
             "read: give a GGUF file of llama.cpp's, such as ggml-org/gpt-oss-20b-GGUF");
    if (architecture != "gpt-oss")
        fail(gguf.source, "general.architecture is " + quote(architecture) + ": expected 'gpt-oss'");
    const std::string type = gguf.text("general.type").value_or("model");
    if (type == "adapter")
        fail(gguf.source,
             "is an adapter (general.type is 'adapter'), not a model: give the model that it was made for");
    if (type != "model") fail(gguf.source, "general.type is " + quote(type) + ": expected 'model'");
}

std::vector<TensorInfo> gguf_tensors(const Gguf& gguf) {
    std::vector<TensorInfo> tensors;
    for (const Gguf::Tensor& from : gguf.tensors) {
        TensorInfo t;
        t.name = from.name;
        t.shape = from.shape;
        t.offset = from.offset;
        t.type_name = "type " + std::to_string(from.type);
        for (const Format& f : formats) {
            if (f.id != from.type) continue;
            t.type = f.type;
            t.type_name = f.name;
        }
        const std::string what = "tensor " + quote(t.name);
        const bool in_blocks = t.type == DType::Q8_0 || t.type == DType::MXFP4;
        if (in_blocks && (t.shape.empty() || t.shape.back() % 32 != 0))
            fail(gguf.source, what + ": rows of " + t.type_name + " must be a multiple of 32 long");
        const std::optional<uint64_t> n = element_count(t.shape);
        if (!n || *n > std::numeric_limits<uint64_t>::max() / 8)
            fail(gguf.source, what + ": its shape overflows 64 bits");
        t.bytes = t.type ? dtype_bytes(*t.type, *n) : 0;
        if (t.bytes > gguf.file_size - std::min(t.offset, gguf.file_size))
            fail(gguf.source, "truncated: " + what + " has " + std::to_string(t.bytes) + " bytes from offset " +
                                  std::to_string(t.offset) + " on, the file only " + std::to_string(gguf.file_size));
        tensors.push_back(std::move(t));
    }
    check_disjoint(tensors, gguf.source);
    return tensors;
}

Config parse_gguf_config(const Gguf& gguf, const TensorInfo* embedding) {
    if (!embedding || embedding->shape.size() != 2)
        fail(gguf.source, "tensor 'token_embd.weight' is missing or no matrix");
    const Metadata metadata(gguf);
    Config c;
    c.n_layers = metadata.integer("block_count");
    c.hidden = metadata.integer("embedding_length");
    c.intermediate = metadata.integer(gguf.find(key("expert_feed_forward_length")) ? "expert_feed_forward_length"
                                                                                   : "feed_forward_length");
    c.n_heads = metadata.integer("attention.head_count");
    c.n_kv_heads = metadata.integer("attention.head_count_kv");
    c.head_dim = metadata.integer("attention.key_length", c.head_dim);
    c.n_experts = metadata.integer("expert_count");
    c.n_active_experts = metadata.integer("expert_used_count");
    c.window = metadata.integer("attention.sliding_window");
    c.max_context = metadata.integer("context_length");
    c.norm_eps = metadata.number("attention.layer_norm_rms_epsilon", c.norm_eps);
    c.vocab = static_cast<uint32_t>(std::min<uint64_t>(embedding->shape[0], UINT32_MAX));
    read_rope(gguf, metadata, c);
    if (const std::optional<uint32_t> eos = gguf.integer("tokenizer.ggml.eos_token_id")) c.eos_tokens = {*eos};
    if (c.n_layers > max_layers) check_config(c, gguf.source);  // before memory is taken for the layers
    c.sliding = read_sliding(gguf, c.n_layers);
    check_config(c, gguf.source);
    metadata.require("attention.value_length", c.head_dim);
    metadata.require("rope.dimension_count", c.head_dim);
    return c;
}

}  // namespace gptoss::io
