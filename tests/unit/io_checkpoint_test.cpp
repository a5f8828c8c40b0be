// The golden checkpoints: one model in five layouts must read as one model.
#include "io/checkpoint.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "io_helpers.h"

using namespace gptoss;
using namespace gptoss::io;

namespace {

std::string golden(const char* name) { return std::string(GPTOSS_SOURCE_DIR "/tests/golden/") + name; }

using Bytes = std::vector<std::byte>;

// All experts' rows from the blocks and then the scales, read in pieces of `step` rows.
Bytes read_experts(const Experts& e, uint64_t step) {
    const uint64_t row_blocks = e.blocks_per_row();
    Bytes blocks(e.n_experts * e.rows * row_blocks * 16), scales(e.n_experts * e.rows * row_blocks);
    for (uint64_t x = 0; x < e.n_experts; x++)
        for (uint64_t r = 0; r < e.rows; r += step) {
            uint64_t at = (x * e.rows + r) * row_blocks;
            e.read(x, r, std::min(step, e.rows - r), blocks.data() + at * 16, scales.data() + at);
        }
    blocks.insert(blocks.end(), scales.begin(), scales.end());
    return blocks;
}

using DenseEqual = bool(const Matrix&, const Matrix&);

bool same(const Matrix& a, const Matrix& b) {
    return a.rows == b.rows && a.cols == b.cols && a.read_f32() == b.read_f32();
}

// Q8_0 rounds to 1/127 of the largest of 32 values.
bool nearly_same(const Matrix& a, const Matrix& b) {
    const std::vector<float> x = a.read_f32(), y = b.read_f32();
    if (a.rows != b.rows || a.cols != b.cols) return false;
    for (size_t i = 0; i < x.size(); i += 32) {
        float largest = 0, error = 0;
        for (size_t j = i; j < i + 32; j++) {
            largest = std::max(largest, std::abs(x[j]));
            error = std::max(error, std::abs(x[j] - y[j]));
        }
        if (!(error <= largest * 0.0045f)) return false;
    }
    return true;
}

void check_same_model(const Checkpoint& a, const Checkpoint& b, DenseEqual* dense_equal) {
    CHECK(a.config.sliding == b.config.sliding);
    CHECK(a.config.vocab == b.config.vocab);
    CHECK(a.config.n_active_experts == b.config.n_active_experts);
    CHECK(a.config.rope_factor == b.config.rope_factor);
    CHECK(a.config.rope_truncate == b.config.rope_truncate);
    CHECK(a.config.max_context == b.config.max_context);
    CHECK(dense_equal(a.embedding, b.embedding));
    CHECK(dense_equal(a.lm_head, b.lm_head));
    CHECK(same(a.final_norm, b.final_norm));
    REQUIRE(a.layers.size() == b.layers.size());
    for (size_t i = 0; i < a.layers.size(); i++) {
        CAPTURE(i);
        const LayerTensors &x = a.layers[i], &y = b.layers[i];
        for (auto m : {&LayerTensors::q, &LayerTensors::k, &LayerTensors::v, &LayerTensors::out}) {
            CAPTURE((x.*m).name);
            CHECK(dense_equal(x.*m, y.*m));
        }
        for (auto m : {&LayerTensors::attn_norm, &LayerTensors::q_bias, &LayerTensors::k_bias, &LayerTensors::v_bias,
                       &LayerTensors::sinks, &LayerTensors::out_bias, &LayerTensors::mlp_norm, &LayerTensors::router,
                       &LayerTensors::router_bias, &LayerTensors::down_bias}) {
            CAPTURE((x.*m).name);
            CHECK(same(x.*m, y.*m));
        }
        CHECK(x.read_gate_up_bias() == y.read_gate_up_bias());
        CHECK(read_experts(x.gate_up, 7) == read_experts(y.gate_up, y.gate_up.rows));
        CHECK(read_experts(x.down, 5) == read_experts(y.down, y.down.rows));
    }
}

}  // namespace

TEST_CASE("every layout of one checkpoint reads as the same model") {
    const Checkpoint tiny(golden("tiny"));
    CHECK(tiny.tokenizer_path.empty());
    CHECK(tiny.config.eos_tokens == std::vector{511u});
    const test::TempDirectory shards;
    test::write_shards(shards);
    check_same_model(Checkpoint(shards.path()), tiny, same);
    check_same_model(Checkpoint(golden("tiny-original")), tiny, same);
    check_same_model(Checkpoint(golden("tiny-bf16.gguf")), tiny, same);
    check_same_model(tiny, Checkpoint(golden("tiny-bf16.gguf")), same);
    const Checkpoint q8(golden("tiny-q8.gguf"));
    CHECK(q8.lm_head.type == DType::Q8_0);
    CHECK(q8.tokenizer_path == golden("tiny-q8.gguf"));
    check_same_model(tiny, q8, nearly_same);
}

TEST_CASE("a config says all sizes and constants") {
    const Config c = Checkpoint(golden("tiny")).config;
    CHECK(c.n_layers == 4);
    CHECK(c.hidden == 96);
    CHECK(c.intermediate == 64);
    CHECK(c.n_heads == 8);
    CHECK(c.n_kv_heads == 2);
    CHECK(c.n_experts == 8);
    CHECK(c.n_active_experts == 4);
    CHECK(c.vocab == 512);
    CHECK(c.window == 128);
    CHECK(c.max_context == 131072);
    CHECK(c.sliding == std::vector{true, false, true, false});
    CHECK(c.rope_beta_fast == 32);
    CHECK(c.rope_original_context == 4096);
    CHECK(c.qkv_rows() == 768);
    CHECK(Checkpoint(golden("many-experts")).config.n_experts == 128);
    CHECK(Checkpoint(golden("tiny-original")).config.eos_tokens.empty());
}

TEST_CASE("row ranges of a matrix are its rows") {
    const Checkpoint tiny(golden("tiny"));
    const Matrix& k = tiny.layers[1].k;
    Bytes all(k.bytes()), some(3 * k.row_bytes());
    k.read(0, k.rows, all.data());
    k.read(100, 3, some.data());
    CHECK(std::memcmp(some.data(), all.data() + 100 * k.row_bytes(), some.size()) == 0);
}

TEST_CASE(
    "MXFP4: what it can hold comes out as it went in, and the rest has the smallest error that a block can have") {
    const float fp4[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    const auto decode = [&](std::byte scale, const std::byte* block, int i) {
        const uint32_t code = std::to_integer<uint32_t>(block[i / 2]) >> i % 2 * 4 & 15;
        return std::ldexp(code & 8 ? -fp4[code & 7] : fp4[code & 7], std::to_integer<int>(scale) - 127);
    };
    for (int round = 0; round < 2000; round++) {
        CAPTURE(round);
        float values[32];
        const int exponent = static_cast<int>(random() % 252) - 126, most = 1 + static_cast<int>(random() % 8);
        const bool exact = round % 2 == 0;
        for (float& value : values)
            value = std::ldexp(exact ? (random() % 2 ? -fp4[random() % most] : fp4[random() % most]) : normal(random),
                               exact ? exponent : exponent / 2);
        std::byte block[16], scale;
        const QuantizationError cost = quantize_mxfp4(values, 1, block, &scale);
        double error = 0, squares = 0, best = INFINITY;
        for (int i = 0; i < 32; i++) {
            const float got = decode(scale, block, i);
            if (exact) CHECK(got == values[i]);
            error += (double{got} - values[i]) * (double{got} - values[i]);
            squares += double{values[i]} * values[i];
        }
        CHECK(cost.values == doctest::Approx(squares));
        CHECK(cost.error == doctest::Approx(error).epsilon(1e-4));
        for (int e = -127; e <= 127; e++) {
            double of = 0;
            for (const float value : values) {
                double nearest = INFINITY;
                for (const float code : fp4)
                    nearest = std::min(nearest, std::abs(std::abs(double{value}) - std::ldexp(double{code}, e)));
                of += nearest * nearest;
            }
            best = std::min(best, of);
        }
        // an exponent more or less than those that are tried is rarely better, and then by little
        CHECK(error <= 1.05 * best);
    }
    float values[32] = {1, 2, INFINITY};
    std::byte block[16], scale;
    quantize_mxfp4(values, 1, block, &scale);
    CHECK(scale == std::byte{255});
    values[2] = NAN;
    quantize_mxfp4(values, 1, block, &scale);
    CHECK(scale == std::byte{255});
    const float zeros[32] = {};
    CHECK(quantize_mxfp4(zeros, 1, block, &scale).error == 0);
    for (const std::byte byte : block) CHECK(byte == std::byte{0});
}
