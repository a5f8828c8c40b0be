// The kernels of the experts: topk and group, gate_up and down one token at a time, gate_up, down_slots and merge for a
// batch that is grouped by expert.
#include <algorithm>
#include <numeric>

#include "kernels/launch.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

struct Choice {
    std::vector<uint32_t> experts;
    std::vector<double> weights;
};

// The k largest logits, ties to the lower index, and the softmax over them alone.
Choice choose(const float* logits, uint32_t n_experts, uint32_t k) {
    std::vector<uint32_t> order(n_experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
    order.resize(k);
    Choice choice{order, {}};
    double sum = 0;
    for (uint32_t e : order) sum += std::exp(double{logits[e]} - logits[order[0]]);
    for (uint32_t e : order) choice.weights.push_back(std::exp(double{logits[e]} - logits[order[0]]) / sum);
    return choice;
}

// Router logits, half of the tokens' with many ties.
std::vector<float> router_logits(Random& random, uint32_t n_tokens, uint32_t n_experts) {
    std::vector<float> logits(size_t{n_tokens} * n_experts);
    for (size_t i = 0; i < logits.size(); i++)
        logits[i] = i / n_experts % 2 ? static_cast<float>(random.below(4)) - 2 : random.normal(3);
    return logits;
}

constexpr uint32_t kUsesBefore = 0xfffffffd;  // counts go round

struct Routes {
    Routes(const std::vector<float>& values, uint32_t n_tokens, uint32_t n_experts, uint32_t k, uint32_t tile_slots)
        : n_tiles(n_tokens * k / tile_slots + std::min(n_experts, n_tokens * k)),
          logits(values),
          slots(n_tokens * k),
          weights(n_tokens * k),
          experts(n_tokens * k),
          tiles(n_tiles * 3),
          uses(std::vector<uint32_t>(n_experts, kUsesBefore)),
          args{logits.address(),
               slots.address(),
               weights.address(),
               tiles.address(),
               experts.address(),
               uses.address(),
               n_tokens,
               n_experts,
               k,
               tile_slots,
               n_tiles} {
        run("moe_topk", {k}, args, n_tokens);
        run("moe_group", {}, args, 1);
    }
    uint32_t n_tiles;
    Array<float> logits;
    Array<uint32_t> slots;
    Array<float> weights;
    Array<uint32_t> experts, tiles, uses;
    args::RouteArgs args;
};

// Experts with weights and biases of their own.
struct ExpertSet {
    ExpertSet(Random& random, uint32_t n_experts, uint32_t hidden, uint32_t width)
        : gate_up_bias(random.normals(size_t{n_experts} * width * 2)),
          down_bias(random.normals(size_t{n_experts} * tile_count(hidden) * 64)),
          gate_up_bias_array(gate_up_bias),
          down_bias_array(down_bias) {
        std::vector<args::Expert> entries;
        for (uint32_t e = 0; e < n_experts; e++) {
            gate_up.push_back(random_matrix(random, 2 * width, hidden, WEIGHT_MXFP4));
            down.push_back(random_matrix(random, hidden, width, WEIGHT_MXFP4));
            arrays.emplace_back(gate_up.back().tiles);
            arrays.emplace_back(down.back().tiles);
            entries.push_back({arrays[2 * e].address(), arrays[2 * e + 1].address()});
        }
        table = Array<args::Expert>(entries);
    }

    // swiglu(W·x + b); a tile's upper 32 rows are gates, the lower ones their ups.
    std::vector<Exact> activation(uint32_t e, const double* x) const {
        const Matrix& w = gate_up[e];
        std::vector<Exact> result(w.rows / 2);
        for (uint32_t j = 0; j < result.size(); j++) {
            const uint32_t row = j / 32 * 64 + j % 32;
            Exact y[2];
            for (int half = 0; half < 2; half++) {
                y[half] = product(w, row + 32 * half, [&](uint32_t c) { return x[c]; });
                y[half].add(gate_up_bias[size_t{e} * w.rows + row + 32 * half]);
            }
            const double gate = std::min(y[0].value, kLimit), up = std::clamp(y[1].value, -kLimit, kLimit);
            const double sigmoid = 1 / (1 + std::exp(-kAlpha * gate));
            result[j].value = gate * sigmoid * (up + 1);
            // what errors of gate and up become: the derivative of gate * sigmoid is below 1.1
            result[j].magnitude =
                1.1 * y[0].magnitude * std::abs(up + 1) + std::abs(gate * sigmoid) * (y[1].magnitude + 1);
        }
        return result;
    }

    // W·x + b of one row
    template <typename T>
    Exact output(uint32_t e, uint32_t row, const T* x) const {
        Exact sum = product(down[e], row, [&](uint32_t c) { return x[c]; });
        sum.add(down_bias[size_t{e} * tile_count(down[e].rows) * 64 + row]);
        return sum;
    }

    static constexpr double kLimit = 7, kAlpha = 1.702;
    std::vector<Matrix> gate_up, down;
    std::vector<float> gate_up_bias, down_bias;
    Array<float> gate_up_bias_array, down_bias_array;
    std::vector<Array<uint32_t>> arrays;
    Array<args::Expert> table{0};
};

struct Shape {
    uint32_t n_experts, k, hidden, width;
};

Shape random_shape(Random& random, uint32_t k) {
    return {k + random.below(6), k, 32 * (1 + random.below(6)), 32 * (1 + random.below(6))};
}

args::GateUpArgs gate_up_args(const NormedInput& input, const ExpertSet& set, const Routes* routes, uint64_t logits,
                              const Array<float>& y, const Array<uint32_t>& uses, const Shape& s) {
    return {input.args(),
            set.table.address(),
            set.gate_up_bias_array.address(),
            logits,
            routes ? routes->slots.address() : 0,
            routes ? routes->tiles.address() : 0,
            y.address(),
            uses.address(),
            s.n_experts,
            static_cast<float>(ExpertSet::kLimit),
            static_cast<float>(ExpertSet::kAlpha)};
}

// One token at a time: gate_up, then down.
void test_single(Random& random, const Launch& l, const Shape& s) {
    CAPTURE(l.describe(WEIGHT_MXFP4, s.hidden, s.width));
    CAPTURE(s.n_experts);
    CAPTURE(s.k);
    const uint32_t n_tokens = 2;
    const ExpertSet set(random, s.n_experts, s.hidden, s.width);
    const NormedInput input(random, n_tokens, s.hidden);
    const std::vector<float> logits = router_logits(random, n_tokens, s.n_experts);
    const Array<float> logit_array(logits), y(size_t{n_tokens} * s.k * s.width);
    const Array<uint32_t> uses(std::vector<uint32_t>(s.n_experts, kUsesBefore));
    run("moe_gate_up", l.constants(WEIGHT_MXFP4, {s.k, false}),
        gate_up_args(input, set, nullptr, logit_array.address(), y, uses, s), s.width / 32, n_tokens * s.k);
    const std::vector<float> got = y.read();
    const std::vector<double> x = input.all();
    std::vector<Exact> expected;
    std::vector<uint32_t> expected_uses(s.n_experts, kUsesBefore);
    for (uint32_t t = 0; t < n_tokens; t++)
        for (uint32_t e : choose(&logits[t * s.n_experts], s.n_experts, s.k).experts) {
            expected_uses[e]++;
            const std::vector<Exact> activation = set.activation(e, &x[size_t{t} * s.hidden]);
            expected.insert(expected.end(), activation.begin(), activation.end());
        }
    check_close(got, expected, sum_tolerance(s.hidden));
    CHECK(uses.read() == expected_uses);

    const ResidualOutput residual(random, n_tokens, s.hidden);
    run("moe_down", l.constants(WEIGHT_MXFP4, {s.k}),
        args::DownArgs{residual.args(), y.address(), set.table.address(), set.down_bias_array.address(),
                       logit_array.address(), s.width, s.n_experts, n_tokens},
        tile_count(s.hidden), n_tokens);
    std::vector<Exact> after;
    for (uint32_t t = 0; t < n_tokens; t++) {
        const Choice choice = choose(&logits[t * s.n_experts], s.n_experts, s.k);
        for (uint32_t r = 0; r < s.hidden; r++) {
            Exact sum;
            sum.add(residual.before[t * s.hidden + r]);
            for (uint32_t j = 0; j < s.k; j++) {
                Exact part = set.output(choice.experts[j], r, &got[(t * s.k + j) * s.width]);
                part.scale(choice.weights[j]);
                sum.value += part.value;
                sum.magnitude += part.magnitude;
            }
            after.push_back(sum);
        }
    }
    residual.check(after, sum_tolerance(s.width * s.k));
}

// What the cooperative-matrix kernels of a batch grouped by expert leave: gate_up_coopmat in y, down_coopmat in out.
void run_coopmat(const Launch& l, const Shape& s, const ExpertSet& set, const NormedInput& input, const Routes& routes,
                 std::vector<float>& y, const Array<float>& out) {
    double largest_gate_up = 0, largest_down = 0;
    for (uint32_t e = 0; e < s.n_experts; e++) {
        largest_gate_up = std::max(largest_gate_up, HalfRows::largest(set.gate_up[e]));
        largest_down = std::max(largest_down, HalfRows::largest(set.down[e]));
    }
    const HalfRows rows(input.args(), largest_gate_up);
    const uint32_t slots = l.n_tokens * s.k;
    const Array<uint32_t> halves(size_t{slots} * s.width / 2);
    constexpr float kScale = 512;
    run("moe_gate_up_coopmat", l.constants(WEIGHT_MXFP4),
        args::GateUpCoopmatArgs{rows.args, set.table.address(), set.gate_up_bias_array.address(),
                                routes.slots.address(), routes.tiles.address(), halves.address(), kScale,
                                static_cast<float>(ExpertSet::kLimit), static_cast<float>(ExpertSet::kAlpha), s.k},
        s.width / 32, routes.n_tiles);
    const auto scale = static_cast<float>(std::exp2(3 - std::floor(std::log2(largest_down))));
    run("moe_down_coopmat", l.constants(WEIGHT_MXFP4),
        args::DownCoopmatArgs{{halves.address(), 0, s.width, slots, scale, 1 / scale / kScale},
                              set.table.address(),
                              set.down_bias_array.address(),
                              routes.slots.address(),
                              routes.tiles.address(),
                              out.address(),
                              s.hidden},
        tile_count(s.hidden), routes.n_tiles);
    for (uint32_t word : halves.read())
        for (uint32_t half = 0; half < 2; half++)
            y.push_back(static_cast<float>(from_f16(static_cast<uint16_t>(word >> (16 * half))) / kScale));
}

// What the kernels of integers leave: gate_up_integer in y, down_integer in out. x and hidden get what they multiply.
void run_integer(const Launch& l, const Shape& s, const ExpertSet& set, const NormedInput& input, const Routes& routes,
                 std::vector<double>& x, std::vector<float>& y, std::vector<double>& hidden, const Array<float>& out) {
    const IntegerRows rows(input.args(), l.n_tokens);
    const Array<float> y_array(size_t{l.n_tokens} * s.k * s.width);
    run("moe_gate_up_integer", l.constants(WEIGHT_MXFP4),
        args::GateUpIntegerArgs{rows.args, set.table.address(), set.gate_up_bias_array.address(),
                                routes.slots.address(), routes.tiles.address(), y_array.address(), s.k,
                                static_cast<float>(ExpertSet::kLimit), static_cast<float>(ExpertSet::kAlpha)},
        s.width / 32, routes.n_tiles);
    const IntegerRows hidden_rows({y_array.address(), 0, 0, s.width, l.n_tokens, 0}, l.n_tokens, s.k);
    run("moe_down_integer", l.constants(WEIGHT_MXFP4),
        args::DownIntegerArgs{hidden_rows.args, set.table.address(), set.down_bias_array.address(),
                              routes.slots.address(), routes.tiles.address(), out.address(), s.hidden},
        tile_count(s.hidden), routes.n_tiles);
    x = rows.read();
    y = y_array.read();
    hidden = hidden_rows.read();
}

// A batch grouped by expert: gate_up, down_slots, merge.
void test_grouped(Random& random, const Launch& l, const Shape& s) {
    CAPTURE(l.describe(WEIGHT_MXFP4, s.hidden, s.width));
    CAPTURE(s.n_experts);
    CAPTURE(s.k);
    const uint32_t n_tokens = l.n_tokens;
    const ExpertSet set(random, s.n_experts, s.hidden, s.width);
    const NormedInput input(random, n_tokens, s.hidden);
    std::vector<float> logits = router_logits(random, n_tokens, s.n_experts);
    // an expert that all tokens choose, one that none does if there are others, one that a single token does
    for (uint32_t t = 0; t < n_tokens; t++) {
        logits[t * s.n_experts] = 20;
        if (s.n_experts > s.k) logits[t * s.n_experts + 1] = -20;
        if (s.n_experts > s.k + 1) logits[t * s.n_experts + 2] = t == 0 ? 19.0f : -20.0f;
    }
    const Routes routes(logits, n_tokens, s.n_experts, s.k, l.tokens);
    const std::vector<uint32_t> slots = routes.slots.read();
    const Array<float> out(size_t{n_tokens} * s.k * s.hidden);
    std::vector<float> got;
    std::vector<double> x = input.all(), hidden;  // what is multiplied
    if (l.row_groups) {
        run_coopmat(l, s, set, input, routes, got, out);
    } else if (l.integer) {
        run_integer(l, s, set, input, routes, x, got, hidden, out);
    } else {
        const Array<float> y(size_t{n_tokens} * s.k * s.width);
        run("moe_gate_up", l.constants(WEIGHT_MXFP4, {s.k, true}),
            gate_up_args(input, set, &routes, 0, y, routes.uses, s), s.width / 32, routes.n_tiles);
        run("moe_down_slots", l.constants(WEIGHT_MXFP4),
            args::DownSlotsArgs{y.address(), set.table.address(), set.down_bias_array.address(), routes.slots.address(),
                                routes.tiles.address(), out.address(), s.width, s.hidden},
            tile_count(s.hidden), routes.n_tiles);
        got = y.read();
    }
    if (!l.integer) hidden.assign(got.begin(), got.end());
    const std::vector<float> got_out = out.read();
    std::vector<Exact> activations, outputs(got_out.size());
    for (uint32_t slot = 0; slot < slots.size(); slot++) {
        const uint32_t t = slots[slot] / s.k, j = slots[slot] % s.k;
        const uint32_t e = choose(&logits[t * s.n_experts], s.n_experts, s.k).experts[j];
        const std::vector<Exact> activation = set.activation(e, &x[size_t{t} * s.hidden]);
        activations.insert(activations.end(), activation.begin(), activation.end());
        for (uint32_t r = 0; r < s.hidden; r++)
            outputs[slots[slot] * s.hidden + r] = set.output(e, r, &hidden[size_t{slot} * s.width]);
    }
    const double tolerance = l.tolerance(WEIGHT_MXFP4, s.hidden);
    // storing as float16 rounds the value itself, by at most 2^-11
    for (Exact& e : activations) e.magnitude += l.row_groups ? (std::abs(e.value) + 0x1p-23) * 0x1p-11 / tolerance : 0;
    check_close(got, activations, tolerance);
    check_close(got_out, outputs, sum_tolerance(s.width));  // of what is float16 already

    const ResidualOutput residual(random, n_tokens, s.hidden);
    run("moe_merge", {}, args::MergeArgs{residual.args(), out.address(), routes.weights.address(), s.k},
        tile_count(s.hidden), n_tokens);
    std::vector<Exact> after;
    for (uint32_t t = 0; t < n_tokens; t++) {
        const Choice choice = choose(&logits[t * s.n_experts], s.n_experts, s.k);
        for (uint32_t r = 0; r < s.hidden; r++) {
            after.emplace_back();
            after.back().add(residual.before[t * s.hidden + r]);
            for (uint32_t j = 0; j < s.k; j++)
                after.back().add(choice.weights[j] * got_out[(t * s.k + j) * s.hidden + r]);
        }
    }
    residual.check(after, sum_tolerance(s.k));
}

}  // namespace

TEST_CASE("topk") {
    Random random(20);
    for (uint32_t k = 1; k <= 8; k++)
        for (uint32_t n_experts : {k, k + 1, 32u, 33u, 128u}) {
            CAPTURE(k);
            CAPTURE(n_experts);
            const uint32_t n_tokens = 6;
            std::vector<float> logits = router_logits(random, n_tokens, n_experts);
            // broken ones: no order is expected, but no index may be out of range
            const float broken[] = {NAN, INFINITY, -INFINITY};
            for (uint32_t e = 0; e < n_experts; e++) {
                logits[4 * n_experts + e] = broken[random.below(3)];
                logits[5 * n_experts + e] = NAN;
            }
            const Routes routes(logits, n_tokens, n_experts, k, 4);
            const std::vector<uint32_t> experts = routes.experts.read();
            const std::vector<float> weights = routes.weights.read();
            CHECK(std::all_of(experts.begin(), experts.end(), [&](uint32_t e) { return e < n_experts; }));
            for (uint32_t t = 0; t < 4; t++) {
                const Choice choice = choose(&logits[t * n_experts], n_experts, k);
                CHECK(std::equal(choice.experts.begin(), choice.experts.end(), &experts[t * k]));
                // an exponential may be off by 3 + 2|x| units in the last place
                for (uint32_t j = 0; j < k; j++)
                    CHECK(weights[t * k + j] == doctest::Approx(choice.weights[j]).epsilon(1e-5).scale(1e-6));
            }
        }
}

TEST_CASE("group") {
    Random random(21);
    for (uint32_t n_experts : {1u, 7u, 128u, 1024u})
        for (uint32_t n_tokens : {1u, 5u, 200u}) {
            const uint32_t k = random.pick({1u, 3u, 4u, 8u}), tile_slots = random.pick({1u, 2u, 8u, 32u});
            if (k > n_experts) continue;
            CAPTURE(n_experts);
            CAPTURE(n_tokens);
            const Routes routes(router_logits(random, n_tokens, n_experts), n_tokens, n_experts, k, tile_slots);
            const std::vector<uint32_t> experts = routes.experts.read(), slots = routes.slots.read(),
                                        tiles = routes.tiles.read();
            std::vector<uint32_t> sorted = slots;
            std::sort(sorted.begin(), sorted.end());
            for (uint32_t i = 0; i < sorted.size(); i++) REQUIRE(sorted[i] == i);
            uint32_t next = 0;
            for (uint32_t i = 0; i < routes.n_tiles; i++) {
                const uint32_t n = tiles[i * 3 + 2];
                REQUIRE(n <= tile_slots);
                if (n == 0) continue;
                CHECK(tiles[i * 3 + 1] == next);
                for (uint32_t slot = next; slot < next + n; slot++) CHECK(experts[slots[slot]] == tiles[i * 3]);
                next += n;
            }
            CHECK(next == n_tokens * k);
            std::vector<uint32_t> uses(n_experts, kUsesBefore);
            for (const uint32_t e : experts) uses[e]++;
            CHECK(routes.uses.read() == uses);
        }
}

TEST_CASE("experts of single tokens") {
    Random random(22);
    for (Launch l : launches(random, 4)) {
        l.tokens = 1;
        test_single(random, l, random_shape(random, 1 + random.below(8)));
    }
    test_single(random, {64, 2, 1, 1}, {128, 4, 32, 32});
    test_single(random, {32, 4, 1, 1}, {4, 4, 2880, 96});
}

TEST_CASE("experts of a batch") {
    Random random(23);
    for (const Launch& l : launches(random, 4)) test_grouped(random, l, random_shape(random, 1 + random.below(8)));
    test_grouped(random, {32, 1, 4, 9}, {128, 4, 64, 32});
}

TEST_CASE("round") {
    Random random(25);
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t cols = 32 * (1 + random.below(200)), n_tokens = 1 + random.below(3), m = 1 + i % 3;
        CAPTURE(cols);
        const NormedInput input(random, n_tokens * m, cols);
        // blocks of all sizes, and one of zeros
        std::vector<float> values = input.values;
        for (size_t j = 0; j < values.size(); j++)
            values[j] = j / 32 % 7 == 3 ? 0 : std::ldexp(values[j], static_cast<int>(j / 32 * 37 % 60) - 30);
        const Array<float> array(values);
        args::Input args = input.args();
        args.x = array.address();
        const IntegerRows rows(args, n_tokens, m);
        const std::vector<double> got = rows.read();
        const std::vector<float> scales = rows.scales.read();
        size_t wrong = 0;
        for (size_t block = 0; block < scales.size(); block++) {
            double largest = 0;
            const double scale = input.scales[block * 32 / cols];
            for (size_t j = block * 32; j < block * 32 + 32; j++)
                largest = std::max(largest, std::abs(scale * values[j]));
            // to the nearest of 2 * 32639 steps, but for float32 rounding of what is as large as they
            const double step = largest / 32639;
            for (size_t j = block * 32; j < block * 32 + 32; j++)
                wrong += !(std::abs(got[j] - scale * values[j]) <= step * 0.51 + largest * sum_tolerance(cols));
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("integer: experts of a batch") {
    Random random(26);
    for (const Launch& l : integer_launches(random, 4))
        test_grouped(random, l, random_shape(random, 1 + random.below(8)));
}

TEST_CASE("coopmat: experts of a batch") {
    Random random(24);
    for (const Launch& l : coopmat_launches(random, 4))
        test_grouped(random, l, random_shape(random, 1 + random.below(8)));
}
