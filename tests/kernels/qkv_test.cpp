#include <algorithm>
#include <optional>

#include "kernels/launch.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

constexpr uint32_t kPositions = 131072;
constexpr uint32_t kCoarse = kPositions / 256;
constexpr double kConcentration = 1.3465735902799727;  // 0.1 ln 32 + 1

double frequency(uint32_t i) { return std::pow(150000.0, -double(i) / 32); }

// The two tables of angles; see rope_angle in qkv.comp.
std::vector<float> rope_tables() {
    std::vector<float> table;
    const auto add = [&](double position, double scale) {
        for (uint32_t i = 0; i < 32; i++) {
            table.push_back(static_cast<float>(std::cos(position * frequency(i)) * scale));
            table.push_back(static_cast<float>(std::sin(position * frequency(i)) * scale));
        }
    };
    for (uint32_t p = 0; p < kCoarse; p++) add(256.0 * p, kConcentration);
    for (uint32_t p = 0; p < 256; p++) add(p, 1);
    return table;
}

constexpr uint32_t kTerms = 2;  // of the activations that cooperative matrices multiply

struct Shape {
    uint32_t n_heads, n_kv_heads, hidden;
    bool kv_f16;
};

// Several sequences with caches of their own size; tokens at positions that wrap around in them.
struct Batch {
    Batch(Random& random, const Shape& s, uint32_t n_tokens) {
        std::vector<args::Cache> table;
        for (uint32_t sequence = 0; sequence < 3; sequence++) {
            // one ring, or segments for positions up to the last
            const uint32_t slots = n_tokens / 3 + 2 + random.below(20),
                           n_segments = sequence == 1 ? 1 : 2 + random.below(3);
            capacity.push_back(slots * n_segments);
            const uint32_t rows = slots * s.n_kv_heads, k_row = random.below(3), v_row = k_row + rows;
            std::vector<uint64_t> addresses;
            for (uint32_t i = 0; i < n_segments; i++) {
                segments.emplace_back(size_t{v_row + rows} * (s.kv_f16 ? 32 : 64));
                addresses.push_back(segments.back().address());
            }
            lists.emplace_back(addresses);
            table.push_back({lists.back().address(), slots, n_segments, k_row, v_row});
        }
        caches_read = table;
        caches = Array<args::Cache>(table);
        for (uint32_t t = 0; t < n_tokens; t++)
            tokens.push_back({0, t == 0 ? kPositions - 1 : n_tokens + random.below(kPositions - n_tokens), t % 3, 0});
        // the tokens of a sequence take different slots
        for (uint32_t t = 3; t < n_tokens; t++) tokens[t].position = tokens[t - 3].position - 1;
        token_array = Array<args::Token>(tokens);
    }
    std::vector<uint32_t> capacity;  // positions
    std::vector<args::Cache> caches_read;
    std::vector<Array<uint32_t>> segments;
    std::vector<Array<uint64_t>> lists;
    std::vector<args::Token> tokens;
    Array<args::Cache> caches{0};
    Array<args::Token> token_array{0};
};

// One token's keys (or values) of all KV heads, taken out of a segment's words, which get guard words instead.
std::vector<float> take(std::vector<uint32_t>& words, uint32_t first_row, const Shape& s) {
    std::vector<float> values(size_t{s.n_kv_heads} * 64);
    for (uint32_t h = 0; h < s.n_kv_heads; h++)
        for (uint32_t i = 0; i < 32; i++)
            for (uint32_t half = 0; half < 2; half++) {
                const size_t word = (size_t{first_row} + h) * 32 + i;
                float& value = values[h * 64 + i + 32 * half];
                if (s.kv_f16) {
                    value = static_cast<float>(from_f16(static_cast<uint16_t>(words[word] >> (16 * half))));
                    if (half) words[word] = kGuardWord;
                } else {
                    std::memcpy(&value, &words[2 * word + half], 4);
                    words[2 * word + half] = kGuardWord;
                }
            }
    return values;
}

// The rows of a token's queries, keys and values, in float64.
std::vector<Exact> expected_rows(const Matrix& w, const NormedInput& input, const std::vector<float>& bias,
                                 const Shape& s, uint32_t t, uint32_t position) {
    std::vector<Exact> rows;
    for (uint32_t r = 0; r < w.rows; r++) {
        rows.push_back(product(w, r, [&](uint32_t c) { return input.at(t, c); }));
        rows.back().add(bias[r]);
    }
    for (uint32_t h = 0; h < s.n_heads + s.n_kv_heads; h++)
        for (uint32_t i = 0; i < 32; i++) {
            Exact &x = rows[h * 64 + i], &y = rows[h * 64 + i + 32];
            const double angle = position * frequency(i);
            const double cosine = std::cos(angle) * kConcentration, sine = std::sin(angle) * kConcentration;
            const double magnitude = (x.magnitude + y.magnitude) * kConcentration;
            const Exact old_x = x;
            x = {old_x.value * cosine - y.value * sine, magnitude};
            y = {y.value * cosine + old_x.value * sine, magnitude};
        }
    for (uint32_t r = 0; r < s.n_heads * 64; r++) rows[r].scale(0.125);
    return rows;
}

void test_qkv(Random& random, const Launch& l, uint32_t weight, const Shape& s) {
    const uint32_t rows = (s.n_heads + 2 * s.n_kv_heads) * 64, q_rows = s.n_heads * 64, kv_rows = s.n_kv_heads * 64;
    CAPTURE(l.describe(weight, rows, s.hidden));
    CAPTURE(s.kv_f16);
    const Matrix w = random_matrix(random, rows, s.hidden, weight);
    const NormedInput input(random, l.n_tokens, s.hidden);
    const std::vector<float> bias = random.normals(rows);
    const Batch batch(random, s, l.n_tokens);
    static const std::vector<float> tables = rope_tables();
    const Array<float> rope(tables), bias_array(bias), q(size_t{l.n_tokens} * q_rows);
    const Array<uint32_t> tiles(w.tiles);
    std::optional<HalfRows> half;
    if (l.row_groups) half.emplace(input.args(), w, kTerms);
    const auto launch = [&](const std::string& kernel, const auto& args) {
        run(kernel, l.constants(weight, {s.kv_f16, kTerms}), args, rows / 64, l.token_groups());
    };
    if (half)
        launch("attn_qkv_coopmat",
               args::QkvCoopmatArgs{half->args, tiles.address(), bias_array.address(), rope.address(),
                                    batch.token_array.address(), batch.caches.address(), q.address(), s.n_heads,
                                    s.n_kv_heads, kCoarse});
    else
        launch("attn_qkv", args::QkvArgs{input.args(), tiles.address(), bias_array.address(), rope.address(),
                                         batch.token_array.address(), batch.caches.address(), q.address(), s.n_heads,
                                         s.n_kv_heads, kCoarse});

    const std::vector<float> got_q = q.read();
    std::vector<std::vector<uint32_t>> segments;
    for (const Array<uint32_t>& segment : batch.segments) segments.push_back(segment.read());
    const double tolerance = l.tolerance(weight, s.hidden, kTerms);
    for (uint32_t t = 0; t < l.n_tokens; t++) {
        const args::Token& token = batch.tokens[t];
        CAPTURE(token.position);
        std::vector<Exact> expected = expected_rows(w, input, bias, s, t, token.position);
        const auto v_rows = expected.begin() + q_rows + kv_rows;
        check_close({got_q.begin() + t * q_rows, got_q.begin() + (t + 1) * q_rows},
                    {expected.begin(), expected.begin() + q_rows}, tolerance);
        // storing as float16 rounds the value itself, by at most 2^-11
        for (Exact& e : expected) e.magnitude += s.kv_f16 ? (std::abs(e.value) + 0x1p-13) * 0x1p-11 / tolerance : 0;
        const args::Cache& cache = batch.caches_read[token.sequence];
        uint32_t segment = token.position / cache.slots % cache.n_segments;
        for (uint32_t i = 0; i < token.sequence; i++) segment += batch.caches_read[i].n_segments;
        const uint32_t row = token.position % cache.slots * s.n_kv_heads;
        check_close(take(segments[segment], cache.k_row + row, s), {expected.begin() + q_rows, v_rows}, tolerance);
        check_close(take(segments[segment], cache.v_row + row, s), {v_rows, expected.end()}, tolerance);
    }
    for (const std::vector<uint32_t>& words : segments)
        CHECK(std::all_of(words.begin(), words.end(), [](uint32_t word) { return word == kGuardWord; }));
}

constexpr uint32_t kWeights[] = {WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16, WEIGHT_Q8};

Shape random_shape(Random& random) {
    const uint32_t n_kv_heads = 1 + random.below(3);
    return {n_kv_heads * (1 + random.below(3)), n_kv_heads, 32 * (1 + random.below(5)), random.coin()};
}

}  // namespace

TEST_CASE("qkv") {
    Random random(10);
    for (uint32_t weight : kWeights)
        for (const Launch& l : launches(random, 2)) test_qkv(random, l, weight, random_shape(random));
    test_qkv(random, many_tokens(random), WEIGHT_Q8, random_shape(random));
}

TEST_CASE("coopmat: qkv") {
    Random random(11);
    for (uint32_t weight : kWeights)
        for (const Launch& l : coopmat_launches(random, 2, kTerms)) test_qkv(random, l, weight, random_shape(random));
}
