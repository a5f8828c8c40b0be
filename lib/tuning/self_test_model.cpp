#include "tuning/self_test_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "weights/tiles.h"

namespace gptoss::model {

namespace {

// A chunk of 128 columns and one block more, tiles that are not full, more logits than a block of the sampler has.
constexpr uint32_t kHidden = 160, kIntermediate = 96, kKvHeads = 2, kVocab = 1100, kWindow = 20, kContext = 512;
constexpr uint32_t kMaxExperts = 40;  // more than most subgroups have lanes

// The columns whose weights are so much smaller, and whose activations so much larger for it. Nothing else is lost with
// the smallest float16 numbers, but here a quarter of the result is.
constexpr uint32_t kSmallColumns = 32;
constexpr int kSmallExponent = -11;

io::DType dtype_of(uint32_t weight) {
    switch (weight) {
        case WEIGHT_F16:
            return io::DType::F16;
        case WEIGHT_BF16:
            return io::DType::BF16;
        case WEIGHT_Q8:
            return io::DType::Q8_0;
        default:
            return io::DType::F32;
    }
}

template <typename T>
void append(std::vector<std::byte>& bytes, T value) {
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), from, from + sizeof value);
}

}  // namespace

Miniature::Miniature(const KernelNeeds& needs) {
    io::Config& c = checkpoint.config = needs.config;
    c.n_layers = 2;
    c.sliding = {true, false};
    c.hidden = kHidden;
    c.intermediate = kIntermediate;
    c.n_heads = needs.config.n_heads / needs.config.n_kv_heads * kKvHeads;
    c.n_kv_heads = kKvHeads;
    c.n_experts = std::max(c.n_active_experts, std::min(c.n_experts, kMaxExperts));
    c.vocab = kVocab;
    c.window = kWindow;
    c.max_context = kContext;
    checkpoint.embedding = dense(needs.embedding, kVocab, kHidden, 1, false);
    for (uint32_t i = 0; i < c.n_layers; i++) checkpoint.layers.push_back(layer(needs));
    checkpoint.final_norm = norm();
    checkpoint.lm_head = dense(needs.lm_head, kVocab, kHidden, 2 / std::sqrt(float{kHidden}), true);
}

io::LayerTensors Miniature::layer(const KernelNeeds& needs) {
    const io::Config& c = checkpoint.config;
    const uint64_t q_rows = c.n_heads * 64ull, kv_rows = c.n_kv_heads * 64ull;
    const float per_hidden = 1 / std::sqrt(float{kHidden});
    io::LayerTensors t;
    t.attn_norm = norm();
    t.q = dense(needs.qkv, q_rows, kHidden, 1.5f * per_hidden, true);
    t.k = dense(needs.qkv, kv_rows, kHidden, 1.5f * per_hidden, true);
    t.v = dense(needs.qkv, kv_rows, kHidden, per_hidden, true);
    // scores of a size that float16 sums could not hold apart
    t.q_bias = head_bias(q_rows, 8);
    t.k_bias = head_bias(kv_rows, 8);
    t.v_bias = vector(1, kv_rows, 0, 0.3f);
    t.sinks = vector(1, c.n_heads, 28, 1.5f);
    t.out = dense(needs.out, kHidden, q_rows, 1 / std::sqrt(float(q_rows)), false);
    t.out_bias = vector(1, kHidden, 0, 0.1f);
    t.mlp_norm = norm();
    t.router = dense(needs.router, c.n_experts, kHidden, 1.5f * per_hidden, true);
    t.router_bias = vector(1, c.n_experts, 0, 0.3f);
    t.gate_up = experts(2 * kIntermediate, kHidden, 3 * per_hidden, true);
    t.gate_up_bias = {vector(c.n_experts, 2 * kIntermediate, 0, 0.5f)};
    t.down = experts(kHidden, kIntermediate, 0.3f / std::sqrt(float{kIntermediate}), false);
    t.down_bias = vector(c.n_experts, kHidden, 0, 0.1f);
    return t;
}

// SplitMix64 (Steele, Lea and Flood, 2014)
uint64_t Miniature::next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

float Miniature::uniform(float deviation) {
    const auto signed_bits = static_cast<int32_t>(next() >> 32);
    return static_cast<float>(signed_bits) * 0x1p-31f * 1.7320508f * deviation;
}

io::Matrix Miniature::matrix(io::DType type, uint64_t rows, uint64_t cols, std::vector<std::byte> bytes) {
    files_.emplace_back("self-test", std::move(bytes));
    return {"self-test", type, rows, cols, &files_.back(), 0};
}

io::Matrix Miniature::dense(uint32_t weight, uint64_t rows, uint64_t cols, float deviation, bool after_norm) {
    const io::DType type = dtype_of(weight);
    std::vector<std::byte> bytes;
    bytes.reserve(io::dtype_bytes(type, rows * cols));
    for (uint64_t i = 0; i < rows * cols; i++) {
        const bool small = after_norm && i % cols < kSmallColumns;
        const float scale = small ? std::ldexp(deviation, kSmallExponent) : deviation;
        switch (type) {
            case io::DType::F16:
                append(bytes, to_f16(uniform(scale)));
                break;
            case io::DType::BF16:
                append(bytes, static_cast<uint16_t>(std::bit_cast<uint32_t>(uniform(scale)) >> 16));
                break;
            case io::DType::Q8_0:
                if (i % 32 == 0) append(bytes, to_f16(scale * 1.7320508f / 127));
                append(bytes, static_cast<int8_t>(static_cast<int>(next() % 255) - 127));
                break;
            default:
                append(bytes, uniform(scale));
        }
    }
    return matrix(type, rows, cols, std::move(bytes));
}

io::Matrix Miniature::vector(uint64_t rows, uint64_t cols, float mean, float deviation) {
    std::vector<std::byte> bytes;
    for (uint64_t i = 0; i < rows * cols; i++) append(bytes, mean + uniform(deviation));
    return matrix(io::DType::F32, rows, cols, std::move(bytes));
}

io::Matrix Miniature::norm() {
    std::vector<std::byte> bytes;
    for (uint32_t i = 0; i < kHidden; i++)
        append(bytes, std::ldexp(1 + uniform(0.1f), i < kSmallColumns ? -kSmallExponent : 0));
    return matrix(io::DType::F32, 1, kHidden, std::move(bytes));
}

// The offset is in the pair of dimensions that RoPE hardly turns.
io::Matrix Miniature::head_bias(uint64_t rows, float offset) {
    std::vector<std::byte> bytes;
    for (uint64_t i = 0; i < rows; i++) append(bytes, uniform(0.3f) + (i % 32 == 31 ? offset : 0));
    return matrix(io::DType::F32, 1, rows, std::move(bytes));
}

// All sixteen codes, which have a mean square of 8.5, and scales over four octaves.
io::Experts Miniature::experts(uint64_t rows, uint64_t cols, float deviation, bool after_norm) {
    const uint64_t n = checkpoint.config.n_experts, blocks = n * rows * cols / 32;
    std::vector<std::byte> values, scales;
    values.reserve(blocks * 16);
    const int exponent = 127 + static_cast<int>(std::lround(std::log2(deviation / 2.9f)));
    for (uint64_t b = 0; b < blocks; b++) {
        append(values, next());
        append(values, next());
        const bool small = after_norm && b % (cols / 32) == 0;
        const int octave = static_cast<int>(next() % 4) - 2;
        append(scales, static_cast<uint8_t>(exponent + octave + (small ? kSmallExponent : 0)));
    }
    files_.emplace_back("self-test", std::move(values));
    const File* file = &files_.back();
    files_.emplace_back("self-test", std::move(scales));
    return {"self-test", n, rows, cols, {{file, 0, &files_.back(), 0}}};
}

}  // namespace gptoss::model
