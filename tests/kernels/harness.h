// What the tests of kernels share: the device, arrays between guard words, random data, and comparison with float64.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "args.h"
#include "vk/commands.h"

namespace gptoss::test {

struct Gpu {
    Gpu();
    vk::Device device;
    vk::Pipelines kernels;
    vk::Commands commands;
};

// The device that GPTOSS_TEST_DEVICE names, or the most capable one.
Gpu& gpu();

template <typename Args>
void run(const std::string& kernel, const std::vector<uint32_t>& constants, const Args& args, uint32_t x,
         uint32_t y = 1, uint32_t z = 1) {
    Gpu& g = gpu();
    // the kernels of cooperative matrices name their subgroup's size
    const uint32_t subgroup = kernel.ends_with("_coopmat") ? g.device.info().coopmat.subgroup : 0;
    g.commands.begin();
    g.commands.dispatch(g.kernels.get(kernel, constants, subgroup), args, x, y, z);
    g.commands.finish();
}

// As a float it is a NaN, so that a kernel that reads what is not its own, or leaves a word unwritten, shows.
constexpr uint32_t kGuardWord = 0x7fc5a5a5;

// An array that kernels reach, between guard words.
template <typename T>
class Array {
    static constexpr size_t kGuards = 64;  // words on either side
    static_assert(sizeof(T) % 4 == 0);

  public:
    explicit Array(const std::vector<T>& values) : Array(values.size()) {
        std::memcpy(buffer_.data() + kGuards * 4, values.data(), bytes());
    }
    // Every word a guard word.
    explicit Array(size_t size)
        : size_(size), buffer_(gpu().device, bytes() + 2 * kGuards * 4, vk::Memory::Readback, "a test's array") {
        std::fill_n(buffer_.as<uint32_t>(), buffer_.size() / 4, kGuardWord);
    }
    uint64_t address() const { return buffer_.address() + kGuards * 4; }
    uint64_t address(size_t index) const { return address() + index * sizeof(T); }

    // Checks the guard words too.
    std::vector<T> read() const {
        const uint32_t* words = buffer_.as<uint32_t>();
        size_t broken = 0;
        for (size_t i = 0; i < kGuards; i++)
            broken += (words[i] != kGuardWord) + (words[kGuards + bytes() / 4 + i] != kGuardWord);
        CHECK_MESSAGE(broken == 0, "a kernel wrote outside its array");
        std::vector<T> values(size_);
        std::memcpy(values.data(), buffer_.data() + kGuards * 4, bytes());
        return values;
    }

  private:
    size_t bytes() const { return size_ * sizeof(T); }
    size_t size_;
    vk::Buffer buffer_;
};

// Fresh numbers in every run; the seed is printed where a test fails and can be set by GPTOSS_TEST_SEED.
class Random {
  public:
    static uint64_t seed();
    explicit Random(uint64_t stream) : engine_(seed() * 1000003 + stream) {}

    uint32_t below(uint32_t n) { return static_cast<uint32_t>(engine_() % n); }
    bool coin() { return below(2); }
    float normal(double deviation = 1) {
        return static_cast<float>(std::normal_distribution<double>(0, deviation)(engine_));
    }
    std::vector<float> normals(size_t n, double deviation = 1) {
        std::vector<float> v(n);
        for (float& x : v) x = normal(deviation);
        return v;
    }
    template <typename T>
    T pick(std::initializer_list<T> choices) {
        return choices.begin()[below(static_cast<uint32_t>(choices.size()))];
    }

  private:
    std::mt19937_64 engine_;
};

// A matrix as kernels read it (see weights.glsl), and what its weights are exactly.
struct Matrix {
    uint32_t rows, cols;
    std::vector<double> values;  // (rows, cols)
    std::vector<uint32_t> tiles;
    double at(uint32_t row, uint32_t col) const { return values[size_t{row} * cols + col]; }
};

Matrix random_matrix(Random& random, uint32_t rows, uint32_t cols, uint32_t weight);

// A float64 result and the sum of the magnitudes that went into it, which bounds what rounding can do.
struct Exact {
    double value = 0, magnitude = 0;
    void add(double term) {
        value += term;
        magnitude += std::abs(term);
    }
    void scale(double by) {
        value *= by;
        magnitude *= std::abs(by);
    }
};

// Errors of a float32 sum of n products: each addition rounds by at most 2^-24 of the sum so far; the signs are random,
// so that they add up as their root.
inline double sum_tolerance(double n) { return (4 * std::sqrt(n) + 16) * 0x1p-24; }

// The same where the terms' factors were rounded to float16, each by at most 2^-11, in random directions: `rounded` of
// the two of a term. Where all weigh alike, errors add up to less than this but once in 10^15.
inline double half_tolerance(double n, double rounded) {
    return std::min(rounded, std::sqrt(rounded) * 6 / std::sqrt(n)) * 0x1p-11 + sum_tolerance(n);
}

// Fails once, with the worst element, if any differs by more than tolerance times its magnitude.
void check_close(const std::vector<float>& got, const std::vector<Exact>& expected, double tolerance);

// The input of a kernel that norms: rows of x times the norm's weight, and their sums of squares by tile.
struct NormedInput {
    NormedInput(Random& random, uint32_t n_tokens, uint32_t cols);
    args::Input args() const;
    double at(uint32_t token, uint32_t col) const { return values[size_t{token} * n_cols + col] * scales[token]; }
    std::vector<double> all() const {
        std::vector<double> rows(values.begin(), values.end());
        for (size_t i = 0; i < rows.size(); i++) rows[i] *= scales[i / n_cols];
        return rows;
    }

    uint32_t n_tokens, n_cols, n_squares;
    std::vector<float> values;
    std::vector<double> scales;  // 1 / sqrt(mean square + eps)
    Array<float> x, squares;
};

// Columns of the table of sums of squares.
inline uint32_t square_count(uint32_t hidden) { return ((hidden + 63) / 64 + 3) / 4 * 4; }
inline uint32_t tile_count(uint32_t rows) { return (rows + 63) / 64; }

// The residual that a kernel adds to.
struct ResidualOutput {
    ResidualOutput(Random& random, uint32_t n_tokens, uint32_t hidden);
    args::Residual args() const;
    // after: the new residual, (T, H)
    void check(const std::vector<Exact>& after, double tolerance) const;

    uint32_t n_tokens, hidden, n_squares;
    std::vector<float> before, norm_values;
    Array<float> x, normed, squares, norm;
};

double from_f16(uint16_t bits);
uint16_t to_f16(double value);

}  // namespace gptoss::test
