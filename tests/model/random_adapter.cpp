#include "random_adapter.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>

#include "weights/tiles.h"

namespace gptoss::test {

namespace {

using Json = nlohmann::ordered_json;
using io::LoraTarget;

struct Tensor {
    std::string name;
    std::string type;  // F32, F16 or BF16
    std::vector<uint64_t> shape;
    std::vector<float> values;

    std::string bytes() const {
        std::string out;
        for (const float value : values) {
            uint32_t bits;
            std::memcpy(&bits, &value, 4);
            if (type == "F16") bits = model::to_f16(value);
            if (type == "BF16") bits >>= 16;
            out.append(reinterpret_cast<const char*>(&bits), type == "F32" ? 4 : 2);
        }
        return out;
    }
};

// As the type holds them.
float rounded(float value, const std::string& type) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (type == "BF16") bits &= 0xffff0000;
    std::memcpy(&value, &bits, 4);
    if (type != "F16") return value;
    const uint16_t half = model::to_f16(value);
    io::to_f32(io::DType::F16, reinterpret_cast<const std::byte*>(&half), 1, &value);
    return value;
}

class Maker {
  public:
    Maker(const io::Config& config, AdapterForm form, uint64_t seed, bool whole, Deltas& deltas)
        : c_(config), form_(form), whole_(whole), random_(seed), deltas_(deltas) {
        rslora_ = form != AdapterForm::Gguf && coin();
        alpha_ = 1 + static_cast<float>(below(32));
        for (uint32_t layer = 0; layer < c_.n_layers; layer++)
            if (layer == 0 || whole || below(3) > 0) add_layer(layer);
    }

    std::vector<Tensor> tensors{};
    Json rank_pattern = Json::object(), alpha_pattern = Json::object();
    float alpha_;
    bool rslora_;

  private:
    uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
    bool coin() { return below(2) == 0; }

    void add_layer(uint32_t layer) {
        const uint32_t q = c_.n_heads * 64, kv = c_.n_kv_heads * 64, h = c_.hidden, inner = c_.intermediate;
        const std::string peft = "model.layers." + std::to_string(layer) + ".";
        const std::string gguf = "blk." + std::to_string(layer) + ".";
        const auto dense = [&](LoraTarget target, const char* name, const char* gguf_name, uint32_t rows,
                               uint32_t cols) {
            if (!whole_ && below(5) == 0) return;
            add(layer, target, 0, 1, rows, cols, peft + "self_attn." + name, gguf + gguf_name, 0, 1);
        };
        dense(LoraTarget::Q, "q_proj", "attn_q", q, h);
        dense(LoraTarget::K, "k_proj", "attn_k", kv, h);
        dense(LoraTarget::V, "v_proj", "attn_v", kv, h);
        dense(LoraTarget::Out, "o_proj", "attn_output", h, q);
        const bool both = coin() || layer == 0 || whole_;
        const std::string experts = peft + "mlp.experts";
        if (form_ == AdapterForm::Gguf) {
            add(layer, LoraTarget::GateUp, 0, c_.n_experts, inner, h, "", gguf + "ffn_gate_exps", 0, 2);
            if (both) add(layer, LoraTarget::GateUp, 0, c_.n_experts, inner, h, "", gguf + "ffn_up_exps", 1, 2);
            add(layer, LoraTarget::Down, 0, c_.n_experts, h, inner, "", gguf + "ffn_down_exps", 0, 1);
        } else if (form_ == AdapterForm::Fused) {
            add(layer, LoraTarget::GateUp, 0, c_.n_experts, 2 * inner, h, experts + (both ? ".base_layer" : ""), "", 0,
                1);
            if (both) add(layer, LoraTarget::Down, 0, c_.n_experts, h, inner, experts, "", 0, 1);
        } else {
            for (uint32_t e = 0; e < c_.n_experts; e++) {
                const std::string number = std::to_string(e);
                if (below(4) > 0)
                    add(layer, LoraTarget::GateUp, e, 1, 2 * inner, h, experts + ".gate_up_projs." + number, "", 0, 1);
                if (below(4) > 0)
                    add(layer, LoraTarget::Down, e, 1, h, inner, experts + ".down_projs." + number, "", 0, 1);
            }
        }
    }

    void add(uint32_t layer, LoraTarget target, uint32_t first_expert, uint32_t n_experts, uint32_t rows, uint32_t cols,
             const std::string& peft, const std::string& gguf, uint32_t first_row, uint32_t row_step) {
        const bool is_gguf = form_ == AdapterForm::Gguf, all = n_experts > 1;
        const uint32_t rank = 1 + below(coin() ? 9 : 40);
        float alpha = alpha_;
        if (!is_gguf) {
            // of experts' parameters, the pattern names the parameter
            const bool down = target == LoraTarget::Down;
            const std::string whole = "model.layers." + std::to_string(layer) + ".mlp.experts.";
            const std::string module = all ? whole + (down ? "down_proj" : "gate_up_proj") : peft;
            rank_pattern[coin() ? module : "^" + module.substr(0, 5) + ".*" + module.substr(12)] = rank;
            if (coin()) alpha_pattern[module] = alpha = 1 + static_cast<float>(below(64));
        }
        const double scale = alpha / (rslora_ ? std::sqrt(rank) : rank);
        const char* const types[] = {"F32", "F16", "BF16"};
        const std::string type = types[below(3)], b_type = below(5) == 0 ? types[below(3)] : type;
        std::normal_distribution<float> a_values(0, 1 / std::sqrt(static_cast<float>(cols)));
        std::normal_distribution<float> b_values(0, static_cast<float>(0.4 / (std::sqrt(rank) * scale)));
        std::vector<float> a(size_t{n_experts} * rank * cols), b(size_t{n_experts} * rows * rank);
        for (float& v : a) v = rounded(a_values(random_), type);
        for (float& v : b) v = rounded(b_values(random_), b_type);  // (experts, rows, rank)
        for (uint32_t e = 0; e < n_experts; e++) {
            std::vector<double>& delta = deltas_[{layer, target, first_expert + e}];
            delta.resize(size_t{rows} * row_step * cols);
            for (uint32_t o = 0; o < rows; o++)
                for (uint32_t k = 0; k < rank; k++) {
                    const double by = scale * b[(size_t{e} * rows + o) * rank + k];
                    for (uint32_t i = 0; i < cols; i++)
                        delta[size_t{first_row + o * row_step} * cols + i] += by * a[(size_t{e} * rank + k) * cols + i];
                }
        }
        if (is_gguf) {
            const auto shape = [&](uint64_t x, uint64_t y) {
                return all ? std::vector<uint64_t>{n_experts, x, y} : std::vector<uint64_t>{x, y};
            };
            tensors.push_back({gguf + ".weight.lora_a", type, shape(rank, cols), a});
            tensors.push_back({gguf + ".weight.lora_b", b_type, shape(rows, rank), b});
            return;
        }
        if (all) {  // (rows, rank * experts), the rank outermost
            std::vector<float> fused(b.size());
            for (uint32_t e = 0; e < n_experts; e++)
                for (uint32_t o = 0; o < rows; o++)
                    for (uint32_t k = 0; k < rank; k++)
                        fused[(size_t{o} * rank + k) * n_experts + e] = b[(size_t{e} * rows + o) * rank + k];
            b = fused;
        }
        const std::string name = "base_model.model." + peft;
        tensors.push_back({name + ".lora_A.weight", type, {uint64_t{n_experts} * rank, cols}, a});
        tensors.push_back({name + ".lora_B.weight", b_type, {rows, uint64_t{n_experts} * rank}, b});
    }

    const io::Config& c_;
    const AdapterForm form_;
    const bool whole_;
    std::mt19937_64 random_;
    Deltas& deltas_;
};

void write(const std::string& path, const std::string& bytes) {
    std::ofstream file(path, std::ios::binary);
    if (!(file << bytes).flush()) throw std::runtime_error("cannot write " + path);
}

void write_peft(const std::string& directory, const Maker& made) {
    const Json config = {{"peft_type", "LORA"},
                         {"r", 3},
                         {"lora_alpha", made.alpha_},
                         {"use_rslora", made.rslora_},
                         {"rank_pattern", made.rank_pattern},
                         {"alpha_pattern", made.alpha_pattern},
                         {"layers_to_transform", {0}}};
    write(directory + "/adapter_config.json", config.dump());
    Json header;
    std::string data;
    for (const Tensor& t : made.tensors) {
        const size_t begin = data.size();
        data += t.bytes();
        header[t.name] = {{"dtype", t.type}, {"shape", t.shape}, {"data_offsets", {begin, data.size()}}};
    }
    const std::string text = header.dump();
    const uint64_t size = text.size();
    write(directory + "/adapter_model.safetensors", std::string(reinterpret_cast<const char*>(&size), 8) + text + data);
}

void write_gguf(const std::string& path, const Maker& made) {
    std::string header, data;
    const auto number = [&](auto value) { header.append(reinterpret_cast<const char*>(&value), sizeof value); };
    const auto string = [&](const std::string& text) {
        number(uint64_t{text.size()});
        header += text;
    };
    const auto text = [&](const char* key, const char* value) {
        string(key);
        number(uint32_t{8});
        string(value);
    };
    header = "GGUF";
    number(uint32_t{3});
    number(uint64_t{made.tensors.size()});
    number(uint64_t{4});
    text("general.type", "adapter");
    text("general.architecture", "gpt-oss");
    text("adapter.type", "lora");
    string("adapter.lora.alpha");
    number(uint32_t{6});
    number(made.alpha_);
    for (const Tensor& t : made.tensors) {
        string(t.name);
        number(static_cast<uint32_t>(t.shape.size()));
        for (auto n = t.shape.rbegin(); n != t.shape.rend(); ++n) number(*n);
        number(uint32_t{t.type == "F32" ? 0u : t.type == "F16" ? 1u : 30u});
        number(uint64_t{data.size()});
        data += t.bytes();
        data.resize((data.size() + 31) / 32 * 32);
    }
    header.resize((header.size() + 31) / 32 * 32);
    write(path, header + data);
}

}  // namespace

RandomAdapter::RandomAdapter(const io::Config& config, AdapterForm form, uint64_t seed, bool whole) {
    directory_ = (std::filesystem::temp_directory_path() / "gptoss-test-XXXXXX").string();
    if (!mkdtemp(directory_.data())) throw std::runtime_error("cannot make a directory " + directory_);
    const Maker made(config, form, seed, whole, deltas_);
    path_ = form == AdapterForm::Gguf ? directory_ + "/adapter.gguf" : directory_;
    if (form == AdapterForm::Gguf)
        write_gguf(path_, made);
    else
        write_peft(directory_, made);
}

RandomAdapter::~RandomAdapter() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

}  // namespace gptoss::test
