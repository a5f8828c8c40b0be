// sample_prepare and sample. A token is the arg-max of logit + noise over the tokens that the filters keep, so the
// exact token is known here, from the kept set in float64 and the same random bits.
#include <algorithm>
#include <array>
#include <numeric>

#include "kernels/harness.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

struct Settings {
    float temperature = 1;
    uint32_t top_k = 0;
    float top_p = 1, min_p = 0;
    float repetition = 1, presence = 0, frequency = 0;
    uint64_t seed = 0;
    std::vector<float> bias{};     // of each token; empty: none
    std::vector<uint32_t> mask{};  // bits; empty: none
};

// A sampler's buffers around one set of logits.
class Sampler {
  public:
    Sampler(const std::vector<float>& logits, uint32_t workgroup, uint32_t ring_size,
            std::vector<uint32_t> token_counts = {})
        : vocab(static_cast<uint32_t>(logits.size())),
          workgroup_(workgroup),
          blocks_((vocab + 4 * workgroup - 1) / (4 * workgroup)),
          ring_size_(ring_size),
          logits_(padded(logits)),
          adjusted_((vocab + 3) / 4 * 4),
          block_array_(blocks_),
          state_(std::vector<uint32_t>(1 + blocks_)),
          counts_(token_counts.empty() ? std::vector<uint32_t>(vocab) : token_counts),
          token_({{1, kFirst - 1, 3, 0}}),
          ring_(ring_size) {}

    // The next n tokens, one step after the other without the host.
    std::vector<uint32_t> draw(const Settings& s, uint32_t n) {
        const Array<float> bias(padded(s.bias));
        const Array<uint32_t> mask(s.mask);
        const args::SampleRow row{counts_.address(),
                                  bias.address(),
                                  mask.address(),
                                  static_cast<uint32_t>(s.seed),
                                  static_cast<uint32_t>(s.seed >> 32),
                                  s.temperature,
                                  s.top_k,
                                  s.top_p,
                                  s.min_p,
                                  s.repetition,
                                  s.presence,
                                  s.frequency,
                                  (s.bias.empty() ? 0 : SAMPLE_BIASED) | (s.mask.empty() ? 0 : SAMPLE_MASKED)};
        const Array<args::SampleRow> rows({row});
        const args::SampleArgs args{logits_.address(),   adjusted_.address(), block_array_.address(), state_.address(),
                                    rows.address(),      token_.address(),    ring_.address(),        vocab,
                                    (vocab + 3) / 4 * 4, ring_size_};
        Gpu& g = gpu();
        g.commands.begin();
        for (uint32_t i = 0; i < n; i++) {
            g.commands.dispatch(g.kernels.get("sample_prepare", {workgroup_}), args, blocks_);
            g.commands.barrier();
            g.commands.dispatch(g.kernels.get("sample", {workgroup_}), args, blocks_);
            g.commands.barrier();
        }
        g.commands.finish();
        const std::vector<uint32_t> ring = ring_.read();
        std::vector<uint32_t> tokens;
        for (uint32_t i = 0; i < n; i++) tokens.push_back(ring[(position + i) % ring_size_]);
        position += n;
        const args::Token token = token_.read()[0];
        CHECK(token.id == tokens.back());
        CHECK(token.position == position - 1);
        CHECK(token.sequence == 3);
        block_array_.read();
        state_.read();
        bias.read();
        mask.read();
        for (uint32_t id : tokens) REQUIRE(id < vocab);
        return tokens;
    }
    std::vector<float> adjusted() const {
        std::vector<float> values = adjusted_.read();
        values.resize(vocab);
        return values;
    }
    std::vector<uint32_t> counts() const { return counts_.read(); }

    static constexpr uint32_t kFirst = 1000;
    uint32_t vocab, position = kFirst;  // of the next token

  private:
    static std::vector<float> padded(std::vector<float> logits) {
        logits.resize((logits.size() + 3) / 4 * 4, 1e30f);  // must not count
        return logits;
    }
    uint32_t workgroup_, blocks_, ring_size_;
    Array<float> logits_, adjusted_;
    Array<args::SampleBlock> block_array_;
    Array<uint32_t> state_, counts_;
    Array<args::Token> token_;
    Array<uint32_t> ring_;
};

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; round++, key0 += 0x9e3779b9, key1 += 0xbb67ae85) {
        const uint64_t p = uint64_t{0xd2511f53} * c[0], q = uint64_t{0xcd9e8d57} * c[2];
        c = {static_cast<uint32_t>(q >> 32) ^ c[1] ^ key0, static_cast<uint32_t>(q),
             static_cast<uint32_t>(p >> 32) ^ c[3] ^ key1, static_cast<uint32_t>(p)};
    }
    return c;
}

double noise(uint32_t id, uint32_t position, uint64_t seed) {
    const auto bits = philox({id / 4, position, 0, 0}, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    return -std::log(-std::log1p(-(bits[id % 4] + 0.5) * 0x1p-32));
}

// The tokens that the filters keep, from adjusted logits. top_p is scaled, to ask on which side of a rounding error a
// token on its edge falls.
std::vector<uint32_t> kept_tokens(const std::vector<float>& logits, const Settings& s, double top_p_scale = 1) {
    std::vector<uint32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    if (!s.mask.empty()) std::erase_if(order, [&](uint32_t id) { return !(s.mask[id / 32] >> id % 32 & 1); });
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
    if (s.top_k > 0 && s.top_k < order.size()) order.resize(s.top_k);
    const double top = logits[order[0]];
    if (s.top_p < 1) {
        double total = 0, before = 0;
        for (uint32_t id : order) total += std::exp(logits[id] - top);
        size_t n = 0;
        for (; n < order.size() && before < s.top_p * top_p_scale * total; n++)
            before += std::exp(logits[order[n]] - top);
        order.resize(n);
    }
    if (s.min_p > 0)
        std::erase_if(order,
                      [&](uint32_t id) { return logits[id] < static_cast<float>(top + std::log(double{s.min_p})); });
    return order;
}

// Draws n tokens and checks that each is the winner among the kept ones, or within rounding of it.
void check_draws(Sampler& sampler, const Settings& s, uint32_t n) {
    CAPTURE(Random::seed());
    CAPTURE(sampler.vocab);
    CAPTURE(s.temperature);
    CAPTURE(s.top_k);
    CAPTURE(s.top_p);
    CAPTURE(s.min_p);
    const uint32_t first = sampler.position;
    const std::vector<uint32_t> tokens = sampler.draw(s, n);
    const std::vector<float> logits = sampler.adjusted();
    const std::vector<uint32_t> few = kept_tokens(logits, s, 1 - 1e-5), many = kept_tokens(logits, s, 1 + 1e-5);
    REQUIRE(many.size() - few.size() <= 1 + many.size() / 1000);  // else the test would say little
    for (uint32_t i = 0; i < n; i++) {
        const auto score = [&](uint32_t id) { return logits[id] + noise(id, first + i, s.seed); };
        const auto best = [&](const std::vector<uint32_t>& ids) {
            double value = -INFINITY;
            for (uint32_t id : ids) value = std::max(value, score(id));
            return value;
        };
        const uint32_t got = tokens[i];
        REQUIRE(std::find(many.begin(), many.end(), got) != many.end());
        // the device's logarithms and sums are float32
        const double tolerance = 1e-4 + 1e-6 * std::abs(double{logits[got]});
        CHECK(score(got) >= best(few) - tolerance);
        CHECK(score(got) <= best(many) + tolerance);
    }
}

std::vector<float> random_logits(Random& random, uint32_t vocab, int kind) {
    std::vector<float> logits = random.normals(vocab, 2.5);
    if (kind == 1)  // many ties
        for (float& x : logits) x = std::round(x);
    if (kind == 2) std::fill(logits.begin(), logits.end(), 1.25f);
    if (kind == 3) logits[random.below(vocab)] = 60;  // one dominates
    if (kind == 4)                                    // the likely ones side by side
        for (uint32_t i = 0; i < vocab / 20; i++) logits[i] += 15;
    return logits;
}

const Settings kFilters[] = {
    {},
    {.temperature = 0.3f},
    {.top_p = 0.9f},
    {.top_p = 0.2f},
    {.temperature = 2, .top_p = 0.5f},
    {.top_k = 1},
    {.top_k = 7},
    {.top_k = 40, .top_p = 0.7f},
    {.top_k = 150, .min_p = 0.1f},
    {.min_p = 0.05f},
    {.top_p = 0.8f, .min_p = 0.2f},
    {.temperature = 0.8f, .top_k = 60, .top_p = 0.95f, .min_p = 0.02f},
};

}  // namespace

TEST_CASE("sample: the reference's random numbers") {
    const auto zeros = philox({0, 0, 0, 0}, 0, 0);
    CHECK(zeros == std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    const auto ones = philox({~0u, ~0u, ~0u, ~0u}, ~0u, ~0u);
    CHECK(ones == std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}

TEST_CASE("sample: every filter keeps what it should") {
    Random random(40);
    for (int kind = 0; kind < 5; kind++)
        for (uint32_t workgroup : {128u, 256u}) {
            CAPTURE(kind);
            CAPTURE(workgroup);
            Sampler sampler(random_logits(random, 1 + random.below(9000), kind), workgroup, 8);
            for (Settings s : kFilters) {
                s.seed = random.below(1u << 31) * 5ull;
                check_draws(sampler, s, 6);
            }
        }
}

TEST_CASE("sample: top-k cuts through ties by id") {
    // five equal ones lead, in different blocks
    std::vector<float> logits(3000, -1.0f);
    for (uint32_t id : {17u, 600u, 601u, 1500u, 2999u}) logits[id] = 2;
    for (uint32_t k = 1; k <= 6; k++) {
        Sampler sampler(logits, 128, 40);
        check_draws(sampler, {.top_k = k, .seed = k}, 40);
    }
}

TEST_CASE("sample: the vocabulary of the models") {
    Random random(41);
    for (int kind : {0, 1, 2}) {
        CAPTURE(kind);
        Sampler sampler(random_logits(random, 201088, kind), 256, 5);
        for (const Settings& s :
             {Settings{.top_p = 0.9f}, Settings{.top_k = 40, .top_p = 0.95f}, Settings{.top_k = 5000}})
            check_draws(sampler, s, 1);
    }
}

TEST_CASE("sample: greedy takes the largest logit, ties to the lower id") {
    Random random(42);
    for (int kind : {0, 1, 2}) {
        const std::vector<float> logits = random_logits(random, 1 + random.below(3000), kind);
        Sampler sampler(logits, 128, 4);
        const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
        CHECK(sampler.draw({.temperature = 0, .top_k = 5, .top_p = 0.5f, .min_p = 0.3f}, 1)[0] == best);
    }
}

TEST_CASE("sample: penalties") {
    Random random(43);
    const uint32_t vocab = 1500;
    const std::vector<float> logits = random.normals(vocab, 3);
    std::vector<uint32_t> counts(vocab);
    for (uint32_t& c : counts)
        if (random.coin()) c = random.below(5) | IN_CONTEXT;
    for (float temperature : {0.0f, 0.7f}) {
        const Settings s{
            .temperature = temperature, .repetition = 1.3f, .presence = 0.5f, .frequency = -0.25f, .seed = 9};
        Sampler sampler(logits, 128, 16, counts);
        std::vector<uint32_t> now = counts;
        for (int step = 0; step < 10; step++) {
            const uint32_t token = sampler.draw(s, 1)[0];
            std::vector<Exact> expected(vocab);
            for (uint32_t id = 0; id < vocab; id++) {
                double v = logits[id];
                if (now[id] & IN_CONTEXT) v = v > 0 ? v / 1.3f : v * 1.3f;
                const uint32_t count = now[id] & ~IN_CONTEXT;
                expected[id].magnitude = std::abs(v) + 0.5 + 0.25 * count;
                if (count > 0) v -= 0.5 - 0.25 * count;
                expected[id].value = v;
                if (temperature > 0) expected[id].scale(1 / double{temperature});
            }
            check_close(sampler.adjusted(), expected, 0x1p-21);
            now[token] = (now[token] + 1) | IN_CONTEXT;
            CHECK(sampler.counts() == now);
        }
    }
    Sampler neutral(logits, 128, 16, counts);
    neutral.draw({}, 3);
    CHECK(neutral.counts() == counts);
}

TEST_CASE("sample: only what the mask leaves is drawn, by every filter") {
    Random random(46);
    for (int kind = 0; kind < 5; kind++)
        for (uint32_t one_in : {2u, 40u, 5000u}) {
            CAPTURE(kind);
            CAPTURE(one_in);
            const uint32_t vocab = 1 + random.below(9000);
            Sampler sampler(random_logits(random, vocab, kind), random.coin() ? 128 : 256, 8);
            std::vector<uint32_t> mask((vocab + 127) / 128 * 4, 0), allowed;
            for (uint32_t id = 0; id < vocab; id++)
                if (random.below(one_in) == 0 || id == vocab / 2) mask[id / 32] |= 1u << id % 32;
            for (Settings s : kFilters) {
                s.seed = random.below(1u << 31) * 5ull;
                s.mask = mask;
                check_draws(sampler, s, 4);
            }
            const Settings greedy{.temperature = 0, .mask = mask};
            const std::vector<float> all = (sampler.draw(greedy, 1), sampler.adjusted());
            CHECK(sampler.draw(greedy, 1)[0] == kept_tokens(all, greedy)[0]);
        }
}

TEST_CASE("sample: a masked token is not drawn though all others are broken") {
    Random random(47);
    const uint32_t vocab = 700;
    for (const float broken : {NAN, -INFINITY, -3.4e38f}) {
        std::vector<float> logits = random.normals(vocab, 5);
        std::vector<uint32_t> mask((vocab + 127) / 128 * 4, 0);
        for (uint32_t id = 300; id < 400; id++) {
            mask[id / 32] |= 1u << id % 32;
            logits[id] = broken;
        }
        Sampler sampler(logits, 128, 8);
        for (Settings s : kFilters) {
            s.mask = mask;
            for (const uint32_t id : sampler.draw(s, 3)) CHECK((id >= 300 && id < 400));
        }
    }
}

TEST_CASE("sample: a bias is added before the penalties") {
    Random random(48);
    const uint32_t vocab = 1301;
    const std::vector<float> logits = random.normals(vocab, 3);
    std::vector<uint32_t> counts(vocab);
    for (uint32_t& c : counts)
        if (random.coin()) c = random.below(3) | IN_CONTEXT;
    const Settings s{.temperature = 0.7f, .repetition = 1.3f, .presence = 0.5f, .bias = random.normals(vocab, 4)};
    Sampler sampler(logits, 128, 16, counts);
    check_draws(sampler, s, 1);
    std::vector<Exact> expected(vocab);
    for (uint32_t id = 0; id < vocab; id++) {
        double v = double{logits[id]} + s.bias[id];
        if (counts[id] & IN_CONTEXT) v = v > 0 ? v / 1.3f : v * 1.3f;
        expected[id].magnitude = std::abs(logits[id]) * 1.3 + std::abs(s.bias[id]) * 1.3 + 0.5;
        if (counts[id] & ~IN_CONTEXT) v -= 0.5;
        expected[id].value = v;
        expected[id].scale(1 / 0.7f);
    }
    check_close(sampler.adjusted(), expected, 0x1p-21);
}

TEST_CASE("sample: the draw depends on the seed and the position alone") {
    Random random(44);
    const std::vector<float> logits = random.normals(2000);
    const Settings s{.top_p = 0.95f, .seed = 0x123456789abcdefull};
    Settings other = s;
    other.seed ^= 1ull << 40;
    Sampler all(logits, 128, 64), single(logits, 256, 64), elsewhere(logits, 128, 64);
    const std::vector<uint32_t> expected = all.draw(s, 32);
    std::vector<uint32_t> one_by_one;
    for (int i = 0; i < 32; i++) one_by_one.push_back(single.draw(s, 1)[0]);
    CHECK(one_by_one == expected);
    CHECK(elsewhere.draw(other, 32) != expected);
}

TEST_CASE("sample: draws follow the distribution") {
    // logits and seeds are fixed, so that what is a matter of luck is the same in every run
    std::vector<float> logits;
    for (int i = 0; i < 40; i++) logits.push_back(static_cast<float>(std::sin(i * 1.7) * 2));
    for (const Settings& s : {Settings{.seed = 1}, Settings{.top_k = 12, .seed = 2}, Settings{.top_p = 0.7f, .seed = 3},
                              Settings{.temperature = 1.5f, .top_p = 0.9f, .min_p = 0.1f, .seed = 4}}) {
        CAPTURE(s.seed);
        const uint32_t n = 3000;
        Sampler sampler(logits, 128, n);
        std::vector<uint32_t> seen(logits.size());
        for (uint32_t id : sampler.draw(s, n)) seen[id]++;
        const std::vector<uint32_t> kept = kept_tokens(sampler.adjusted(), s);
        double total = 0, chi = 0;
        for (uint32_t id : kept) total += std::exp(sampler.adjusted()[id]);
        uint32_t inside = 0;
        for (uint32_t id : kept) {
            const double expected = n * std::exp(sampler.adjusted()[id]) / total;
            chi += std::pow(seen[id] - expected, 2) / expected;
            inside += seen[id];
        }
        const double freedom = static_cast<double>(kept.size()) - 1;
        CHECK(inside == n);
        CHECK(chi < freedom + 3 * std::sqrt(2 * freedom));
    }
}

TEST_CASE("sample: broken logits never give an id out of range") {
    Random random(45);
    const float broken[] = {NAN, -NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f};
    for (int kind = 0; kind < 7; kind++) {
        std::vector<float> logits = random.normals(1 + random.below(2000));
        for (float& x : logits) x = kind < 6 ? broken[kind] : (random.coin() ? broken[random.below(6)] : x);
        Sampler sampler(logits, 128, 8);
        for (const Settings& s : kFilters) sampler.draw(s, 2);
        sampler.draw({.temperature = 0}, 1);
    }
}
