// Shapes of workgroups for the kernels that multiply weight tiles.
#pragma once

#include "kernels/harness.h"

namespace gptoss::test {

// A shape of workgroup and a batch for it.
struct Launch {
    uint32_t lanes, splits, tokens, n_tokens;

    std::vector<uint32_t> constants(uint32_t weight, const std::vector<uint32_t>& more = {}) const {
        std::vector<uint32_t> c = {lanes * splits, lanes, tokens, weight};
        c.insert(c.end(), more.begin(), more.end());
        return c;
    }
    uint32_t token_groups() const { return (n_tokens + tokens - 1) / tokens; }
    std::string describe(uint32_t weight, uint32_t rows, uint32_t cols) const {
        const auto text = [](uint32_t n) { return std::to_string(n); };
        return "weight " + text(weight) + ", lanes " + text(lanes) + ", splits " + text(splits) + ", tokens " +
               text(tokens) + " of " + text(n_tokens) + ", " + text(rows) + " x " + text(cols);
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

// Row r of a matrix times at(column).
template <typename Input>
Exact product(const Matrix& w, uint32_t row, const Input& at) {
    Exact sum;
    for (uint32_t c = 0; c < w.cols; c++) sum.add(w.at(row, c) * at(c));
    return sum;
}

}  // namespace gptoss::test
