// Shapes of workgroups for the kernels that multiply weight tiles.
#pragma once

#include "kernels/harness.h"
#include "spirv.h"

namespace gptoss::test {

// A shape of workgroup and a batch for it.
struct Launch {
    uint32_t lanes, splits, tokens, n_tokens;
    uint32_t row_groups = 0;  // not 0: of cooperative matrices, by subgroups of `lanes`, each a split
    bool integer = false;     // of integers

    std::vector<uint32_t> constants(uint32_t weight, const std::vector<uint32_t>& more = {}) const {
        std::vector<uint32_t> c = {lanes * splits, lanes, tokens, weight};
        c.insert(c.end(), more.begin(), more.end());
        if (row_groups) {
            const vk::CoopmatShape& s = gpu().device.info().coopmat;
            for (size_t i = c.size(); i < 6; i++) c.push_back(i == 5);
            c.insert(c.end(), {s.m, s.n, s.k, row_groups});
        }
        return c;
    }
    // Of sums of n products whose activations were rounded to float16 unless they have two terms, and whose weights
    // were too if float16 is too short for them.
    double tolerance(uint32_t weight, double n, uint32_t terms = 1) const {
        if (!row_groups) return sum_tolerance(n);
        const double rounded = (terms == 1) + (weight == WEIGHT_F32 || weight == WEIGHT_Q8);
        return half_tolerance(n, rounded) + (terms == 2 ? 0x1p-21 : 0);
    }
    uint32_t token_groups() const { return (n_tokens + tokens - 1) / tokens; }
    std::string describe(uint32_t weight, uint32_t rows, uint32_t cols) const {
        const auto text = [](uint32_t n) { return std::to_string(n); };
        return "weight " + text(weight) + ", lanes " + text(lanes) + ", splits " + text(splits) + ", tokens " +
               text(tokens) + " of " + text(n_tokens) + ", row groups " + text(row_groups) + ", " + text(rows) + " x " +
               text(cols);
    }
};

// n of the pairs of lanes and splits, the first by chance, each with another number of tokens that share a weight read
// and a batch whose last group is mostly not full. Building a pipeline takes longer than running it, so that a run
// tests some of the combinations, and other runs others.
inline std::vector<Launch> launches(Random& random, uint32_t n) {
    std::vector<Launch> chosen;
    const uint32_t first = random.below(8), turn = random.below(4);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t pair = (first + i * 8 / n + i) % 8, tokens = 1u << (i + turn) % 4;
        chosen.push_back({pair % 2 ? 64u : 32u, 1u << pair / 2, tokens, 1 + random.below(2 * tokens)});
    }
    return chosen;
}

// As a processor's device has it for the rows of a decode step.
inline Launch many_tokens(Random& random) {
    const uint32_t tokens = random.pick({12u, 16u});
    return {random.pick({32u, 64u}), random.pick({1u, 2u}), tokens, 1 + random.below(2 * tokens)};
}

// n launches of cooperative matrices, each in another shape; none where the device or this build has no such kernels.
inline std::vector<Launch> coopmat_launches(Random& random, uint32_t n, uint32_t terms = 1) {
    const vk::CoopmatShape& s = gpu().device.info().coopmat;
    std::vector<Launch> chosen;
    if (s.m == 0 || spirv("attn_qkv_coopmat").empty()) return chosen;
    const uint32_t first = random.below(6);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t at = (first + i * 5) % 6, row_groups = 32 / s.m >> at % 2;
        // small matrices take many subgroups, or a driver builds the kernel for minutes
        const uint32_t splits = std::min((128 / s.subgroup) << at / 3, 256 / s.subgroup);
        uint32_t tokens = std::max(32u << at % 3, splits / row_groups * s.n);
        const auto shared = [&] {
            return (64 + terms * tokens) * 80 + splits * 2 * s.m * s.n * 4 + 32 / s.m * tokens * 4;
        };
        while (shared() > gpu().device.info().shared_memory) tokens /= 2;
        if (tokens < splits / row_groups * s.n) continue;
        chosen.push_back({s.subgroup, splits, tokens, 1 + random.below(2 * tokens), row_groups});
    }
    return chosen;
}

// n launches of integers; none where the device has no dot products of them.
inline std::vector<Launch> integer_launches(Random& random, uint32_t n) {
    if (!gpu().device.info().integer_dot) return {};
    std::vector<Launch> chosen = launches(random, n);
    for (Launch& l : chosen) l.integer = true;
    const uint32_t widest = random.below(n);  // as the model has them
    chosen[widest].tokens = 16;
    chosen[widest].n_tokens = 1 + random.below(40);
    return chosen;
}

// Rows of activations as the kernels of cooperative matrices read them.
struct HalfRows {
    HalfRows(const args::Input& input, const Matrix& w, uint32_t terms = 1) : HalfRows(input, largest(w), terms) {}
    HalfRows(const args::Input& from, double largest_weight, uint32_t terms = 1)
        : halves(size_t{terms} * from.n_tokens * from.cols / 2), scales(from.n_tokens) {
        run("dense_halve", {64, 32}, args::HalveArgs{from, halves.address(), scales.address(), terms}, from.n_tokens);
        const auto scale = static_cast<float>(std::exp2(3 - std::floor(std::log2(largest_weight))));
        args = {halves.address(), scales.address(), from.cols, from.n_tokens, scale, 1 / scale};
    }
    static double largest(const Matrix& w) {
        double result = 0;
        for (double v : w.values) result = std::max(result, std::abs(v));
        return result;
    }
    Array<uint32_t> halves;
    Array<float> scales;
    args::HalfInput args;
};

// n * m rows of activations as the kernels of integers read them.
struct IntegerRows {
    IntegerRows(const args::Input& from, uint32_t n, uint32_t m = 1)
        : bytes(size_t{n} * m * from.cols / 2), scales(size_t{n} * m * from.cols / 32) {
        run("dense_round", {64, 32}, args::RoundArgs{from, bytes.address(), scales.address()}, n, m);
        args = {bytes.address(), scales.address(), from.cols};
    }
    // What they are, exactly: (n * m, cols).
    std::vector<double> read() const {
        const std::vector<uint32_t> words = bytes.read();
        const std::vector<float> block_scales = scales.read();
        std::vector<double> values(block_scales.size() * 32);
        for (size_t i = 0; i < values.size(); i++) {
            const size_t at = i / 32 * 16 + i % 2 * 4 + i % 32 / 8, shift = i % 8 / 2 * 8;
            const auto digit = [&](size_t word) { return static_cast<int8_t>(words[word] >> shift); };
            values[i] = (256.0 * digit(at) + digit(at + 8)) * block_scales[i / 32];
        }
        return values;
    }
    Array<uint32_t> bytes;
    Array<float> scales;
    args::IntegerInput args;
};

// Row r of a matrix times at(column).
template <typename Input>
Exact product(const Matrix& w, uint32_t row, const Input& at) {
    Exact sum;
    for (uint32_t c = 0; c < w.cols; c++) sum.add(w.at(row, c) * at(c));
    return sum;
}

}  // namespace gptoss::test
