// The kernels of dense weights: linear, embed, out; qkv has its own file.
#include <cstdlib>

#include "kernels/launch.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

constexpr uint32_t kDenseTypes[] = {WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16, WEIGHT_Q8};

void test_linear(Random& random, const Launch& l, uint32_t weight, uint32_t rows, uint32_t cols) {
    CAPTURE(l.describe(weight, rows, cols));
    const Matrix w = random_matrix(random, rows, cols, weight);
    const NormedInput input(random, l.n_tokens, cols);
    const std::vector<float> bias = random.normals(rows);
    const uint32_t stride = rows + random.below(5);
    const bool has_bias = random.coin();
    const Array<uint32_t> tiles(w.tiles);
    const Array<float> bias_array(bias), y(size_t{l.n_tokens} * stride);
    run("dense_linear", l.constants(weight),
        args::LinearArgs{input.args(), tiles.address(), has_bias ? bias_array.address() : 0, y.address(), rows, stride,
                         has_bias},
        tile_count(rows), l.token_groups());
    const std::vector<float> padded = y.read();
    std::vector<float> got;
    std::vector<Exact> expected;
    uint32_t touched = 0;
    for (uint32_t t = 0; t < l.n_tokens; t++)
        for (uint32_t r = 0; r < stride; r++) {
            const float value = padded[size_t{t} * stride + r];
            if (r >= rows) {
                touched += !std::isnan(value);
                continue;
            }
            got.push_back(value);
            expected.push_back(product(w, r, [&](uint32_t c) { return input.at(t, c); }));
            if (has_bias) expected.back().add(bias[r]);
        }
    CHECK(touched == 0);
    check_close(got, expected, sum_tolerance(cols));
}

void test_out(Random& random, const Launch& l, uint32_t weight) {
    const uint32_t hidden = random.pick({32u, 96u, 160u, 192u}), cols = 64 * (1 + random.below(5));
    CAPTURE(l.describe(weight, hidden, cols));
    const Matrix w = random_matrix(random, hidden, cols, weight);
    const std::vector<float> x = random.normals(size_t{l.n_tokens} * cols);
    std::vector<float> bias = random.normals(hidden);
    const Array<uint32_t> tiles(w.tiles);
    const Array<float> x_array(x);
    bias.resize(tile_count(hidden) * 64);
    const Array<float> bias_array(bias);
    const ResidualOutput residual(random, l.n_tokens, hidden);
    if (l.row_groups) {
        const HalfRows rows(args::Input{x_array.address(), 0, 0, cols, l.n_tokens, 0}, w);
        run("attn_out_coopmat", l.constants(weight),
            args::OutCoopmatArgs{residual.args(), rows.args, tiles.address(), bias_array.address()}, tile_count(hidden),
            l.token_groups());
    } else {
        run("attn_out", l.constants(weight),
            args::OutArgs{residual.args(), x_array.address(), tiles.address(), bias_array.address(), cols, l.n_tokens},
            tile_count(hidden), l.token_groups());
    }
    std::vector<Exact> after;
    for (uint32_t t = 0; t < l.n_tokens; t++)
        for (uint32_t r = 0; r < hidden; r++) {
            after.push_back(product(w, r, [&](uint32_t c) { return x[size_t{t} * cols + c]; }));
            after.back().add(bias[r]);
            after.back().add(residual.before[size_t{t} * hidden + r]);
        }
    residual.check(after, l.tolerance(weight, cols));
}

}  // namespace

TEST_CASE("linear") {
    Random random(1);
    for (uint32_t weight : {WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16, WEIGHT_Q8, WEIGHT_MXFP4}) {
        std::vector<Launch> all = launches(random, 4);
        all.push_back(many_tokens(random));
        for (const Launch& l : all) test_linear(random, l, weight, 1 + random.below(200), 32 * (1 + random.below(12)));
    }
}

TEST_CASE("linear at the widths of models") {
    Random random(2);
    for (uint32_t weight : kDenseTypes)
        for (uint32_t cols : {32u, 96u, 2880u}) test_linear(random, {64, 4, 2, 3}, weight, 130, cols);
}

TEST_CASE("embed") {
    Random random(3);
    for (uint32_t weight : kDenseTypes)
        for (uint32_t hidden : {32u, 96u, 320u}) {
            CAPTURE(weight);
            CAPTURE(hidden);
            // two parts of a vocabulary, each with its own dispatch
            const uint32_t rows[2] = {128, 1 + random.below(100)};
            const Matrix parts[2] = {random_matrix(random, rows[0], hidden, weight),
                                     random_matrix(random, rows[1], hidden, weight)};
            std::vector<args::Token> tokens(9);
            for (args::Token& t : tokens) t = {random.below(rows[0] + rows[1]), random.below(100), 0, 0};
            tokens[0].id = 0;
            tokens[1].id = rows[0] + rows[1] - 1;
            const uint32_t n = static_cast<uint32_t>(tokens.size());
            const Array<args::Token> token_array(tokens);
            const ResidualOutput residual(random, n, hidden);
            uint32_t first = 0;
            for (int p = 0; p < 2; p++) {
                const Array<uint32_t> tiles(parts[p].tiles);
                run("dense_embed", {32, 32, 1, weight},
                    args::EmbedArgs{residual.args(), tiles.address(), token_array.address(), first, rows[p]},
                    tile_count(hidden), n);
                first += rows[p];
            }
            std::vector<Exact> after(size_t{n} * hidden);
            for (size_t i = 0; i < after.size(); i++) {
                const uint32_t id = tokens[i / hidden].id, part = id >= rows[0];
                after[i].add(parts[part].at(id - (part ? rows[0] : 0), i % hidden));
            }
            residual.check(after, weight == WEIGHT_Q8 ? 0x1p-24 : 0);
        }
}

TEST_CASE("out") {
    Random random(4);
    for (uint32_t weight : kDenseTypes)
        for (const Launch& l : launches(random, 2)) test_out(random, l, weight);
    test_out(random, many_tokens(random), WEIGHT_BF16);
}

TEST_CASE("coopmat: out") {
    Random random(5);
    for (uint32_t weight : kDenseTypes)
        for (const Launch& l : coopmat_launches(random, 2)) test_out(random, l, weight);
}

TEST_CASE("coopmat: halve") {
    if (gpu().device.info().coopmat.m == 0) return;  // float16 arithmetic is enabled with them
    Random random(6);
    for (uint32_t cols : {32u, 96u, 2880u}) {
        CAPTURE(cols);
        const uint32_t n_tokens = 5;
        NormedInput input(random, n_tokens, cols);
        // rows of any magnitude, and one of zeros
        for (uint32_t t = 0; t < n_tokens; t++)
            for (uint32_t c = 0; c < cols; c++)
                input.values[t * cols + c] *= t == 4 ? 0 : std::ldexp(1.0f, static_cast<int>(40 * t) - 80);
        const Array<float> x(input.values);
        args::Input from = input.args();
        from.x = x.address();
        const uint32_t terms = 1 + random.below(2), n = n_tokens * cols;
        CAPTURE(terms);
        const HalfRows rows(from, 1, terms);
        const std::vector<uint32_t> words = rows.halves.read();
        const std::vector<float> scales = rows.scales.read();
        std::vector<float> got;
        std::vector<Exact> expected;
        for (uint32_t t = 0; t < n_tokens; t++) {
            double largest = 0;
            for (uint32_t c = 0; c < cols; c++) {
                const uint32_t at = t * cols + c;
                const auto half = [&](uint32_t i) {
                    return from_f16(static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16)));
                };
                largest = std::max(largest, std::abs(half(at)));
                // what is far below the row's largest may lose more
                const double value = input.values[at] * input.scales[t], least = (terms == 2 ? 1 : 0x1p-14) * scales[t];
                got.push_back(static_cast<float>((half(at) + (terms == 2 ? half(n + at) : 0)) * scales[t]));
                expected.push_back({value, std::max(std::abs(value), least)});
            }
            if (t < 4) CHECK((largest >= 0x1p14 && largest <= 0x1p15));
        }
        check_close(got, expected, (terms == 2 ? 0x1p-21 : 0x1p-11) + 16 * 0x1p-24);
    }
}

// tests/run.sh asks a software device for other widths than its own.
TEST_CASE("subgroups are as wide as asked for" * doctest::skip(!std::getenv("GPTOSS_TEST_SUBGROUP"))) {
    CHECK(std::to_string(gpu().device.info().subgroup_size) == std::getenv("GPTOSS_TEST_SUBGROUP"));
}
