// What finds a fault: each kernel is compared by itself, with what the device itself had made before, so that
// tolerances are those of one kernel and the first that is off is known. Every value is compared with its row's size.
// The miniature's weights make float16 subnormals and large attention scores count; the batch covers all of a kernel's
// tokens, several blocks of keys, a window, tiles that are not full and experts with many tokens and with none.
#include "tuning/self_test.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "forward/forward.h"
#include "forward/sampling.h"
#include "tuning/self_test_model.h"

namespace gptoss::model {

namespace {

using Vector = std::vector<double>;
using Floats = std::vector<float>;

constexpr uint32_t kBatch = 141;  // tokens: more than the keys of the widest attention's block, and a group not full
constexpr uint32_t kChecked[] = {0, 9, 18, 27, 36, 45, 54, 63, 127, 128, 136, 137, 138, 139, 140};
constexpr uint32_t kSlots = kBatch + 1;  // of the ring
constexpr uint64_t kStagingBytes = 8 << 20;

// Of a row's root mean square. Float32 sums of these lengths are off by less than a tenth of the first, sums of
// products of float16 by less than a half of the second, of integers of 16 bits by less than a half of the third.
constexpr double kTolerance = 1e-4, kCoopmatTolerance = 4e-3, kIntegerTolerance = 1e-3;
constexpr double kF16 = 0x1p-10;  // a float16 cache's rounding, whichever way a driver rounds

struct Fault {
    std::string what;
};

// Throws a Fault if any value is off by more than the tolerance times the row's size, and `relative` times its own. The
// size is at least least_size: a short row may be small by chance, where what it sums is not.
void expect(const std::string& kernel, const float* got, const Vector& expected, double tolerance = kTolerance,
            double relative = 0, double least_size = 0) {
    const double size = std::max(
        least_size,
        std::sqrt(std::inner_product(expected.begin(), expected.end(), expected.begin(), 0.0) / expected.size()));
    double worst = 0;
    for (size_t i = 0; i < expected.size(); i++) {
        const double error = (std::abs(got[i] - expected[i]) - relative * std::abs(expected[i])) / size;
        worst = error <= worst ? worst : error;  // a NaN stays
        if (!(worst <= tolerance))
            throw Fault{kernel + ": value " + std::to_string(i) + " is " + std::to_string(got[i]) + " instead of " +
                        std::to_string(expected[i])};
    }
}

double dot(const float* weights, const double* x, size_t n) {
    return std::transform_reduce(weights, weights + n, x, 0.0);  // in any order: the compiler's vectors
}

// weights·x + bias; weights: (bias.size(), x.size())
Vector product(const Floats& weights, const Vector& x, const float* bias, size_t rows) {
    Vector y(rows);
    for (size_t r = 0; r < rows; r++) y[r] = dot(&weights[r * x.size()], x.data(), x.size()) + (bias ? bias[r] : 0);
    return y;
}

// The size that rows of weights·x have where the signs of what they sum are random.
double product_size(const Floats& weights, const Vector& x, size_t rows) {
    double squares = 0;
    for (size_t i = 0; i < rows * x.size(); i++) squares += std::pow(weights[i] * x[i % x.size()], 2);
    return std::sqrt(squares / rows);
}

Vector rms_norm(const Vector& x, const Floats& weight, double eps) {
    const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); i++) y[i] = x[i] / std::sqrt(squares / x.size() + eps) * weight[i];
    return y;
}

// The softmax of the values together with one more that the result lacks, if given.
Vector softmax(Vector values, const float* sink = nullptr) {
    double top = *std::max_element(values.begin(), values.end());
    if (sink) top = std::max<double>(top, *sink);
    double sum = sink ? std::exp(*sink - top) : 0;
    for (double& v : values) sum += v = std::exp(v - top);
    for (double& v : values) v /= sum;
    return values;
}

// The indices of the n largest in order, ties by index.
std::vector<uint32_t> largest(const float* values, uint32_t count, uint32_t n) {
    std::vector<uint32_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return values[a] > values[b]; });
    order.resize(n);
    return order;
}

// One expert's matrix as float32, (rows, cols).
Floats expert_matrix(const io::Experts& e, uint32_t expert) {
    static constexpr float kE2M1[] = {0, .5, 1, 1.5, 2, 3, 4, 6, -0.f, -.5, -1, -1.5, -2, -3, -4, -6};
    const uint64_t blocks = e.rows * e.blocks_per_row();
    std::vector<std::byte> codes(blocks * 16), scales(blocks);
    e.read(expert, 0, e.rows, codes.data(), scales.data());
    Floats values(blocks * 32);
    for (uint64_t i = 0; i < values.size(); i++) {
        const auto byte = std::to_integer<unsigned>(codes[i / 2]);
        values[i] = std::ldexp(kE2M1[i % 2 ? byte >> 4 : byte & 15], std::to_integer<int>(scales[i / 32]) - 127);
    }
    return values;
}

// A layer's weights on the host.
struct HostLayer {
    explicit HostLayer(const io::LayerTensors& t)
        : tensors(t),
          attn_norm(t.attn_norm.read_f32()),
          mlp_norm(t.mlp_norm.read_f32()),
          sinks(t.sinks.read_f32()),
          out(t.out.read_f32()),
          out_bias(t.out_bias.read_f32()),
          router(t.router.read_f32()),
          router_bias(t.router_bias.read_f32()),
          gate_up_bias(t.read_gate_up_bias()),
          down_bias(t.down_bias.read_f32()) {
        for (const io::Matrix* m : {&t.q, &t.k, &t.v}) append(qkv, m->read_f32());
        for (const io::Matrix* m : {&t.q_bias, &t.k_bias, &t.v_bias}) append(qkv_bias, m->read_f32());
    }
    const Floats& gate_up(uint32_t expert) { return find(gate_up_, tensors.gate_up, expert); }
    const Floats& down(uint32_t expert) { return find(down_, tensors.down, expert); }

    const io::LayerTensors& tensors;
    Floats attn_norm, mlp_norm, sinks, qkv, qkv_bias, out, out_bias, router, router_bias, gate_up_bias, down_bias;

  private:
    static void append(Floats& to, const Floats& from) { to.insert(to.end(), from.begin(), from.end()); }
    static const Floats& find(std::map<uint32_t, Floats>& known, const io::Experts& all, uint32_t expert) {
        Floats& values = known[expert];
        if (values.empty()) values = expert_matrix(all, expert);
        return values;
    }
    std::map<uint32_t, Floats> gate_up_, down_;  // of the experts that were asked for
};

// What a layer leaves on the device, (T, …) as Activations has it.
struct Left {
    Floats q, attention, router, weights, hidden, x, keys, values, logits;
    std::vector<uint32_t> experts, slots;
};

class SelfTest {
  public:
    SelfTest(const std::shared_ptr<vk::Gpu>& gpu, const KernelNeeds& needs, const Tuning& tuning, const Pulse& pulse)
        : pulse_(pulse),
          miniature_(needs),
          config_(miniature_.checkpoint.config),
          coopmat_(tuning.coopmat()),
          integer_(tuning.integer()),
          network_(gpu, miniature_.checkpoint, needs.kv_f16, tuning, {}, {}),
          activations_(network_, kBatch, 1),
          layout_(config_, needs.kv_f16),
          tables_(network_.device, layout_, 1),
          ring_(network_.device, layout_.ring_bytes(kSlots), vk::Memory::Device, "self-test"),
          segment_(network_.device, layout_.segment_bytes(), vk::Memory::Device, "self-test"),
          sampler_(network_, 1),
          commands_(network_.device, network_.pipelines),
          upload_(network_.device, kBatch * sizeof(args::Token), vk::Memory::Upload, "self-test"),
          staging_(network_.device, kStagingBytes, vk::Memory::Readback, "self-test"),
          embedding_(miniature_.checkpoint.embedding.read_f32()) {
        for (const io::LayerTensors& t : miniature_.checkpoint.layers) layers_.emplace_back(t);
        uint32_t coarse;
        const Floats table = rope_table(config_, 256, &coarse);
        concentration_ = table[0];  // of position 0, whose cosine is 1
        turns_.assign(table.begin() + coarse * 64, table.end());
    }

    void run() {
        commands_.begin();
        commands_.zero(activations_.squares);
        tables_.record(commands_, 0, ring_.address(), kSlots, std::vector{segment_.address()});
        commands_.end();
        commands_.submit();
        for (const auto& [first, n] : {std::pair(0u, kBatch), std::pair(kBatch, 1u)}) {
            std::vector<Vector> x(n);
            for (uint32_t t = 0; t < n; t++) {
                const auto row = embedding_.begin() + token(first + t) * config_.hidden;
                x[t].assign(row, row + config_.hidden);
            }
            for (uint32_t layer = 0; layer < config_.n_layers; layer++) {
                if (pulse_) pulse_();
                const Left left = run_layer(layer, first, n);
                check_layer(layer, first, n, x, left);
                for (uint32_t t = 0; t < n; t++)
                    x[t].assign(&left.x[t * config_.hidden], &left.x[t * config_.hidden] + config_.hidden);
                if (!left.logits.empty()) check_logits(x.back(), left.logits);
            }
        }
    }

  private:
    uint32_t token(uint32_t position) const { return position * 37 % config_.vocab; }

    Left run_layer(uint32_t layer, uint32_t first, uint32_t n);
    void check_layer(uint32_t layer, uint32_t first, uint32_t n, const std::vector<Vector>& x, const Left& left);
    void check_qkv(const std::string& where, uint32_t layer, const Vector& x, uint32_t position, const float* q,
                   const Left& left, double tolerance) const;
    void check_attention(const std::string& where, uint32_t layer, uint32_t position, const float* q, const float* got,
                         const Left& left) const;
    void check_slots(const std::string& where, const Left& left) const;
    void check_experts(const std::string& where, HostLayer& w, uint32_t t, bool batch, const Vector& x,
                       const Left& left);
    void check_logits(const Vector& x, const Floats& logits);
    void check_draw(const SamplerSettings& settings, Floats logits, uint32_t one_in = 1);
    void rotate(Vector& rows, size_t n_rows, uint32_t position) const;
    bool rounded(uint32_t layer) const { return network_.kv_f16 && !config_.sliding[layer]; }  // the layer's cache
    Floats cached(const std::vector<uint32_t>& words, bool f16) const;

    // Of products.
    double tolerance(bool batch) const { return batch && coopmat_ ? kCoopmatTolerance : kTolerance; }
    double expert_tolerance(bool batch) const { return batch && integer_ ? kIntegerTolerance : tolerance(batch); }

    const Pulse& pulse_;
    const Miniature miniature_;
    const io::Config& config_;
    const bool coopmat_, integer_;  // what batches multiply
    const Network network_;
    Activations activations_;
    const KvLayout layout_;
    const KvTables tables_;
    const vk::Buffer ring_, segment_;  // keys and values
    Sampler sampler_;
    vk::Commands commands_;
    vk::Buffer upload_, staging_;
    Floats embedding_;
    std::vector<HostLayer> layers_;
    double concentration_ = 1;
    Floats turns_;  // (positions, 32, 2) cosines and sines
    uint32_t draws_ = 0;
};

// Runs one layer for tokens at positions [first, first + n), and reads back what it leaves.
Left SelfTest::run_layer(uint32_t layer, uint32_t first, uint32_t n) {
    const uint32_t k = config_.n_active_experts;
    const bool last = layer + 1 == config_.n_layers, logits = last && n == 1;
    for (uint32_t t = 0; t < n; t++) upload_.as<args::Token>()[t] = {token(first + t), first + t, 0, 0};
    commands_.begin();
    if (layer == 0) commands_.copy(upload_, 0, activations_.tokens, 0, n * sizeof(args::Token));
    record_forward(commands_, network_, activations_, tables_, n, layer, layer + 1, last);
    commands_.barrier();

    Left left;
    std::vector<uint32_t> keys, values, halves;
    std::vector<std::pair<void*, uint64_t>> copies;
    uint64_t staged = 0;
    const auto read = [&](auto& to, const vk::Buffer& from, uint64_t count, uint64_t offset = 0) {
        to.resize(count);
        commands_.copy(from, offset, staging_, staged, count * 4);
        copies.emplace_back(to.data(), count * 4);
        staged += count * 4;
    };
    const uint64_t rows = uint64_t{n} * config_.n_heads * HEAD_DIM;
    read(left.q, activations_.q, rows);
    read(left.attention, activations_.attention, rows);
    read(left.router, activations_.router, uint64_t{n} * config_.n_experts);
    if (n > 1) {
        read(left.weights, activations_.expert_weight, n * k);
        read(left.experts, activations_.expert_choice, n * k);
        read(left.slots, activations_.slots, n * k);
    }
    const uint64_t n_hidden = uint64_t{n} * k * config_.intermediate;
    if (n > 1 && coopmat_)
        read(halves, activations_.hidden, n_hidden / 2);
    else
        read(left.hidden, activations_.hidden, n_hidden);
    read(left.x, activations_.x, uint64_t{n} * config_.hidden);
    if (logits) read(left.logits, activations_.logits, config_.vocab);
    const bool sliding = config_.sliding[layer];
    const uint64_t slot_bytes = sliding ? layout_.ring_slot_bytes : layout_.slot_bytes;
    const uint64_t part_bytes = (sliding ? kSlots : kSegmentSlots) * slot_bytes;
    read(keys, sliding ? ring_ : segment_, (first + n) * slot_bytes / 4);
    read(values, sliding ? ring_ : segment_, (first + n) * slot_bytes / 4, part_bytes);
    if (staged > staging_.size()) throw Error(Status::InternalError, "the self-test reads more than it has room for");
    commands_.finish();

    const std::byte* from = staging_.data();
    for (const auto& [to, size] : copies) {
        std::memcpy(to, from, size);
        from += size;
    }
    if (!halves.empty()) {
        left.hidden.resize(n_hidden);
        io::to_f32(io::DType::F16, reinterpret_cast<const std::byte*>(halves.data()), n_hidden, left.hidden.data());
        for (float& v : left.hidden) v /= swiglu_half_scale(config_);
    }
    left.keys = cached(keys, rounded(layer));
    left.values = cached(values, rounded(layer));
    return left;
}

// Words of the cache as (slots, n_kv_heads, 64).
Floats SelfTest::cached(const std::vector<uint32_t>& words, bool f16) const {
    const size_t per_word = f16 ? 2 : 1;
    Floats stored(words.size() * per_word), values(stored.size());
    io::to_f32(f16 ? io::DType::F16 : io::DType::F32, reinterpret_cast<const std::byte*>(words.data()), stored.size(),
               stored.data());
    for (size_t i = 0; i < stored.size(); i++) values[i / 64 * 64 + i % 64 / 2 + i % 2 * 32] = stored[i];
    return values;
}

void SelfTest::check_layer(uint32_t layer, uint32_t first, uint32_t n, const std::vector<Vector>& x, const Left& left) {
    HostLayer& w = layers_[layer];
    const bool batch = n > 1;
    const std::string where = !batch ? " of one token" : coopmat_ ? "_coopmat of a batch" : " of a batch";
    if (batch) check_slots(where, left);
    for (const uint32_t checked : kChecked) {
        const uint32_t t = batch ? checked : 0;
        const float* q = &left.q[t * config_.n_heads * HEAD_DIM];
        const float* attention = &left.attention[t * config_.n_heads * HEAD_DIM];
        check_qkv((layer == 0 ? "dense_embed or attn_qkv" : "attn_qkv") + where, layer, x[t], first + t, q, left,
                  tolerance(batch));
        check_attention("attn_attend" + where, layer, first + t, q, attention, left);
        const Vector in(attention, attention + config_.n_heads * HEAD_DIM);
        Vector mid = product(w.out, in, w.out_bias.data(), config_.hidden);
        for (uint32_t i = 0; i < config_.hidden; i++) mid[i] += x[t][i];
        check_experts(where, w, t, batch, mid, left);
        if (!batch) break;
    }
}

// Turns the first n_rows rows, heads of 64, by the angles of a position.
void SelfTest::rotate(Vector& rows, size_t n_rows, uint32_t position) const {
    for (size_t head = 0; head < n_rows; head += HEAD_DIM)
        for (uint32_t i = 0; i < 32; i++) {
            const double cos = concentration_ * turns_[(position * 32 + i) * 2];
            const double sin = concentration_ * turns_[(position * 32 + i) * 2 + 1];
            double &a = rows[head + i], &b = rows[head + i + 32];
            std::tie(a, b) = std::pair(a * cos - b * sin, b * cos + a * sin);
        }
}

void SelfTest::check_qkv(const std::string& where, uint32_t layer, const Vector& x, uint32_t position, const float* q,
                         const Left& left, double tolerance) const {
    const HostLayer& w = layers_[layer];
    const size_t q_rows = config_.n_heads * HEAD_DIM, kv_rows = config_.n_kv_heads * HEAD_DIM;
    Vector rows = product(w.qkv, rms_norm(x, w.attn_norm, config_.norm_eps), w.qkv_bias.data(), q_rows + 2 * kv_rows);
    rotate(rows, q_rows + kv_rows, position);
    for (size_t i = 0; i < q_rows; i++) rows[i] /= 8;
    const auto from = [&](size_t first, size_t n) { return Vector(&rows[first], &rows[first] + n); };
    const double relative = rounded(layer) ? kF16 : 0;
    expect(where, q, from(0, q_rows), tolerance);
    expect(where, &left.keys[position * kv_rows], from(q_rows, kv_rows), tolerance, relative);
    expect(where, &left.values[position * kv_rows], from(q_rows + kv_rows, kv_rows), tolerance, relative);
}

void SelfTest::check_attention(const std::string& where, uint32_t layer, uint32_t position, const float* q,
                               const float* got, const Left& left) const {
    const uint32_t first = config_.sliding[layer] ? position - std::min(position, config_.window - 1) : 0;
    const size_t slot = config_.n_kv_heads * HEAD_DIM;
    for (uint32_t head = 0; head < config_.n_heads; head++) {
        const size_t kv = head / (config_.n_heads / config_.n_kv_heads) * HEAD_DIM;
        const Vector query(q + head * HEAD_DIM, q + (head + 1) * HEAD_DIM);
        Vector scores;
        for (uint32_t p = first; p <= position; p++)
            scores.push_back(dot(&left.keys[p * slot + kv], query.data(), HEAD_DIM));
        scores = softmax(std::move(scores), &layers_[layer].sinks[head]);
        Vector mixed(HEAD_DIM);
        for (uint32_t p = first; p <= position; p++)
            for (uint32_t i = 0; i < HEAD_DIM; i++) mixed[i] += scores[p - first] * left.values[p * slot + kv + i];
        expect(where, got + head * HEAD_DIM, mixed);
    }
}

// Every (token, choice) once, sorted by its expert.
void SelfTest::check_slots(const std::string& where, const Left& left) const {
    std::vector<bool> seen(left.slots.size());
    uint32_t before = 0;
    for (const uint32_t slot : left.slots) {
        if (slot >= seen.size() || seen[slot] || left.experts[slot] < before) throw Fault{"moe_group" + where};
        seen[slot] = true;
        before = left.experts[slot];
    }
}

// x: the residual before the experts.
void SelfTest::check_experts(const std::string& where, HostLayer& w, uint32_t t, bool batch, const Vector& x,
                             const Left& left) {
    const uint32_t k = config_.n_active_experts, inner = config_.intermediate, n_experts = config_.n_experts;
    const bool integer = batch && integer_;
    const Vector in = rms_norm(x, w.mlp_norm, config_.norm_eps);
    const float* router = &left.router[t * n_experts];
    expect("attn_out or dense_linear" + where, router, product(w.router, in, w.router_bias.data(), n_experts),
           tolerance(batch), 0, product_size(w.router, in, n_experts));
    // by the device's own logits: where two are alike, rounding may choose
    const std::vector<uint32_t> chosen = largest(router, n_experts, k);
    Vector weights;
    for (const uint32_t e : chosen) weights.push_back(router[e]);
    weights = softmax(std::move(weights));
    if (batch) {
        if (!std::equal(chosen.begin(), chosen.end(), &left.experts[t * k])) throw Fault{"moe_topk" + where};
        expect("moe_topk" + where, &left.weights[t * k], weights);
    }
    Vector after = x;
    for (uint32_t j = 0; j < k; j++) {
        const uint32_t e = chosen[j];
        const size_t row = batch ? std::find(left.slots.begin(), left.slots.end(), t * k + j) - left.slots.begin() : j;
        const Vector h = product(w.gate_up(e), in, &w.gate_up_bias[e * 2 * inner], 2 * inner);
        Vector activated(inner);
        for (uint32_t i = 0; i < inner; i++) {
            const double limit = config_.swiglu_limit, gate = std::min(h[2 * i], limit);
            const double up = std::clamp(h[2 * i + 1], -limit, limit);
            activated[i] = gate / (1 + std::exp(-config_.swiglu_alpha * gate)) * (up + 1);
        }
        const float* got = &left.hidden[row * inner];
        expect((integer ? "dense_round or moe_gate_up_integer" : "moe_gate_up") + where, got, activated,
               expert_tolerance(batch), batch && coopmat_ ? kCoopmatTolerance : 0);
        const Vector y = product(w.down(e), Vector(got, got + inner), &w.down_bias[e * config_.hidden], config_.hidden);
        for (uint32_t i = 0; i < config_.hidden; i++) after[i] += weights[j] * y[i];
    }
    const std::string last = integer ? "dense_round, moe_down_integer or moe_merge"
                             : batch ? "moe_down_slots or moe_merge"
                                     : "moe_down";
    expect(last + where, &left.x[t * config_.hidden], after, expert_tolerance(batch));
}

void SelfTest::check_logits(const Vector& x, const Floats& logits) {
    const Vector in = rms_norm(x, miniature_.checkpoint.final_norm.read_f32(), config_.norm_eps);
    expect("dense_linear of the logits", logits.data(),
           product(miniature_.checkpoint.lm_head.read_f32(), in, nullptr, config_.vocab));
    check_draw({.temperature = 0}, logits);
    check_draw({.top_p = 0.9f, .seed = 1}, logits);
    check_draw({.top_k = 40, .seed = 2}, logits);
    check_draw({.top_p = 0.9f, .seed = 3}, logits, 7);
}

// The noise of a token's logit, see shaders/common/sample.glsl.
double gumbel(uint64_t seed, uint32_t position, uint32_t id) {
    uint32_t c[4] = {id / 4, position, 0, 0};
    auto key = std::pair(static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    for (int round = 0; round < 10; round++) {
        const uint64_t x = uint64_t{0xd2511f53} * c[0], z = uint64_t{0xcd9e8d57} * c[2];
        const uint32_t next[] = {static_cast<uint32_t>(z >> 32) ^ c[1] ^ key.first, static_cast<uint32_t>(z),
                                 static_cast<uint32_t>(x >> 32) ^ c[3] ^ key.second, static_cast<uint32_t>(x)};
        std::copy_n(next, 4, c);
        key.first += 0x9e3779b9;
        key.second += 0xbb67ae85;
    }
    return -std::log(-std::log1p(-(c[id % 4] + 0.5) * 0x1p-32));
}

// One draw, whose token must be the one with the largest sum of logit and noise among those that the filters keep. What
// is within rounding of that is right too. one_in: every so manieth token is in the mask, which is none at 1.
void SelfTest::check_draw(const SamplerSettings& settings, Floats logits, uint32_t one_in) {
    constexpr double kNear = 1e-3;
    const uint32_t position = kBatch + draws_++;  // of the token before
    *upload_.as<args::Token>() = {0, position, 0, 0};
    commands_.begin();
    commands_.barrier();  // after the draw before
    commands_.copy(upload_, 0, activations_.tokens, 0, sizeof(args::Token));
    const std::span<uint32_t> mask = sampler_.mask(0);
    std::fill(mask.begin(), mask.end(), 0);
    for (uint32_t id = 0; id < logits.size(); id++)
        if (id % one_in == 0)
            mask[id / 32] |= 1u << id % 32;
        else
            logits[id] = -1e20f;
    sampler_.record_rows(commands_, std::vector{Sampler::Row{settings, 0, 0, one_in > 1}});
    commands_.barrier();
    sampler_.record(commands_, 1, activations_.logits.address(), activations_.tokens.address());
    commands_.finish();
    const uint32_t drawn = sampler_.drawn(0, position + 1);

    const auto vocab = static_cast<uint32_t>(logits.size());
    const std::vector<uint32_t> order = largest(logits.data(), vocab, vocab);
    const bool random = settings.temperature > 0;
    const Vector mass = softmax(Vector(logits.begin(), logits.end()));
    const uint32_t keep = random && settings.top_k > 0 ? std::min(settings.top_k, vocab) : vocab;
    double best = -1e30, of_drawn = -1e30, before = 0;
    for (uint32_t i = 0; i < keep; i++) {
        const uint32_t id = order[i];
        const double noisy = logits[id] + (random ? gumbel(settings.seed, position + 1, id) : 0);
        if (id == drawn && (!random || before < settings.top_p + kNear)) of_drawn = noisy;
        if (!random || before < settings.top_p - kNear) best = std::max(best, noisy);
        before += mass[id];
    }
    if (!(of_drawn >= best - kNear)) throw Fault{"sample: drew token " + std::to_string(drawn)};
}

}  // namespace

std::string self_test(const std::shared_ptr<vk::Gpu>& gpu, const KernelNeeds& needs, const Tuning& tuning,
                      const Pulse& pulse) {
    try {
        Tuning exact = tuning;
        exact.coopmat_batch = exact.integer_batch = UINT32_MAX;
        SelfTest(gpu, needs, exact, pulse).run();
        if (tuning.integer()) SelfTest(gpu, needs, tuning, pulse).run();
        for (uint32_t tile = 32; tuning.coopmat() && tile <= tuning.coopmat_tokens; tile *= 2) {
            // in tiles of that many tokens, for which most experts must have as many
            KernelNeeds few = needs;
            if (tile > 32) few.config.n_experts = std::min(few.config.n_experts, 2 * few.config.n_active_experts);
            Tuning coopmat = tuning;
            coopmat.coopmat_tokens = tile;
            coopmat.coopmat_groups = 1;
            SelfTest(gpu, few, coopmat, pulse).run();
        }
        return "";
    } catch (const Fault& fault) {
        return "kernel " + fault.what;
    } catch (const Error& error) {
        if (error.status() != Status::UnsupportedSystem) throw;
        return error.what();  // the driver cannot build the kernel
    }
}

}  // namespace gptoss::model
