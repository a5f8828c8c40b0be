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

// Every pair of lanes and splits, each with another number of tokens that share a weight read (`turn` moves on which),
// and a batch whose last group is mostly not full.
inline std::vector<Launch> launches(Random& random, uint32_t turn) {
    std::vector<Launch> all;
    for (uint32_t lanes : {32u, 64u})
        for (uint32_t splits : {1u, 2u, 4u, 8u}) {
            const uint32_t tokens = 1u << (all.size() + all.size() / 4 + turn) % 4;
            all.push_back({lanes, splits, tokens, 1 + random.below(2 * tokens)});
        }
    return all;
}

// Row r of a matrix times at(column).
template <typename Input>
Exact product(const Matrix& w, uint32_t row, const Input& at) {
    Exact sum;
    for (uint32_t c = 0; c < w.cols; c++) sum.add(w.at(row, c) * at(c));
    return sum;
}

}  // namespace gptoss::test
