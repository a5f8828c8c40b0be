// The kernels of adapters: shrink, and the additions to queries, keys and values, to the residual and to biases.
#include <algorithm>
#include <memory>

#include "kernels/launch.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

constexpr uint32_t kNoRank = 0;

// A low-rank pair as kernels read it, and its values.
struct Pair {
    Pair(Random& random, uint32_t of_rank, uint32_t out_rows, uint32_t in_cols)
        : rank(of_rank), rows(out_rows), cols(in_cols), weight(random.pick({WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16})) {
        const auto fill = [&](std::vector<double>& values, size_t n, double deviation, std::vector<uint16_t>& halves,
                              std::vector<float>& floats) {
            for (size_t i = 0; i < n; i++) {
                // float16 subnormals are among them
                const float value = random.normal(deviation) * (random.below(4) ? 1 : 1e-6f);
                uint32_t bits;
                std::memcpy(&bits, &value, 4);
                const uint16_t half = weight == WEIGHT_F16 ? to_f16(value) : static_cast<uint16_t>(bits >> 16);
                bits = uint32_t{half} << 16;
                float bf16;
                std::memcpy(&bf16, &bits, 4);
                values.push_back(weight == WEIGHT_F32 ? value : weight == WEIGHT_F16 ? from_f16(half) : double{bf16});
                halves.push_back(half);
                floats.push_back(value);
            }
        };
        std::vector<uint16_t> a_halves, b_halves;
        std::vector<float> a_floats, b_floats;
        fill(a, size_t{rank} * cols, 0.3, a_halves, a_floats);
        fill(b, size_t{rows} * rank, 0.5, b_halves, b_floats);
        // B by tiles: rows i and i + 32 side by side; rows past the last are zeros
        const size_t padded = size_t{tile_count(rows)} * 64 * rank;
        std::vector<uint16_t> b_half_tiles(padded);
        std::vector<float> b_float_tiles(padded);
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t k = 0; k < rank; k++) {
                const size_t to = (size_t{r / 64} * rank + k) * 64 + r % 32 * 2 + r % 64 / 32;
                b_half_tiles[to] = b_halves[r * rank + k];
                b_float_tiles[to] = b_floats[r * rank + k];
            }
        a_words = words(a_halves, a_floats);
        b_words = words(b_half_tiles, b_float_tiles);
        scale = random.normal();
        a_array = std::make_unique<Array<uint32_t>>(a_words);
        b_array = std::make_unique<Array<uint32_t>>(b_words);
    }
    args::LoraPair args() const {
        if (rank == kNoRank) return {};
        return {a_array->address(), b_array->address(), scale, rank, weight, 0};
    }

    uint32_t rank, rows, cols, weight;
    std::vector<double> a, b;  // (rank, cols), (rows, rank)
    float scale;

  private:
    std::vector<uint32_t> words(const std::vector<uint16_t>& halves, const std::vector<float>& floats) const {
        std::vector<uint32_t> out((weight == WEIGHT_F32 ? 4 : 2) * halves.size() / 4);
        const void* from = weight == WEIGHT_F32 ? static_cast<const void*>(floats.data()) : halves.data();
        if (!out.empty()) std::memcpy(out.data(), from, out.size() * 4);
        return out;
    }
    std::vector<uint32_t> a_words, b_words;
    std::unique_ptr<Array<uint32_t>> a_array, b_array;
};

constexpr uint32_t kAdapters = 3;

// Adapters with pairs of any rank, some of none, and tokens with one of them or none.
struct Company {
    // of each adapter, pairs of these rows: all of `cols` columns
    Company(Random& random, uint32_t n_tokens, const std::vector<uint32_t>& rows, uint32_t cols)
        : n_pairs(rows.size()) {
        std::vector<args::LoraRow> row_args;
        for (uint32_t adapter = 0; adapter < kAdapters; adapter++) {
            std::vector<args::LoraPair> of_adapter(kBefore);
            for (const uint32_t n : rows) {
                const uint32_t rank = random.below(4) ? 1 + random.below(max_rank) : kNoRank;
                pairs.push_back(std::make_unique<Pair>(random, rank, n, cols));
                of_adapter.push_back(pairs.back()->args());
            }
            tables.push_back(std::make_unique<Array<args::LoraPair>>(of_adapter));
            scales.push_back(random.normal());
            row_args.push_back({tables.back()->address(), scales.back(), 0});
        }
        rows_array = std::make_unique<Array<args::LoraRow>>(row_args);
        for (uint32_t t = 0; t < n_tokens; t++) tokens.push_back({0, 0, 0, t == 0 ? 1 : random.below(kAdapters + 1)});
        place_tokens();
    }
    void place_tokens() { token_array = std::make_unique<Array<args::Token>>(tokens); }
    // The pair of a token; NULL where it has none.
    const Pair* pair(uint32_t token, size_t index) const {
        const uint32_t adapter = tokens[token].adapter;
        if (adapter == 0) return nullptr;
        const Pair& p = *pairs[(adapter - 1) * n_pairs + index];
        return p.rank == kNoRank ? nullptr : &p;
    }
    args::Lora args(uint64_t shrunk) const {
        return {token_array->address(), rows_array->address(), shrunk, kBefore, max_rank};
    }

    static constexpr uint32_t kBefore = 2;  // pairs of other matrices
    const size_t n_pairs;
    const uint32_t max_rank = 24;
    std::vector<std::unique_ptr<Pair>> pairs;
    std::vector<std::unique_ptr<Array<args::LoraPair>>> tables;
    std::vector<float> scales;
    std::vector<args::Token> tokens;
    std::unique_ptr<Array<args::LoraRow>> rows_array;
    std::unique_ptr<Array<args::Token>> token_array;
};

// shrunk, (rows, max_rank), of what shrink must leave there and must not: guard words are NaN.
void check_shrunk(const std::vector<float>& got, const std::vector<std::vector<Exact>>& expected, uint32_t max_rank,
                  uint32_t cols) {
    std::vector<float> written;
    std::vector<Exact> exact;
    size_t touched = 0;
    for (size_t row = 0; row < expected.size(); row++)
        for (size_t k = 0; k < max_rank; k++) {
            const float value = got[row * max_rank + k];
            if (k >= expected[row].size()) {
                touched += !std::isnan(value);
                continue;
            }
            written.push_back(value);
            exact.push_back(expected[row][k]);
        }
    CHECK(touched == 0);
    check_close(written, exact, sum_tolerance(cols));
}

template <typename X>
std::vector<Exact> shrunk_row(const Pair* pair, float scale, const X& x) {
    std::vector<Exact> out;
    for (uint32_t k = 0; pair && k < pair->rank; k++) {
        out.emplace_back();
        for (uint32_t c = 0; c < pair->cols; c++) out.back().add(pair->a[size_t{k} * pair->cols + c] * x(c));
        out.back().scale(double{scale} * pair->scale);
    }
    return out;
}

// Row `row` of B times a row of shrunk.
void add_expanded(Exact& sum, const Pair* pair, uint32_t row, const float* shrunk, double by = 1) {
    for (uint32_t k = 0; pair && k < pair->rank; k++) sum.add(by * pair->b[size_t{row} * pair->rank + k] * shrunk[k]);
}

}  // namespace

TEST_CASE("lora: shrink, of the input of several matrices") {
    Random random(60);
    for (const uint32_t cols : {32u, 96u, 2880u}) {
        const uint32_t n_tokens = 1 + random.below(9), pairs = 1 + random.below(3);
        CAPTURE(cols);
        const Company company(random, n_tokens, std::vector<uint32_t>(pairs, 64), cols);
        const NormedInput input(random, n_tokens, cols);
        const Array<float> shrunk(size_t{n_tokens} * pairs * company.max_rank);
        run("lora_shrink", {64, 32},
            args::LoraShrinkArgs{company.args(shrunk.address()), input.args(), 0, 0, 0, 0, 0, 0, 1},
            company.max_rank / 4, n_tokens, pairs);
        std::vector<std::vector<Exact>> expected;
        for (uint32_t t = 0; t < n_tokens; t++)
            for (uint32_t p = 0; p < pairs; p++) {
                const uint32_t adapter = company.tokens[t].adapter;
                expected.push_back(shrunk_row(company.pair(t, p), adapter ? company.scales[adapter - 1] : 0,
                                              [&](uint32_t c) { return input.at(t, c); }));
            }
        check_shrunk(shrunk.read(), expected, company.max_rank, cols);
    }
}

TEST_CASE("lora: shrink, of experts, by token and by slot, in float16 too") {
    Random random(61);
    const uint32_t n_experts = 4, k = 2, cols = 96;
    for (const bool by_slot : {false, true})
        for (const bool grouped : {false, true})
            for (const bool halves : {false, true}) {
                if (!by_slot && (grouped || halves)) continue;
                CAPTURE(by_slot);
                CAPTURE(grouped);
                CAPTURE(halves);
                const uint32_t n_tokens = 1 + random.below(7), n_slots = n_tokens * k;
                const Company company(random, n_tokens, std::vector<uint32_t>(n_experts, 64), cols);
                std::vector<uint32_t> experts(n_slots), slots(n_slots);
                for (uint32_t s = 0; s < n_slots; s++) {
                    experts[s] = random.below(n_experts);
                    slots[s] = (s * 3 + 1) % n_slots;
                }
                if (n_slots % 3 == 0)
                    for (uint32_t s = 0; s < n_slots; s++) slots[s] = n_slots - 1 - s;
                const uint32_t x_rows = by_slot ? n_slots : n_tokens;
                std::vector<float> x = random.normals(size_t{x_rows} * cols);
                const float x_scale = halves ? 0.25f : 1;
                std::vector<uint32_t> words(x.size());
                std::memcpy(words.data(), x.data(), x.size() * 4);
                if (halves) {
                    words.resize(x.size() / 2);
                    for (size_t i = 0; i < x.size(); i++) {
                        const uint16_t half = to_f16(x[i]);
                        words[i / 2] = i % 2 ? words[i / 2] | uint32_t{half} << 16 : half;
                        x[i] = static_cast<float>(from_f16(half) * x_scale);
                    }
                }
                const Array<uint32_t> x_array(words), expert_array(experts), slot_array(slots);
                const Array<float> shrunk(size_t{n_slots} * company.max_rank);
                run("lora_shrink", {64, 32},
                    args::LoraShrinkArgs{company.args(shrunk.address()),
                                         {x_array.address(), 0, 0, cols, n_tokens, 0},
                                         expert_array.address(),
                                         grouped ? slot_array.address() : 0,
                                         k,
                                         by_slot,
                                         grouped,
                                         halves,
                                         x_scale},
                    company.max_rank / 4, n_tokens, k);
                std::vector<std::vector<Exact>> expected(n_slots);
                for (uint32_t i = 0; i < n_slots; i++) {
                    const uint32_t slot = grouped ? slots[i] : i, token = slot / k, row = by_slot ? i : token;
                    const uint32_t adapter = company.tokens[token].adapter;
                    expected[slot] =
                        shrunk_row(company.pair(token, experts[slot]), adapter ? company.scales[adapter - 1] : 0,
                                   [&](uint32_t c) { return double{x[size_t{row} * cols + c]}; });
                }
                check_shrunk(shrunk.read(), expected, company.max_rank, cols);
            }
}

TEST_CASE("lora: residual, of a matrix and of weighted experts") {
    Random random(62);
    for (const uint32_t k : {0u, 1u, 3u})
        for (const uint32_t hidden : {32u, 96u, 160u}) {
            CAPTURE(k);
            CAPTURE(hidden);
            const uint32_t n_experts = k ? 4 : 1, choices = std::max(k, 1u), n_tokens = 1 + random.below(6);
            Company company(random, n_tokens, std::vector<uint32_t>(n_experts, hidden), 32);
            std::vector<uint32_t> experts(size_t{n_tokens} * choices);
            for (uint32_t& e : experts) e = random.below(n_experts);
            const std::vector<float> weights = random.normals(experts.size());
            const std::vector<float> shrunk = random.normals(experts.size() * company.max_rank);
            const Array<float> shrunk_array(shrunk), weight_array(weights);
            const Array<uint32_t> expert_array(experts);
            const ResidualOutput residual(random, n_tokens, hidden);
            run("lora_residual", {},
                args::LoraResidualArgs{company.args(shrunk_array.address()), residual.args(), expert_array.address(),
                                       weight_array.address(), k},
                tile_count(hidden), n_tokens);
            const std::vector<float> x = residual.x.read(), normed = residual.normed.read(),
                                     squares = residual.squares.read();
            for (uint32_t t = 0; t < n_tokens; t++) {
                CAPTURE(t);
                std::vector<Exact> after, products;
                std::vector<double> sums(tile_count(hidden));
                bool any = false;
                for (uint32_t j = 0; j < choices; j++) any |= company.pair(t, k ? experts[t * k + j] : 0) != nullptr;
                for (uint32_t r = 0; r < hidden; r++) {
                    after.emplace_back();
                    after.back().add(residual.before[size_t{t} * hidden + r]);
                    for (uint32_t j = 0; j < choices; j++)
                        add_expanded(after.back(), company.pair(t, k ? experts[t * k + j] : 0), r,
                                     &shrunk[(size_t{t} * choices + j) * company.max_rank], k ? weights[t * k + j] : 1);
                    const float now = x[size_t{t} * hidden + r];
                    products.emplace_back();
                    products.back().add(double{now} * residual.norm_values[r]);
                    sums[r / 64] += double{now} * now;
                }
                const auto row = [&](const std::vector<float>& of, size_t width, size_t n) {
                    return std::vector<float>(of.begin() + static_cast<ptrdiff_t>(t * width),
                                              of.begin() + static_cast<ptrdiff_t>(t * width + n));
                };
                check_close(row(x, hidden, hidden), after, sum_tolerance(24.0 * choices));
                if (any) {
                    check_close(row(normed, hidden, hidden), products, 0x1p-23);
                    std::vector<Exact> exact;
                    for (const double sum : sums) exact.push_back({sum, sum});
                    check_close(row(squares, residual.n_squares, sums.size()), exact, sum_tolerance(64));
                } else {  // as they were: nothing was written
                    for (const float value : row(normed, hidden, hidden)) CHECK(std::isnan(value));
                    for (const float value : row(squares, residual.n_squares, sums.size())) CHECK(std::isnan(value));
                }
            }
        }
}

TEST_CASE("lora: the biases of gate_up") {
    Random random(63);
    for (const uint32_t tiles : {1u, 3u}) {
        const uint32_t k = 2, n_experts = 3, n_tokens = 1 + random.below(6), rows = tiles * 64;
        const Company company(random, n_tokens, std::vector<uint32_t>(n_experts, rows), 32);
        std::vector<uint32_t> experts(size_t{n_tokens} * k);
        for (uint32_t& e : experts) e = random.below(n_experts);
        const std::vector<float> bias = random.normals(size_t{n_experts} * rows);
        const std::vector<float> shrunk = random.normals(experts.size() * company.max_rank);
        const Array<float> shrunk_array(shrunk), bias_array(bias), y(experts.size() * rows);
        const Array<uint32_t> expert_array(experts);
        run("lora_gate_up", {},
            args::LoraGateUpArgs{company.args(shrunk_array.address()), bias_array.address(), expert_array.address(),
                                 y.address()},
            tiles, n_tokens, k);
        std::vector<Exact> expected;
        for (size_t i = 0; i < experts.size(); i++)
            for (uint32_t r = 0; r < rows; r++) {
                expected.emplace_back();
                expected.back().add(bias[experts[i] * rows + r]);
                add_expanded(expected.back(), company.pair(static_cast<uint32_t>(i / k), experts[i]), r,
                             &shrunk[i * company.max_rank]);
            }
        check_close(y.read(), expected, sum_tolerance(24));
    }
}

TEST_CASE("lora: queries, keys and values") {
    Random random(64);
    for (const bool kv_f16 : {false, true}) {
        CAPTURE(kv_f16);
        const uint32_t n_heads = 4, n_kv_heads = 2, n_tokens = 1 + random.below(6), slots = 16, max_position = 600;
        Company company(random, n_tokens, {n_heads * 64, n_kv_heads * 64, n_kv_heads * 64}, 32);
        // angles of position p: 256 * (p / 256), and p % 256
        std::vector<float> rope;
        const uint32_t coarse = max_position / 256 + 1;
        const auto add = [&](double position, double by) {
            for (uint32_t i = 0; i < 32; i++) {
                const double angle = position * std::pow(1000.0, -double(i) / 32);
                rope.push_back(static_cast<float>(by * std::cos(angle)));
                rope.push_back(static_cast<float>(by * std::sin(angle)));
            }
        };
        for (uint32_t p = 0; p < coarse; p++) add(256.0 * p, 1.25);
        for (uint32_t p = 0; p < 256; p++) add(p, 1);
        // one ring; keys, then values
        const uint32_t cache_rows = slots * n_kv_heads;
        std::vector<uint32_t> before(size_t{2} * cache_rows * (kv_f16 ? 32 : 64));
        for (uint32_t& word : before) {
            const float value = random.normal();
            std::memcpy(&word, &value, 4);
            if (kv_f16) word = to_f16(random.normal()) | uint32_t{to_f16(random.normal())} << 16;
        }
        // the tokens' ring positions are all different
        for (uint32_t t = 0; t < n_tokens; t++) company.tokens[t].position = 512 + t * 13;
        company.place_tokens();
        const Array<uint32_t> segment(before);
        const Array<uint64_t> list(std::vector<uint64_t>{segment.address()});
        const Array<args::Cache> caches(std::vector<args::Cache>{{list.address(), slots, 1, 0, cache_rows}});
        const std::vector<float> q_before = random.normals(size_t{n_tokens} * n_heads * 64);
        const std::vector<float> shrunk = random.normals(size_t{n_tokens} * 3 * company.max_rank);
        const Array<float> q(q_before), rope_array(rope), shrunk_array(shrunk);
        run("lora_qkv", {kv_f16},
            args::LoraQkvArgs{company.args(shrunk_array.address()), rope_array.address(), caches.address(), q.address(),
                              n_heads, n_kv_heads, coarse},
            n_heads + 2 * n_kv_heads, n_tokens);

        std::vector<float> got = q.read();
        const std::vector<uint32_t> after = segment.read();
        std::vector<Exact> expected(got.size());
        for (size_t i = 0; i < got.size(); i++) expected[i].add(q_before[i]);
        const auto cached = [&](const std::vector<uint32_t>& words, uint32_t row, uint32_t i) {
            const size_t word = size_t{row} * 32 + i % 32;
            if (kv_f16) return from_f16(static_cast<uint16_t>(words[word] >> (i / 32 * 16)));
            float value;
            std::memcpy(&value, &words[2 * word + i / 32], 4);
            return double{value};
        };
        std::vector<float> got_cache;
        std::vector<Exact> expected_cache;
        for (uint32_t row = 0; row < 2 * cache_rows; row++)
            for (uint32_t i = 0; i < 64; i++) {
                got_cache.push_back(static_cast<float>(cached(after, row, i)));
                expected_cache.emplace_back();
                expected_cache.back().add(cached(before, row, i));
            }
        for (uint32_t t = 0; t < n_tokens; t++)
            for (uint32_t which = 0; which < 3; which++) {
                const Pair* pair = company.pair(t, which);
                const uint32_t position = company.tokens[t].position;
                for (uint32_t head = 0; pair && head < (which == 0 ? n_heads : n_kv_heads); head++)
                    for (uint32_t i = 0; i < 32; i++) {
                        Exact x, y;
                        const float* row = &shrunk[(size_t{t} * 3 + which) * company.max_rank];
                        add_expanded(x, pair, head * 64 + i, row);
                        add_expanded(y, pair, head * 64 + i + 32, row);
                        if (which < 2) {
                            const double angle = position * std::pow(1000.0, -double(i) / 32);
                            const double cosine = 1.25 * std::cos(angle), sine = 1.25 * std::sin(angle);
                            const double magnitude = 1.25 * (x.magnitude + y.magnitude);
                            const Exact old = x;
                            x = {old.value * cosine - y.value * sine, magnitude};
                            y = {y.value * cosine + old.value * sine, magnitude};
                        }
                        const auto sum = [](Exact& to, Exact value, double by) {
                            to.value += by * value.value;
                            to.magnitude += by * value.magnitude;
                        };
                        if (which == 0) {
                            const size_t at = (size_t{t} * n_heads + head) * 64 + i;
                            sum(expected[at], x, 0.125);
                            sum(expected[at + 32], y, 0.125);
                        } else {
                            const size_t cache_row =
                                (which == 1 ? 0 : cache_rows) + position % slots * n_kv_heads + head;
                            sum(expected_cache[cache_row * 64 + i], x, 1);
                            sum(expected_cache[cache_row * 64 + i + 32], y, 1);
                        }
                    }
            }
        const double tolerance = sum_tolerance(24) + 8 * 0x1p-24;
        check_close(got, expected, tolerance);
        // storing as float16 rounds the value itself
        for (Exact& e : expected_cache) e.magnitude += kv_f16 ? (std::abs(e.value) + 0x1p-13) * 0x1p-11 / tolerance : 0;
        check_close(got_cache, expected_cache, tolerance);
    }
}
