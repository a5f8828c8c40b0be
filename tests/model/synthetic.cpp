#include "synthetic.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>

#include "posix.h"

namespace gptoss::test {

namespace {

using Json = nlohmann::ordered_json;

class Writer {
  public:
    explicit Writer(uint64_t seed) : random_(seed) {}

    // bfloat16 around `mean`.
    void normal(const std::string& name, const std::vector<uint64_t>& shape, double deviation, double mean = 0) {
        std::normal_distribution<float> distribution(static_cast<float>(mean), static_cast<float>(deviation));
        const uint64_t begin = bytes_.size(), n = count(shape);
        for (uint64_t i = 0; i < n; i++) {
            const uint32_t bits = std::bit_cast<uint32_t>(distribution(random_)) + 0x8000;
            bytes_.push_back(static_cast<char>(bits >> 16));
            bytes_.push_back(static_cast<char>(bits >> 24));
        }
        describe(name, "BF16", shape, begin);
    }

    // A matrix of that shape, which begins at byte `of`, again, with its rows moved down by one.
    void rotated(const std::string& name, const std::vector<uint64_t>& shape, uint64_t of) {
        const uint64_t begin = bytes_.size(), size = 2 * count(shape), row = size / shape[0];
        const std::string rows = bytes_.substr(of, size);
        bytes_ += rows.substr(size - row) + rows.substr(0, size - row);
        describe(name, "BF16", shape, begin);
    }

    // Random nibbles, whose values have a mean square of 8.5, and scales over four octaves around the deviation.
    void mxfp4(const std::string& name, uint64_t experts, uint64_t rows, uint64_t cols, double deviation) {
        const int exponent = 127 + static_cast<int>(std::lround(std::log2(deviation / 2.9)));
        bytes(name + "_blocks", {experts, rows, cols / 32, 16}, 0, 255);
        bytes(name + "_scales", {experts, rows, cols / 32}, exponent - 2, exponent + 1);
    }

    void write(const std::string& path) const {
        std::string header = header_.dump();
        header.append((8 - header.size() % 8) % 8, ' ');
        const uint64_t size = header.size();
        std::ofstream file(path, std::ios::binary);
        file.write(reinterpret_cast<const char*>(&size), sizeof size);
        file << header;
        file.write(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
        if (!file.flush()) throw std::runtime_error("cannot write " + path);
    }

  private:
    static uint64_t count(const std::vector<uint64_t>& shape) {
        uint64_t n = 1;
        for (uint64_t d : shape) n *= d;
        return n;
    }
    void bytes(const std::string& name, const std::vector<uint64_t>& shape, int low, int high) {
        std::uniform_int_distribution<int> distribution(low, high);
        const uint64_t begin = bytes_.size(), n = count(shape);
        for (uint64_t i = 0; i < n; i++) bytes_.push_back(static_cast<char>(distribution(random_)));
        describe(name, "U8", shape, begin);
    }
    void describe(const std::string& name, const char* type, const std::vector<uint64_t>& shape, uint64_t begin) {
        header_[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {begin, bytes_.size()}}};
    }

    std::mt19937_64 random_;
    Json header_;
    std::string bytes_;
};

void add_layer(Writer& w, const Shape& s, const std::string& layer) {
    const std::string attn = layer + "self_attn.", mlp = layer + "mlp.", experts = mlp + "experts.";
    const uint64_t q_rows = s.heads * 64ull, kv_rows = s.kv_heads * 64ull;
    const double per_hidden = 1 / std::sqrt(s.hidden);
    w.normal(layer + "input_layernorm.weight", {s.hidden}, 0.1, 1);
    w.normal(attn + "q_proj.weight", {q_rows, s.hidden}, 1.5 * per_hidden);
    w.normal(attn + "q_proj.bias", {q_rows}, 0.3);
    w.normal(attn + "k_proj.weight", {kv_rows, s.hidden}, 1.5 * per_hidden);
    w.normal(attn + "k_proj.bias", {kv_rows}, 0.3);
    w.normal(attn + "v_proj.weight", {kv_rows, s.hidden}, per_hidden);
    w.normal(attn + "v_proj.bias", {kv_rows}, 0.3);
    w.normal(attn + "o_proj.weight", {s.hidden, q_rows}, 1 / std::sqrt(q_rows));
    w.normal(attn + "o_proj.bias", {s.hidden}, 0.1);
    w.normal(attn + "sinks", {s.heads}, 1.5);
    w.normal(layer + "post_attention_layernorm.weight", {s.hidden}, 0.1, 1);
    w.normal(mlp + "router.weight", {s.experts, s.hidden}, 1.5 * per_hidden);
    w.normal(mlp + "router.bias", {s.experts}, 0.3);
    w.mxfp4(experts + "gate_up_proj", s.experts, 2 * s.intermediate, s.hidden, 3 * per_hidden);
    w.normal(experts + "gate_up_proj_bias", {s.experts, 2 * s.intermediate}, 0.5);
    w.mxfp4(experts + "down_proj", s.experts, s.hidden, s.intermediate, 0.3 / std::sqrt(s.intermediate));
    w.normal(experts + "down_proj_bias", {s.experts, s.hidden}, 0.1);
}

Json config_of(const Shape& s) {
    Json config = {
        {"model_type", "gpt_oss"},
        {"num_hidden_layers", s.sliding.size()},
        {"hidden_size", s.hidden},
        {"intermediate_size", s.intermediate},
        {"num_attention_heads", s.heads},
        {"num_key_value_heads", s.kv_heads},
        {"head_dim", 64},
        {"num_local_experts", s.experts},
        {"num_experts_per_tok", s.active},
        {"vocab_size", s.vocab},
        {"sliding_window", s.window},
        {"max_position_embeddings", s.max_context},
        {"rope_theta", 150000.0},
        {"rope_scaling", nullptr},
    };
    if (s.rope_factor != 1)
        config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", s.rope_factor},
                                  {"beta_fast", 32.0},   {"beta_slow", 1.0},
                                  {"truncate", false},   {"original_max_position_embeddings", 4096}};
    if (s.attention_factor != 0) config["rope_scaling"]["attention_factor"] = s.attention_factor;
    for (const bool sliding : s.sliding)
        config["layer_types"].push_back(sliding ? "sliding_attention" : "full_attention");
    return config;
}

}  // namespace

std::string Shape::text() const {
    std::string layers;
    for (const bool s : sliding) layers += s ? 's' : 'f';
    return "layers " + layers + " hidden " + std::to_string(hidden) + " intermediate " + std::to_string(intermediate) +
           " heads " + std::to_string(heads) + "/" + std::to_string(kv_heads) + " experts " + std::to_string(active) +
           "/" + std::to_string(experts) + " vocab " + std::to_string(vocab) + " window " + std::to_string(window) +
           " rope factor " + std::to_string(rope_factor) + " attention factor " + std::to_string(attention_factor);
}

SyntheticCheckpoint::SyntheticCheckpoint(const Shape& shape, uint64_t seed) {
    std::string path = (std::filesystem::temp_directory_path() / "gptoss-test-XXXXXX").string();
    if (!mkdtemp(path.data())) throw std::runtime_error("cannot make a directory " + path);
    path_ = path;
    std::ofstream(path_ + "/config.json") << config_of(shape);
    Writer w(seed);
    // so large where the model counts that the layers change nothing of the order of the logits
    w.normal("model.embed_tokens.weight", {shape.vocab, shape.hidden}, shape.counts ? 8 : 1);
    for (size_t i = 0; i < shape.sliding.size(); i++) add_layer(w, shape, "model.layers." + std::to_string(i) + ".");
    w.normal("model.norm.weight", {shape.hidden}, 0.1, 1);
    if (shape.counts)
        w.rotated("lm_head.weight", {shape.vocab, shape.hidden}, 0);  // of the embedding, which was written first
    else
        w.normal("lm_head.weight", {shape.vocab, shape.hidden}, 2 / std::sqrt(shape.hidden));
    w.write(path_ + "/model.safetensors");
}

SyntheticCheckpoint::~SyntheticCheckpoint() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

}  // namespace gptoss::test
