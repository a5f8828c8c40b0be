#include <algorithm>

#include "kernels/harness.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

struct Shape {
    uint32_t workgroup, keys, group, n_kv_heads, window, n_splits;
    bool kv_f16;
};

// One sequence: its keys and values of the last `capacity` positions, and what the kernel reads. It is a ring, or has
// segments of segment_slots positions each, with rows of something else around both parts.
struct Sequence {
    Sequence(Random& random, const Shape& s, uint32_t length, uint32_t cache_capacity, uint32_t segment_slots)
        : capacity(cache_capacity), heads(s.n_kv_heads), slots(segment_slots ? segment_slots : capacity) {
        const size_t row_words = s.kv_f16 ? 32 : 64, part_rows = size_t{slots} * heads;
        k_row = random.below(3);
        v_row = static_cast<uint32_t>(k_row + part_rows + random.below(3));
        if (random.coin()) std::swap(k_row, v_row);
        k.resize(size_t{capacity} * heads * 64, NAN);
        v.resize(k.size(), NAN);
        std::vector<uint64_t> addresses;
        for (uint32_t begin = 0; begin < capacity; begin += slots) {
            std::vector<uint32_t> words((std::max(k_row, v_row) + part_rows) * row_words, kGuardWord);
            for (uint32_t position = length - std::min(length, capacity); position < length; position++) {
                const uint32_t slot = position % capacity;
                if (slot < begin || slot >= begin + slots) continue;
                for (uint32_t head = 0; head < heads; head++)
                    for (uint32_t i = 0; i < 32; i++) {
                        const uint32_t row = (slot - begin) * heads + head;
                        fill(random, s.kv_f16, k_row + row, i, words, &k[(size_t{slot} * heads + head) * 64]);
                        fill(random, s.kv_f16, v_row + row, i, words, &v[(size_t{slot} * heads + head) * 64]);
                    }
            }
            segments.emplace_back(words);
            addresses.push_back(segments.back().address());
        }
        list = Array<uint64_t>(addresses);
    }
    args::Cache cache() const { return {list.address(), slots, static_cast<uint32_t>(segments.size()), k_row, v_row}; }
    const double* key(uint32_t position, uint32_t head) const {
        return &k[(size_t{position % capacity} * heads + head) * 64];
    }
    const double* value(uint32_t position, uint32_t head) const {
        return &v[(size_t{position % capacity} * heads + head) * 64];
    }

    uint32_t capacity, heads, slots, k_row, v_row;
    std::vector<double> k, v;
    std::vector<Array<uint32_t>> segments;
    Array<uint64_t> list{0};

  private:
    static void fill(Random& random, bool f16, uint32_t row, uint32_t i, std::vector<uint32_t>& words, double* values) {
        const float pair[2] = {random.normal(), random.normal()};
        const size_t word = size_t{row} * 32 + i;
        if (f16) {
            const uint16_t low = to_f16(pair[0]), high = to_f16(pair[1]);
            words[word] = low | static_cast<uint32_t>(high) << 16;
            values[i] = from_f16(low);
            values[i + 32] = from_f16(high);
        } else {
            std::memcpy(&words[2 * word], pair, 8);
            values[i] = pair[0];
            values[i + 32] = pair[1];
        }
    }
};

// softmax(q·k, sink)·v of one head
void attend(const Shape& s, const Sequence& sequence, uint32_t position, uint32_t kv_head, const float* q, float sink,
            std::vector<Exact>& y) {
    const uint32_t first = position - std::min(position, s.window - 1);
    std::vector<double> score;
    double top = sink, spread = 0;
    for (uint32_t p = first; p <= position; p++) {
        const double* k = sequence.key(p, kv_head);
        Exact dot;
        for (int i = 0; i < 64; i++) dot.add(q[i] * k[i]);
        score.push_back(dot.value);
        top = std::max(top, dot.value);
        spread = std::max(spread, dot.magnitude);
    }
    double denominator = std::exp(sink - top);
    for (double x : score) denominator += std::exp(x - top);
    for (int i = 0; i < 64; i++) {
        Exact sum;
        for (uint32_t p = first; p <= position; p++)
            sum.add(std::exp(score[p - first] - top) / denominator * sequence.value(p, kv_head)[i]);
        // an error of a score is a relative error of its probability
        sum.magnitude *= 1 + spread;
        y.push_back(sum);
    }
}

struct Request {
    uint32_t position, sequence;
};

void test_attention(Random& random, const Shape& s, const std::vector<uint32_t>& lengths,
                    const std::vector<uint32_t>& capacities, const std::vector<Request>& requests, double q_scale = 0.5,
                    uint32_t segment_slots = 0) {
    CAPTURE(s.workgroup);
    const uint32_t value_lanes = random.pick({8u, 16u});
    CAPTURE(s.keys);
    CAPTURE(value_lanes);
    CAPTURE(s.group);
    CAPTURE(s.n_kv_heads);
    CAPTURE(s.window);
    CAPTURE(s.n_splits);
    CAPTURE(s.kv_f16);
    CAPTURE(segment_slots);
    const uint32_t n_heads = s.group * s.n_kv_heads, n = static_cast<uint32_t>(requests.size());
    std::vector<Sequence> sequences;
    std::vector<args::Cache> table;
    for (size_t i = 0; i < lengths.size(); i++) {
        sequences.emplace_back(random, s, lengths[i], capacities[i], segment_slots);
        table.push_back(sequences.back().cache());
    }
    std::vector<args::Token> tokens;
    for (const Request& r : requests) tokens.push_back({0, r.position, r.sequence, 0});
    const std::vector<float> q = random.normals(size_t{n} * n_heads * 64, q_scale), sinks = random.normals(n_heads, 2);
    const Array<args::Cache> caches(table);
    const Array<args::Token> token_array(tokens);
    const Array<float> q_array(q), sink_array(sinks), y(q.size()), parts(size_t{n} * n_heads * s.n_splits * 66);
    run("attn_attend", {s.workgroup, s.group, s.kv_f16, s.keys, value_lanes},
        args::AttentionArgs{q_array.address(), token_array.address(), caches.address(), sink_array.address(),
                            y.address(), parts.address(), n_heads, s.n_kv_heads, s.window, s.n_splits},
        s.n_splits, s.n_kv_heads, n);
    if (s.n_splits > 1) {
        for (float value : y.read()) REQUIRE(std::isnan(value));  // still untouched
        run("attn_combine", {},
            args::CombineArgs{parts.address(), sink_array.address(), y.address(), n_heads, s.n_splits}, n_heads, n);
    }
    std::vector<Exact> expected;
    for (uint32_t t = 0; t < n; t++)
        for (uint32_t h = 0; h < n_heads; h++)
            attend(s, sequences[requests[t].sequence], requests[t].position, h / s.group,
                   &q[(size_t{t} * n_heads + h) * 64], sinks[h], expected);
    parts.read();
    check_close(y.read(), expected, sum_tolerance(64));
}

}  // namespace

TEST_CASE("attention: groups of query heads, window sizes, several sequences") {
    Random random(30);
    for (uint32_t group : {1u, 2u, 3u, 5u, 8u, 16u})
        for (bool kv_f16 : {true, false}) {
            Shape s{random.pick({32u, 64u, 128u}),
                    random.pick({1u, 2u, 4u}),
                    group,
                    1 + random.below(3),
                    random.pick({1u, 20u, 128u, UINT32_MAX}),
                    1,
                    kv_f16};
            while (s.workgroup * s.keys * group * 4 > 16384) s.keys /= 2;  // shared memory
            test_attention(random, s, {150, 40, 1}, {150, 64, 7},
                           {{149, 0}, {39, 1}, {0, 2}, {0, 0}, {31, 0}, {32, 0}, {128, 0}});
        }
}

TEST_CASE("attention: rings that wrapped around") {
    Random random(31);
    for (bool kv_f16 : {true, false}) {
        // the window is in the ring, the chunk of tokens before it may still be overwritten
        test_attention(random, {64, 2, 8, 1, 128, 1, kv_f16}, {1000}, {135}, {{999, 0}, {997, 0}, {993, 0}});
        test_attention(random, {32, 4, 2, 2, 5, 1, kv_f16}, {131072, 77}, {8, 6}, {{131071, 0}, {131070, 0}, {76, 1}});
    }
}

TEST_CASE("attention: splits of the keys and their combination") {
    Random random(32);
    for (uint32_t n_splits : {2u, 3u, 8u, 16u}) {
        const Shape s{
            random.pick({32u, 64u}), random.pick({1u, 2u, 4u}), 8, 2, random.pick({100u, UINT32_MAX}), n_splits,
            n_splits % 3 != 0};
        // some splits have no key at all
        test_attention(random, s, {500, 50}, {500, 50}, {{499, 0}, {40, 1}, {0, 1}, {255, 0}, {256, 0}});
    }
}

TEST_CASE("attention: segments of positions") {
    Random random(34);
    for (uint32_t n_splits : {1u, 3u})
        for (bool kv_f16 : {true, false}) {
            const Shape s{random.pick({32u, 64u}), 2, 4, 2, UINT32_MAX, n_splits, kv_f16};
            test_attention(random, s, {700, 128, 130}, {768, 128, 256},
                           {{699, 0}, {127, 1}, {128, 0}, {127, 0}, {640, 0}, {129, 2}, {128, 2}, {0, 2}}, 0.5, 128);
        }
}

TEST_CASE("attention: large scores") {
    Random random(33);
    for (uint32_t n_splits : {1u, 4u})
        test_attention(random, {64, 2, 8, 1, UINT32_MAX, n_splits, true}, {300}, {300}, {{299, 0}, {100, 0}}, 20);
}

namespace {

// What tap_attention tells of the tokens from number `first` on: softmax(q·k, sink) without the sink's share.
void test_tap(Random& random, const Shape& s, const std::vector<uint32_t>& lengths,
              const std::vector<uint32_t>& capacities, const std::vector<Request>& requests, uint32_t first,
              uint32_t segment_slots = 0) {
    CAPTURE(s.workgroup);
    CAPTURE(s.group);
    CAPTURE(s.n_kv_heads);
    CAPTURE(s.window);
    CAPTURE(s.kv_f16);
    CAPTURE(segment_slots);
    const uint32_t n_heads = s.group * s.n_kv_heads, n = static_cast<uint32_t>(requests.size());
    std::vector<Sequence> sequences;
    std::vector<args::Cache> table;
    for (size_t i = 0; i < lengths.size(); i++) {
        sequences.emplace_back(random, s, lengths[i], capacities[i], segment_slots);
        table.push_back(sequences.back().cache());
    }
    std::vector<args::Token> tokens;
    uint32_t stride = 0;
    const auto keys = [&](const Request& r) { return std::min(r.position + 1, s.window); };
    for (const Request& r : requests) {
        tokens.push_back({0, r.position, r.sequence, 0});
        stride = std::max(stride, n_heads * keys(r));
    }
    stride += random.below(3);
    const std::vector<float> q = random.normals(size_t{n} * n_heads * 64, 0.5), sinks = random.normals(n_heads, 2);
    const Array<args::Cache> caches(table);
    const Array<args::Token> token_array(tokens);
    const Array<float> q_array(q), sink_array(sinks), y(size_t{n - first} * stride);
    run("tap_attention", {s.workgroup, s.kv_f16},
        args::TapAttentionArgs{q_array.address(), token_array.address(), caches.address(), sink_array.address(),
                               y.address(), first, n_heads, s.n_kv_heads, s.window, stride},
        n_heads, n - first);
    const std::vector<float> all = y.read();
    std::vector<float> got;
    std::vector<Exact> expected;
    for (uint32_t t = first; t < n; t++) {
        const Request& r = requests[t];
        const size_t row = size_t{t - first} * stride;
        for (uint32_t h = 0; h < n_heads; h++) {
            std::vector<Exact> scores;
            double top = sinks[h], spread = 0;
            for (uint32_t p = r.position + 1 - keys(r); p <= r.position; p++) {
                Exact dot;
                for (int i = 0; i < 64; i++)
                    dot.add(q[(size_t{t} * n_heads + h) * 64 + i] * sequences[r.sequence].key(p, h / s.group)[i]);
                scores.push_back(dot);
                top = std::max(top, dot.value);
                spread = std::max(spread, dot.magnitude);
            }
            double denominator = std::exp(sinks[h] - top);
            for (const Exact& score : scores) denominator += std::exp(score.value - top);
            for (uint32_t k = 0; k < keys(r); k++) {
                Exact probability;
                probability.add(std::exp(scores[k].value - top) / denominator);
                probability.magnitude *= 1 + spread;  // an error of a score is a relative error of its probability
                expected.push_back(probability);
                got.push_back(all[row + h * keys(r) + k]);
            }
        }
        for (size_t i = row + n_heads * keys(r); i < row + stride; i++) REQUIRE(std::isnan(all[i]));  // untouched
    }
    check_close(got, expected, sum_tolerance(64));
}

}  // namespace

TEST_CASE("attention: the rows that a tap tells") {
    Random random(35);
    for (uint32_t group : {1u, 3u, 8u})
        for (bool kv_f16 : {true, false}) {
            const Shape s{random.pick({32u, 64u, 128u}),
                          1,
                          group,
                          1 + random.below(3),
                          random.pick({1u, 20u, 128u, UINT32_MAX}),
                          1,
                          kv_f16};
            test_tap(random, s, {150, 40, 1}, {150, 64, 7}, {{149, 0}, {39, 1}, {0, 2}, {0, 0}, {128, 0}}, 0);
            test_tap(random, s, {150, 40}, {150, 64}, {{149, 0}, {30, 1}, {31, 1}, {32, 1}}, 1);
            // rings that wrapped around, and segments
            test_tap(random, {64, 1, group, 2, 20, 1, kv_f16}, {1000}, {135}, {{999, 0}, {990, 0}}, 0);
            test_tap(random, {64, 1, group, 2, UINT32_MAX, 1, kv_f16}, {700, 130}, {768, 256},
                     {{699, 0}, {127, 0}, {128, 1}, {129, 1}}, 0, 128);
        }
}
