#include "reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <numeric>

namespace gptoss::test {

namespace {

using Vector = std::vector<double>;

constexpr uint32_t kHead = 64;

// To the nearest value of so many significant bits, ties to even.
double round_to_bits(double x, int bits, int least_exponent = -126) {
    int exponent = 0;
    std::frexp(x, &exponent);
    const double unit = std::ldexp(1, std::max(exponent, least_exponent + 1) - bits);
    return std::nearbyint(x / unit) * unit;
}

double to_f16(double x) { return round_to_bits(x, 11, -14); }

struct Dense {
    uint64_t rows = 0;
    uint64_t cols = 0;
    Vector values;

    explicit Dense(const io::Matrix& m, Weights weights = Weights::AsInFile) : rows(m.rows), cols(m.cols) {
        const std::vector<float> read = m.read_f32();
        values.assign(read.begin(), read.end());
        if (weights == Weights::Bf16)
            for (double& v : values) v = round_to_bits(v, 8);
        if (weights != Weights::Q8) return;
        for (auto block = values.begin(); block != values.end(); block += 32) {
            double largest = 0;
            for (auto v = block; v != block + 32; ++v) largest = std::max(largest, std::abs(*v));
            const double scale = to_f16(largest / 127);
            for (auto v = block; v != block + 32; ++v)
                *v = scale > 0 ? std::clamp(std::nearbyint(*v / scale), -127.0, 127.0) * scale : 0;
        }
    }
    // values·x + bias
    Vector operator()(const Vector& x, const Vector& bias) const {
        Vector y(rows);
        for (uint64_t r = 0; r < rows; r++)
            y[r] = std::inner_product(x.begin(), x.end(), values.begin() + static_cast<ptrdiff_t>(r * cols),
                                      bias.empty() ? 0.0 : bias[r]);
        return y;
    }
};

Vector vector_of(const io::Matrix& m) { return Dense(m).values; }

// One expert's matrix times x, plus its bias.
Vector expert_product(const io::Experts& e, uint64_t expert, const Vector& x, const double* bias) {
    static constexpr double kE2M1[] = {0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6};
    const uint64_t per_row = e.blocks_per_row();
    std::vector<std::byte> blocks(e.rows * per_row * 16), scales(e.rows * per_row);
    e.read(expert, 0, e.rows, blocks.data(), scales.data());
    Vector y(bias, bias + e.rows);
    for (uint64_t block = 0; block < e.rows * per_row; block++) {
        const double* in = x.data() + block % per_row * 32;
        double sum = 0;
        for (uint64_t i = 0; i < 32; i++) {
            const auto byte = std::to_integer<unsigned>(blocks[block * 16 + i / 2]);
            sum += kE2M1[i % 2 ? byte >> 4 : byte & 15] * in[i];
        }
        y[block / per_row] += std::ldexp(sum, std::to_integer<int>(scales[block]) - 127);
    }
    return y;
}

Vector rms_norm(const Vector& x, const Vector& weight, double eps) {
    const double mean_square = std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / static_cast<double>(x.size());
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); i++) y[i] = x[i] / std::sqrt(mean_square + eps) * weight[i];
    return y;
}

void add(Vector& x, const Vector& y, double factor = 1) {
    for (size_t i = 0; i < x.size(); i++) x[i] += factor * y[i];
}

// YaRN: the angle a position of each pair of a head.
Vector rope_frequencies(const io::Config& c) {
    const double theta = c.rope_theta, factor = c.rope_factor, original = c.rope_original_context;
    const auto pair_that_turns = [&](double turns) {
        return kHead * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
    };
    double low = pair_that_turns(c.rope_beta_fast), high = pair_that_turns(c.rope_beta_slow);
    if (c.rope_truncate) {
        low = std::floor(low);
        high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, kHead - 1.0);
    Vector frequency(kHead / 2);
    for (uint32_t i = 0; i < kHead / 2; i++) {
        const double plain = std::pow(theta, -2.0 * i / kHead);
        const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
        frequency[i] = plain * (1 - ramp) + plain / factor * ramp;
    }
    return frequency;
}

class Forward {
  public:
    Forward(const io::Checkpoint& checkpoint, Rounding rounding, const Deltas& deltas)
        : checkpoint_(checkpoint),
          c_(checkpoint.config),
          rounding_(rounding),
          deltas_(deltas),
          frequencies_(rope_frequencies(c_)) {}

    Expected run(std::span<const uint32_t> tokens, std::span<const uint32_t> positions) {
        const Dense embedding(checkpoint_.embedding, rounding_.weights);
        std::vector<Vector> x;
        for (const uint32_t token : tokens) {
            const auto row = embedding.values.begin() + static_cast<ptrdiff_t>(token * embedding.cols);
            x.emplace_back(row, row + c_.hidden);
        }
        // of the last layer's tokens only these are looked at
        std::vector<bool> wanted(tokens.size());
        for (const uint32_t p : positions) wanted[p] = true;
        const std::vector<bool> all(tokens.size(), true);
        for (uint32_t i = 0; i < c_.n_layers; i++) {
            const std::vector<bool>& which = i + 1 < c_.n_layers ? all : wanted;
            attention(i, checkpoint_.layers[i], c_.sliding[i], which, x);
            experts(i, checkpoint_.layers[i], which, x);
        }
        const Dense lm_head(checkpoint_.lm_head, rounding_.weights);
        const Vector norm = vector_of(checkpoint_.final_norm);
        Expected expected{{}, router_gap_};
        for (const uint32_t p : positions) {
            const Vector logits = lm_head(rms_norm(x[p], norm, c_.norm_eps), {});
            expected.logits.insert(expected.logits.end(), logits.begin(), logits.end());
        }
        return expected;
    }

  private:
    // Rotates every head of x, pairs i and i + 32.
    void rotate(Vector& x, size_t position) const {
        const double yarn = c_.rope_factor > 1 ? 0.1 * std::log(c_.rope_factor) + 1 : 1;
        const double concentration = yarn * c_.rope_attention_factor;
        for (size_t head = 0; head < x.size(); head += kHead)
            for (uint32_t i = 0; i < kHead / 2; i++) {
                const double angle = static_cast<double>(position) * frequencies_[i];
                const double cos = concentration * std::cos(angle), sin = concentration * std::sin(angle);
                const double a = x[head + i], b = x[head + i + kHead / 2];
                x[head + i] = a * cos - b * sin;
                x[head + i + kHead / 2] = b * cos + a * sin;
            }
    }

    // y += delta·x, where the matrix has one.
    void add_delta(uint32_t layer, io::LoraTarget target, uint32_t expert, const Vector& x, Vector& y) const {
        const auto at = deltas_.find({layer, target, expert});
        if (at == deltas_.end()) return;
        for (size_t r = 0; r < y.size(); r++)
            y[r] +=
                std::inner_product(x.begin(), x.end(), at->second.begin() + static_cast<ptrdiff_t>(r * x.size()), 0.0);
    }

    void attention(uint32_t index, const io::LayerTensors& layer, bool sliding, const std::vector<bool>& which,
                   std::vector<Vector>& x) const {
        const Dense wq(layer.q, rounding_.weights), wk(layer.k, rounding_.weights), wv(layer.v, rounding_.weights),
            wo(layer.out, rounding_.weights);
        const Vector norm = vector_of(layer.attn_norm), bq = vector_of(layer.q_bias), bk = vector_of(layer.k_bias),
                     bv = vector_of(layer.v_bias), bo = vector_of(layer.out_bias), sinks = vector_of(layer.sinks);
        std::vector<Vector> keys, values;
        for (size_t t = 0; t < x.size(); t++) {
            const Vector in = rms_norm(x[t], norm, c_.norm_eps);
            Vector k = wk(in, bk), v = wv(in, bv);
            add_delta(index, io::LoraTarget::K, 0, in, k);
            add_delta(index, io::LoraTarget::V, 0, in, v);
            rotate(k, t);
            if (rounding_.kv_f16 && !sliding) {
                std::transform(k.begin(), k.end(), k.begin(), to_f16);
                std::transform(v.begin(), v.end(), v.begin(), to_f16);
            }
            keys.push_back(std::move(k));
            values.push_back(std::move(v));
            if (!which[t]) continue;
            Vector q = wq(in, bq);
            add_delta(index, io::LoraTarget::Q, 0, in, q);
            rotate(q, t);
            const size_t first = sliding && t + 1 > c_.window ? t + 1 - c_.window : 0;
            Vector mixed(q.size());
            for (uint32_t head = 0; head < c_.n_heads; head++) {
                const uint32_t kv = head / (c_.n_heads / c_.n_kv_heads) * kHead;
                const double* query = q.data() + head * kHead;
                Vector scores;
                for (size_t p = first; p <= t; p++)
                    scores.push_back(std::inner_product(query, query + kHead, keys[p].begin() + kv, 0.0) / 8);
                const double highest = std::max(sinks[head], *std::max_element(scores.begin(), scores.end()));
                double sum = std::exp(sinks[head] - highest);
                for (double& s : scores) sum += s = std::exp(s - highest);
                for (size_t p = first; p <= t; p++)
                    for (uint32_t i = 0; i < kHead; i++)
                        mixed[head * kHead + i] += scores[p - first] / sum * values[p][kv + i];
            }
            Vector out = wo(mixed, bo);
            add_delta(index, io::LoraTarget::Out, 0, mixed, out);
            add(x[t], out);
        }
    }

    void experts(uint32_t index, const io::LayerTensors& layer, const std::vector<bool>& which,
                 std::vector<Vector>& x) {
        const Dense router(layer.router);
        const Vector norm = vector_of(layer.mlp_norm), router_bias = vector_of(layer.router_bias),
                     down_bias = vector_of(layer.down_bias);
        const std::vector<float> gate_up_bias_f32 = layer.read_gate_up_bias();
        const Vector gate_up_bias(gate_up_bias_f32.begin(), gate_up_bias_f32.end());
        for (size_t t = 0; t < x.size(); t++) {
            if (!which[t]) continue;
            Vector& token = x[t];
            const Vector in = rms_norm(token, norm, c_.norm_eps), logits = router(in, router_bias);
            std::vector<uint32_t> order(c_.n_experts);
            std::iota(order.begin(), order.end(), 0);
            std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
            const uint32_t n = c_.n_active_experts;
            if (n < c_.n_experts) router_gap_ = std::min(router_gap_, logits[order[n - 1]] - logits[order[n]]);
            double sum = 0;
            for (uint32_t i = 0; i < n; i++) sum += std::exp(logits[order[i]] - logits[order[0]]);
            for (uint32_t i = 0; i < n; i++) {
                const uint32_t e = order[i];
                Vector h = expert_product(layer.gate_up, e, in, gate_up_bias.data() + e * 2 * c_.intermediate);
                add_delta(index, io::LoraTarget::GateUp, e, in, h);
                Vector activated(c_.intermediate);
                for (uint32_t j = 0; j < c_.intermediate; j++) {
                    const double limit = c_.swiglu_limit, gate = std::min(h[2 * j], limit);
                    const double up = std::clamp(h[2 * j + 1], -limit, limit);
                    activated[j] = gate / (1 + std::exp(-1.702 * gate)) * (up + 1);
                }
                Vector y = expert_product(layer.down, e, activated, down_bias.data() + e * c_.hidden);
                add_delta(index, io::LoraTarget::Down, e, activated, y);
                add(token, y, std::exp(logits[e] - logits[order[0]]) / sum);
            }
        }
    }

    const io::Checkpoint& checkpoint_;
    const io::Config& c_;
    const Rounding rounding_;
    const Deltas& deltas_;
    const Vector frequencies_;
    double router_gap_ = std::numeric_limits<double>::infinity();
};

}  // namespace

Expected reference_logits(const io::Checkpoint& checkpoint, std::span<const uint32_t> tokens,
                          std::span<const uint32_t> positions, Rounding rounding, const Deltas& deltas) {
    return Forward(checkpoint, rounding, deltas).run(tokens, positions);
}

}  // namespace gptoss::test
