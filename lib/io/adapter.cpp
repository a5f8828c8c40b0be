#include "io/adapter.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <tuple>

#include "base/fail.h"
#include "base/path.h"
#include "io/gguf.h"
#include "io/locate.h"
#include "io/safetensors.h"

namespace gptoss::io {

namespace {

constexpr size_t max_config = 1 << 20;

// Where the tensors of one pair belong, by their names.
struct Place {
    uint32_t layer = 0;
    LoraTarget target = LoraTarget::Q;
    uint32_t expert = 0;
    bool all_experts = false;
    uint32_t first_row = 0, row_step = 1;
    std::string module{};  // as patterns of a config name it
};

// The two halves of a pair.
struct Pair {
    Place place;
    const TensorInfo* a = nullptr;
    const TensorInfo* b = nullptr;
};

std::string shape_of(const TensorInfo& t) {
    std::string out;
    for (const uint64_t n : t.shape) out += (out.empty() ? "" : ", ") + std::to_string(n);
    return "(" + out + ")";
}

[[noreturn]] void refuse(const TensorInfo& t, const std::string& source, const std::string& what) {
    fail(source, "tensor " + quote(t.name) + " " + what);
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    return true;
}
bool take_suffix(std::string_view& text, std::string_view suffix) {
    if (!text.ends_with(suffix)) return false;
    text.remove_suffix(suffix.size());
    return true;
}
std::optional<uint32_t> take_number(std::string_view& text) {
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return value;
}

// The rows and columns of the matrix that a pair is added to.
std::pair<uint32_t, uint32_t> size_of(LoraTarget target, const Config& c) {
    const uint32_t q_rows = c.n_heads * c.head_dim, kv_rows = c.n_kv_heads * c.head_dim;
    switch (target) {
        case LoraTarget::Q:
            return {q_rows, c.hidden};
        case LoraTarget::K:
        case LoraTarget::V:
            return {kv_rows, c.hidden};
        case LoraTarget::Out:
            return {c.hidden, q_rows};
        case LoraTarget::GateUp:
            return {2 * c.intermediate, c.hidden};
        case LoraTarget::Down:
            return {c.hidden, c.intermediate};
    }
    return {};
}

Matrix matrix_of(const TensorInfo& t, uint64_t rows, uint64_t cols) {
    return {t.name, *t.type, rows, cols, t.file, t.offset};
}

// Checks the halves of a pair against the matrix, and each other. scale_of(rank) gives its scale.
template <typename ScaleOf>
LoraTensors checked(const Pair& pair, const Config& c, const std::string& source, const ScaleOf& scale_of) {
    const Place& place = pair.place;
    if (!pair.a || !pair.b)
        refuse(pair.a ? *pair.a : *pair.b, source,
               "has no other half: its " + std::string(pair.a ? "B" : "A") + " is missing");
    const TensorInfo &a = *pair.a, &b = *pair.b;
    for (const TensorInfo* t : {&a, &b})
        if (!t->type || *t->type == DType::U8 || *t->type == DType::MXFP4)
            refuse(*t, source, "is " + t->type_name + ": expected F32, F16 or BF16");
    if (place.layer >= c.n_layers)
        refuse(a, source,
               "is of layer " + std::to_string(place.layer) + ": the model has " + std::to_string(c.n_layers));
    if (place.expert >= c.n_experts)
        refuse(a, source,
               "is of expert " + std::to_string(place.expert) + ": the model has " + std::to_string(c.n_experts));
    const auto [matrix_rows, cols] = size_of(place.target, c);
    LoraTensors out;
    out.layer = place.layer;
    out.target = place.target;
    out.first_expert = place.expert;
    out.n_experts = place.all_experts ? c.n_experts : 1;
    out.rows = matrix_rows / place.row_step;
    out.first_row = place.first_row;
    out.row_step = place.row_step;
    const uint64_t n = out.n_experts;
    const bool stacked = a.shape.size() == 3 && b.shape.size() == 3;  // (E, rank, cols), (E, rows, rank)
    out.fused = place.all_experts && !stacked;
    std::string expected;
    uint64_t rank = 0;
    bool fits = false;
    if (stacked) {
        rank = a.shape[1];
        expected = "(" + std::to_string(n) + ", rank, " + std::to_string(cols) + ") and (" + std::to_string(n) + ", " +
                   std::to_string(out.rows) + ", rank)";
        fits = place.all_experts && a.shape[0] == n && b.shape[0] == n && a.shape[2] == cols &&
               b.shape[1] == out.rows && b.shape[2] == rank;
    } else {
        const std::string ranks = out.fused ? std::to_string(n) + " * rank" : "rank";
        expected =
            "(" + ranks + ", " + std::to_string(cols) + ") and (" + std::to_string(out.rows) + ", " + ranks + ")";
        fits = a.shape.size() == 2 && b.shape.size() == 2 && a.shape[1] == cols && b.shape[0] == out.rows &&
               a.shape[0] == b.shape[1] && a.shape[0] % n == 0;
        if (fits) rank = a.shape[0] / n;
    }
    if (!fits)
        refuse(a, source,
               "of shape " + shape_of(a) + ", and its B of shape " + shape_of(b) +
                   ", are not of this model: expected " + expected);
    if (rank == 0 || rank > max_lora_rank)
        refuse(a, source, "has rank " + std::to_string(rank) + ": expected 1 to " + std::to_string(max_lora_rank));
    for (const TensorInfo* t : {&a, &b})
        if (*t->type == DType::Q8_0 && t->shape.back() % 32 != 0)
            refuse(*t, source, "is Q8_0 with rows of " + std::to_string(t->shape.back()));
    out.rank = static_cast<uint32_t>(rank);
    out.scale = scale_of(out.rank);
    if (!(std::abs(out.scale) <= 3.4028235e38f)) refuse(a, source, "has a scale that is no finite number");
    out.a = matrix_of(a, n * rank, cols);
    out.b = out.fused ? matrix_of(b, out.rows, rank * n) : matrix_of(b, n * out.rows, rank);
    return out;
}

// In the order of the layers. Two pairs of one matrix are refused: one of them is not meant.
std::vector<LoraTensors> sorted(std::vector<LoraTensors> pairs, const std::string& source) {
    if (pairs.empty()) fail(source, "has no low-rank tensors");
    using Key = std::tuple<uint32_t, LoraTarget, uint32_t, uint32_t>;
    std::map<Key, const LoraTensors*> seen;
    for (const LoraTensors& p : pairs)
        for (uint32_t e = p.first_expert; e < p.first_expert + p.n_experts; e++) {
            const auto [at, fresh] = seen.try_emplace({p.layer, p.target, e, p.first_row}, &p);
            const auto whole = seen.find({p.layer, p.target, e, p.first_row ^ 1});
            const bool clashes = whole != seen.end() && (p.row_step == 1 || whole->second->row_step == 1);
            const LoraTensors& other = clashes ? *whole->second : *at->second;
            if (!fresh || clashes)
                fail(source, "tensors " + quote(other.a.name) + " and " + quote(p.a.name) + " are of the same matrix");
        }
    std::stable_sort(pairs.begin(), pairs.end(), [](const LoraTensors& x, const LoraTensors& y) {
        return std::tie(x.layer, x.target) < std::tie(y.layer, y.target);
    });
    return pairs;
}

// ---------------------------------------------------------------------------------------------------------------- PEFT

// A half of a pair by PEFT's name; none if it has no place in gpt-oss.
struct PeftName {
    std::string module;  // within the model, as in model.layers.0.self_attn.q_proj
    bool is_b = false;
};

std::optional<PeftName> peft_name(std::string_view name) {
    while (take_prefix(name, "base_model.model."))
        ;
    const bool has_weight = take_suffix(name, ".weight");
    take_suffix(name, ".default");  // the adapter's name in training, which saving takes off
    if (!has_weight) return std::nullopt;
    if (take_suffix(name, ".lora_A")) return PeftName{std::string(name), false};
    if (take_suffix(name, ".lora_B")) return PeftName{std::string(name), true};
    return std::nullopt;
}

// The place of a module. Of the experts' two parameters that PEFT wraps, the name tells only which was wrapped first:
// shapes tell which is which.
std::optional<Place> peft_place(const std::string& module, const TensorInfo* a, const TensorInfo* b, const Config& c) {
    std::string_view rest = module;
    if (!take_prefix(rest, "model.layers.")) return std::nullopt;
    const std::optional<uint32_t> layer = take_number(rest);
    if (!layer) return std::nullopt;
    Place place{.layer = *layer, .module = module};
    if (rest == ".self_attn.q_proj") return place;
    place.target = LoraTarget::K;
    if (rest == ".self_attn.k_proj") return place;
    place.target = LoraTarget::V;
    if (rest == ".self_attn.v_proj") return place;
    place.target = LoraTarget::Out;
    if (rest == ".self_attn.o_proj") return place;
    if (rest == ".mlp.experts" || rest == ".mlp.experts.base_layer") {
        place.all_experts = true;
        const auto is = [&](LoraTarget target) {
            const auto [rows, cols] = size_of(target, c);
            return a && b && a->shape.size() == 2 && b->shape.size() == 2 && a->shape[1] == cols && b->shape[0] == rows;
        };
        place.target = is(LoraTarget::Down) ? LoraTarget::Down : LoraTarget::GateUp;
        place.module = "model.layers." + std::to_string(*layer) + ".mlp.experts." +
                       (place.target == LoraTarget::Down ? "down_proj" : "gate_up_proj");
        return place;
    }
    if (take_prefix(rest, ".mlp.experts.gate_up_projs."))
        place.target = LoraTarget::GateUp;
    else if (take_prefix(rest, ".mlp.experts.down_projs."))
        place.target = LoraTarget::Down;
    else
        return std::nullopt;
    const std::optional<uint32_t> expert = take_number(rest);
    if (!expert || !rest.empty()) return std::nullopt;
    place.expert = *expert;
    return place;
}

// Why a tensor has no place, where that is known.
std::string peft_reason(const std::string& name) {
    const auto has = [&](const char* part) { return name.find(part) != name.npos; };
    if (has("lora_magnitude_vector")) return "it belongs to DoRA, which this library does not apply";
    if (has("modules_to_save") || name.ends_with(".base_layer.weight"))
        return "whole modules cannot be replaced; merge the adapter into its model";
    if (has("lora_embedding_") || has("embed_tokens") || has("lm_head"))
        return "the embedding and lm_head take no adapter here; merge it into its model";
    if (has("mlp.router")) return "the router takes no adapter here; merge it into its model";
    if (name.ends_with(".bias")) return "biases are not applied; merge the adapter into its model";
    return "gpt-oss has no such matrix";
}

// ---------------------------------------------------------------------------------------------------------------- GGUF

std::optional<Place> gguf_place(std::string_view name) {
    if (!take_prefix(name, "blk.")) return std::nullopt;
    const std::optional<uint32_t> layer = take_number(name);
    if (!layer || !take_suffix(name, ".weight")) return std::nullopt;
    Place place{.layer = *layer};
    const auto set = [&](LoraTarget target, uint32_t first_row = 0, uint32_t row_step = 1) {
        place.target = target;
        place.all_experts = target == LoraTarget::GateUp || target == LoraTarget::Down;
        place.first_row = first_row;
        place.row_step = row_step;
        return place;
    };
    if (name == ".attn_q") return set(LoraTarget::Q);
    if (name == ".attn_k") return set(LoraTarget::K);
    if (name == ".attn_v") return set(LoraTarget::V);
    if (name == ".attn_output") return set(LoraTarget::Out);
    if (name == ".ffn_gate_exps") return set(LoraTarget::GateUp, 0, 2);
    if (name == ".ffn_up_exps") return set(LoraTarget::GateUp, 1, 2);
    if (name == ".ffn_down_exps") return set(LoraTarget::Down);
    return std::nullopt;
}

std::string gguf_reason(const std::string& name) {
    if (name.starts_with("token_embd") || name.starts_with("output"))
        return "the embedding and the output take no adapter here; merge it into its model";
    if (name.find("ffn_gate_inp") != name.npos) return "the router takes no adapter here; merge it into its model";
    if (name.find("_norm") != name.npos) return "norms cannot be replaced; merge the adapter into its model";
    return "gpt-oss has no such matrix";
}

bool is_adapter_key(std::string_view key) { return is_model_key(key) || key.starts_with("adapter."); }

}  // namespace

std::vector<LoraTensors> map_peft_adapter(const std::vector<TensorInfo>& tensors, const PeftConfig& peft,
                                          const Config& config, const std::string& source) {
    std::map<std::string, Pair> halves;  // by module
    for (const TensorInfo& t : tensors) {
        const std::optional<PeftName> name = peft_name(t.name);
        if (!name) refuse(t, source, "cannot be applied: " + peft_reason(t.name));
        Pair& pair = halves[name->module];
        const TensorInfo*& half = name->is_b ? pair.b : pair.a;
        if (half) fail(source, "tensors " + quote(half->name) + " and " + quote(t.name) + " are of the same matrix");
        half = &t;
    }
    for (auto& [module, pair] : halves) {
        const TensorInfo& any = pair.a ? *pair.a : *pair.b;
        const std::optional<Place> place = peft_place(module, pair.a, pair.b, config);
        if (!place) refuse(any, source, "cannot be applied: " + peft_reason(any.name));
        pair.place = *place;
    }
    std::vector<LoraTensors> pairs;
    for (const auto& [module, pair] : halves) {
        const std::string& name = pair.place.module;
        pairs.push_back(checked(pair, config, source, [&](uint32_t rank) {
            if (const uint32_t said = peft.rank_of(name); said != rank)
                refuse(*pair.a, source,
                       "has rank " + std::to_string(rank) + ": adapter_config.json says " + std::to_string(said));
            return peft.scale_of(name);
        }));
    }
    return sorted(std::move(pairs), source);
}

std::vector<LoraTensors> map_gguf_adapter(const std::vector<TensorInfo>& tensors, float alpha, const Config& config,
                                          const std::string& source) {
    std::map<std::string, Pair> halves;  // by the matrix's name
    for (const TensorInfo& t : tensors) {
        std::string_view name = t.name;
        const bool is_a = take_suffix(name, ".lora_a"), is_b = !is_a && take_suffix(name, ".lora_b");
        if (!is_a && !is_b) refuse(t, source, "cannot be applied: " + gguf_reason(t.name));
        Pair& pair = halves[std::string(name)];
        (is_a ? pair.a : pair.b) = &t;  // names in a file are all different
    }
    for (auto& [matrix, pair] : halves) {
        const TensorInfo& any = pair.a ? *pair.a : *pair.b;
        const std::optional<Place> place = gguf_place(matrix);
        if (!place) refuse(any, source, "cannot be applied: " + gguf_reason(matrix));
        pair.place = *place;
    }
    std::vector<LoraTensors> pairs;
    for (const auto& [matrix, pair] : halves) {
        // llama.cpp takes an alpha of 0 as none
        pairs.push_back(checked(pair, config, source,
                                [&](uint32_t rank) { return alpha == 0 ? 1.0f : alpha / static_cast<float>(rank); }));
        if (pairs.back().fused)
            refuse(*pair.a, source,
                   "of shape " + shape_of(*pair.a) + " is not of this model: expected three dimensions");
    }
    return sorted(std::move(pairs), source);
}

AdapterFiles::AdapterFiles(const std::string& path, const Config& config) : path_(path) {
    const auto open = [&](const std::string& name) -> const File& {
        files_.push_back(std::make_unique<File>(name));
        return *files_.back();
    };
    const auto own = [](std::vector<TensorInfo> tensors, const File& file) {
        for (TensorInfo& t : tensors) t.file = &file;
        return tensors;
    };
    std::string directory = path;
    if (!is_directory(path)) {
        const std::string name = file_name(path);
        if (name != "adapter_config.json" && name != "adapter_model.safetensors") {
            const File& file = open(path);
            if (!is_gguf(file))
                fail(path, "is no adapter: expected a directory with an adapter_config.json, or a GGUF file");
            const Gguf gguf = Gguf::read(file, is_adapter_key);
            if (const std::string type = gguf.text("general.type").value_or("model"); type != "adapter")
                fail(path, "general.type is " + quote(type) + ": expected 'adapter'");
            if (const std::string a = gguf.text("general.architecture").value_or(""); a != "gpt-oss")
                fail(path, "general.architecture is " + quote(a) + ": expected 'gpt-oss'");
            if (const std::string type = gguf.text("adapter.type").value_or("lora"); type != "lora")
                fail(path, "adapter.type is " + quote(type) + ": expected 'lora'");
            for (const auto& [key, value] : gguf.metadata)
                if (key.starts_with("adapter.alora.")) gguf.refuse(key, "is set: an activated LoRA is not applied");
            const float alpha = gguf.number("adapter.lora.alpha").value_or(0);
            pairs_ = map_gguf_adapter(own(gguf_tensors(gguf), file), alpha, config, path);
            return;
        }
        directory = directory_of(path);
    }
    const std::string config_path = directory + "/adapter_config.json";
    const std::string model_path = directory + "/adapter_model.safetensors";
    if (!is_there(config_path)) fail(directory, "has no adapter_config.json: it is no PEFT adapter");
    const std::string text = File(config_path).read_all(max_config);
    const PeftConfig peft(text.data(), text.size(), config_path);
    if (!is_there(model_path))
        fail(directory, is_there(directory + "/adapter_model.bin")
                            ? "has only PyTorch's adapter_model.bin: save the adapter as safetensors"
                            : "has no adapter_model.safetensors");
    const File& file = open(model_path);
    pairs_ = map_peft_adapter(own(read_safetensors(file), file), peft, config, model_path);
}

}  // namespace gptoss::io
