#include "forward/forward.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <vector>

#include "forward/taps.h"

namespace gptoss::model {

namespace {

// Columns of the table of sums of squares: one a tile of the residual, in whole vec4.
uint32_t square_count(const io::Config& config) { return (tile_count(config.hidden) + 3) / 4 * 4; }

// Kernels that sample read whole vec4.
uint32_t logits_stride(const io::Config& config) { return (config.vocab + 3) / 4 * 4; }

// Room for the tiles of slots of a batch grouped by expert: every expert's last tile may be almost empty.
uint32_t slot_tile_room(const io::Config& config, uint32_t n_tokens, uint32_t tile_slots) {
    const uint32_t slots = n_tokens * config.n_active_experts;
    return slots / tile_slots + std::min(config.n_experts, slots);
}

// Queries and keys go through an exponential, where rounding to 11 bits shows: their product takes the activations in
// two terms, for an eighth more work in all.
constexpr uint32_t kQkvTerms = 2;

// The power of two by which a magnitude comes to lie between 2^to and 2^(to + 1); see HalfInput.
float power_to(int to, float magnitude) {
    return std::ldexp(1.0f, to - std::ilogb(std::clamp(magnitude, 0x1p-100f, 0x1p100f)));
}

// Tokens of a workgroup of cooperative matrices: not many more than there are, and few enough that there are workgroups
// for the whole device.
uint32_t coopmat_tile(const Tuning& tuning, uint32_t tokens, uint32_t row_tiles, uint32_t terms = 1,
                      uint32_t batches = 1) {
    const auto groups = [&](uint32_t tile) { return (tokens + tile - 1) / tile * row_tiles * batches; };
    uint32_t tile = 32;
    while (terms * tile < tuning.coopmat_tokens && tile < tokens && groups(2 * tile) >= tuning.coopmat_groups)
        tile *= 2;
    return tile;
}

}  // namespace

Activations::Activations(const Network& network, uint32_t batch, uint32_t rows) : max_batch(batch), max_rows(rows) {
    for (const Part& part : parts_of(network.config, network.tuning, batch, rows))
        this->*part.buffer = vk::Buffer(network.device, part.size, vk::Memory::Device, part.what);
}

std::vector<Activations::Part> Activations::parts_of(const io::Config& c, const Tuning& tuning, uint32_t batch,
                                                     uint32_t rows) {
    using A = Activations;
    const uint64_t t = batch, k = c.n_active_experts, halves = batch >= tuning.coopmat_batch;
    // columns of a token that are integers at once: of its normed row, or of all its experts' activations
    const uint64_t integers = batch >= tuning.integer_batch ? std::max<uint64_t>(c.hidden, k * c.intermediate) : 0;
    return {
        {&A::tokens, t * sizeof(args::Token), "tokens"},
        {&A::x, t * c.hidden * 4, "residual"},
        {&A::normed, t * c.hidden * 4, "normed residual"},
        {&A::squares, t * square_count(c) * 4, "sums of squares"},
        {&A::q, t * c.n_heads * HEAD_DIM * 4, "queries"},
        {&A::attention, t * c.n_heads * HEAD_DIM * 4, "attention"},
        {&A::parts, uint64_t{rows} * c.n_heads * tuning.attention_splits * 66 * 4, "parts of attention"},
        {&A::router, t * c.n_experts * 4, "router logits"},
        {&A::expert_choice, t * k * 4, "chosen experts"},
        {&A::expert_weight, t * k * 4, "weights of the chosen experts"},
        {&A::slots, t * k * 4, "expert slots"},
        {&A::slot_tiles, slot_tile_room(c, batch, 1) * 3ull * 4, "tiles of expert slots"},
        {&A::rounded, t * std::max(halves * std::max(kQkvTerms * c.hidden, c.n_heads * HEAD_DIM), integers) * 2,
         "rounded activations"},
        {&A::rounded_scales, t * std::max(halves, integers / 32) * 4, "scales of the rounded activations"},
        {&A::hidden, t * k * c.intermediate * 4, "expert activations"},
        {&A::expert_out, t * k * c.hidden * 4, "expert outputs"},
        {&A::logits, rows * logits_stride(c) * 4ull, "logits"},
    };
}

uint64_t Activations::footprint(const io::Config& config, const Tuning& tuning, uint32_t batch, uint32_t rows) {
    uint64_t sum = 0;
    for (const Part& part : parts_of(config, tuning, batch, rows)) sum += vk::Buffer::footprint(part.size);
    return sum;
}

uint64_t workgroups_of_batch(const io::Config& config, const Tuning& tuning, uint32_t n_tokens) {
    return std::max(n_tokens, slot_tile_room(config, n_tokens, std::min(n_tokens, tuning.batch_tokens)));
}

float swiglu_half_scale(const io::Config& config) {
    return power_to(14, config.swiglu_limit * (config.swiglu_limit + 1));
}

namespace {

// How many of n tokens share a weight read. rows: each is the last of its sequence.
uint32_t shared_tokens(const Tuning& tuning, uint32_t n, bool rows) {
    if (rows && n > tuning.batch_tokens && tuning.row_tokens > tuning.batch_tokens)
        return std::min((n + 3) / 4 * 4, tuning.row_tokens);
    return std::bit_ceil(std::min(n, tuning.batch_tokens));
}

// logits = norm(x)·lm_head; (n, vocab) with logits_stride
void record_logits(vk::Commands& commands, const Network& network, const args::Input& normed, uint64_t logits,
                   bool rows) {
    const TiledMatrix& lm_head = network.weights.lm_head;
    const Tuning& tuning = network.tuning;
    const uint32_t n = normed.n_tokens, splits = n > 1 ? tuning.batch_splits : tuning.decode_splits;
    const uint32_t tokens = shared_tokens(tuning, n, rows);
    for (const TiledMatrix::Part& part : lm_head.parts) {
        const args::LinearArgs args{
            normed, part.address, 0, logits + uint64_t{part.first_row} * 4, part.rows, logits_stride(network.config),
            0};
        commands.dispatch(network.kernels.linear({tuning.lanes * splits, tuning.lanes, tokens, lm_head.weight}), args,
                          tile_count(part.rows), (n + tokens - 1) / tokens);
    }
}

// Records the parts of one batch's forward pass, in the order of its methods.
class Recorder {
  public:
    Recorder(vk::Commands& commands, const Network& network, const Activations& activations, const KvTables& tables,
             uint32_t n_tokens, bool rows, const std::optional<LoraBatch>& lora, const Taps* taps)
        : commands_(commands),
          network_(network),
          kernels_(network.kernels),
          c_(network.config),
          tuning_(network.tuning),
          a_(activations),
          tables_(tables),
          taps_(taps),
          T_(n_tokens),
          tier_(T_ >= tuning_.coopmat_batch   ? Tier::Coopmat
                : T_ >= tuning_.integer_batch ? Tier::Integer
                                              : Tier::Exact),
          workgroup_(tuning_.lanes * (T_ > 1 ? tuning_.batch_splits : tuning_.decode_splits)),
          rows_(rows),
          tokens_(shared_tokens(tuning_, T_, rows)),
          token_groups_((T_ + tokens_ - 1) / tokens_),
          hidden_tiles_(tile_count(c_.hidden)),
          n_squares_(square_count(c_)) {
        if (lora) lora_.emplace(commands, network, *lora, a_.tokens.address(), n_tokens);
    }

    // x = embedding[token]; (T, hidden)
    void embed() {
        const TiledMatrix& embedding = network_.weights.embedding;
        for (const TiledMatrix::Part& part : embedding.parts) {
            const args::EmbedArgs args{residual(network_.weights.layers[0].attn_norm), part.address,
                                       a_.tokens.address(), part.first_row, part.rows};
            commands_.dispatch(kernels_.embed({32, 32, 1, embedding.weight}), args, hidden_tiles_, T_);
        }
    }

    // caches_only: what follows the layer's keys and values is not wanted
    void layer(uint32_t i, bool caches_only) {
        const std::vector<LayerWeights>& layers = network_.weights.layers;
        const LayerWeights& layer = layers[i];
        const uint64_t next_norm = i + 1 < c_.n_layers ? layers[i + 1].attn_norm : network_.weights.final_norm;
        commands_.barrier();
        if (taps_) taps_->residual(commands_, i);
        qkv(i, layer);
        if (lora_ && lora_->use().qkv) {
            lora_->shrink_qkv(i, normed_input(T_));
            commands_.barrier();
            lora_->qkv(i, network_.weights.rope, network_.weights.rope_coarse, tables_.caches(i), a_.q.address(),
                       is_f16(i));
        }
        if (caches_only) return;
        commands_.barrier();
        if (taps_) taps_->attention(commands_, tables_, i);
        attention(i, layer);
        commands_.barrier();
        out(layer);
        if (lora_ && lora_->use().out) {
            lora_->shrink_out(i, {a_.attention.address(), 0, 0, layer.out.cols, T_, 0});
            commands_.barrier();
            lora_->out(i, residual(layer.mlp_norm));
        }
        commands_.barrier();
        router(layer);
        commands_.barrier();
        if (taps_) taps_->router(commands_, i);
        if (T_ == 1)
            experts_of_token(i, layer, next_norm);
        else
            experts_of_batch(i, layer, next_norm);
        if (lora_ && lora_->use().down) {
            commands_.barrier();
            lora_->down(i, residual(next_norm), a_.expert_choice.address(), a_.expert_weight.address());
        }
    }

    // logits = norm(x)·lm_head of the first n tokens; (n, vocab)
    void logits(uint32_t n) { record_logits(commands_, network_, normed_input(n), a_.logits.address(), rows_); }

  private:
    // q, k, v = norm(x)·W + b, rotated; k and v to the cache; (T, n_heads + 2 n_kv_heads, 64)
    void qkv(uint32_t i, const LayerWeights& layer) {
        const uint32_t heads = tile_count(layer.qkv.rows), kv_f16 = is_f16(i);
        const uint64_t rope = network_.weights.rope;
        const uint32_t rope_coarse = network_.weights.rope_coarse;
        if (tier_ == Tier::Coopmat) {
            halve(normed_input(T_), kQkvTerms);
            const args::QkvCoopmatArgs args{half_input(c_.hidden, layer.qkv.largest),
                                            layer.qkv.address(),
                                            layer.qkv_bias,
                                            rope,
                                            a_.tokens.address(),
                                            tables_.caches(i),
                                            a_.q.address(),
                                            c_.n_heads,
                                            c_.n_kv_heads,
                                            rope_coarse};
            const uint32_t tile = coopmat_tile(tuning_, T_, heads, kQkvTerms);
            commands_.dispatch(kernels_.qkv_coopmat(coopmat(tile, layer.qkv.weight, kQkvTerms, kv_f16)), args, heads,
                               (T_ + tile - 1) / tile);
        } else {
            const args::QkvArgs args{normed_input(T_),    layer.qkv.address(), layer.qkv_bias, rope,
                                     a_.tokens.address(), tables_.caches(i),   a_.q.address(), c_.n_heads,
                                     c_.n_kv_heads,       rope_coarse};
            commands_.dispatch(kernels_.qkv({product(layer.qkv.weight), kv_f16}), args, heads, token_groups_);
        }
    }

    // softmax(q·k, sink)·v; (T, n_heads, 64)
    void attention(uint32_t i, const LayerWeights& layer) {
        const uint32_t window = c_.sliding[i] ? c_.window : UINT32_MAX;
        const uint32_t splits = T_ > a_.max_rows || c_.sliding[i] ? 1 : tuning_.attention_splits;
        const args::AttentionArgs args{
            a_.q.address(),     a_.tokens.address(), tables_.caches(i), layer.sinks, a_.attention.address(),
            a_.parts.address(), c_.n_heads,          c_.n_kv_heads,     window,      splits};
        commands_.dispatch(kernels_.attention({tuning_.attention_workgroup, c_.n_heads / c_.n_kv_heads, is_f16(i),
                                               tuning_.attention_keys, tuning_.attention_value_lanes}),
                           args, splits, c_.n_kv_heads, T_);
        if (splits > 1) {
            commands_.barrier();
            const args::CombineArgs combine{a_.parts.address(), layer.sinks, a_.attention.address(), c_.n_heads,
                                            splits};
            commands_.dispatch(kernels_.combine(), combine, c_.n_heads, T_);
        }
    }

    // x += attention·Wo + bo; (T, hidden)
    void out(const LayerWeights& layer) {
        const uint32_t cols = layer.out.cols;
        if (tier_ == Tier::Coopmat) {
            halve({a_.attention.address(), 0, 0, cols, T_, 0});
            const args::OutCoopmatArgs args{residual(layer.mlp_norm), half_input(cols, layer.out.largest),
                                            layer.out.address(), layer.out_bias};
            const uint32_t tile = coopmat_tile(tuning_, T_, hidden_tiles_);
            commands_.dispatch(kernels_.out_coopmat(coopmat(tile, layer.out.weight)), args, hidden_tiles_,
                               (T_ + tile - 1) / tile);
        } else {
            const args::OutArgs args{
                residual(layer.mlp_norm), a_.attention.address(), layer.out.address(), layer.out_bias, cols, T_};
            commands_.dispatch(kernels_.out(product(layer.out.weight)), args, hidden_tiles_, token_groups_);
        }
    }

    // router logits = norm(x)·Wr + br; (T, n_experts)
    void router(const LayerWeights& layer) {
        const args::LinearArgs args{normed_input(T_),
                                    layer.router.address(),
                                    layer.router_bias,
                                    a_.router.address(),
                                    c_.n_experts,
                                    c_.n_experts,
                                    1};
        commands_.dispatch(kernels_.linear(product(layer.router.weight)), args, tile_count(c_.n_experts),
                           token_groups_);
    }

    void experts_of_token(uint32_t i, const LayerWeights& layer, uint64_t next_norm) {
        const uint32_t k = c_.n_active_experts;
        if (lora_ && (lora_->use().gate_up || lora_->use().down))
            commands_.dispatch(kernels_.topk({k}), route_args(layer, 1), 1);
        if (own_bias()) {
            commands_.barrier();
            lora_gate_up(i, layer);
            commands_.barrier();
        }
        // swiglu(norm(x)·W1 + b1) of the experts with the k largest router logits; (n_active, intermediate)
        commands_.dispatch(kernels_.gate_up({product(WEIGHT_MXFP4), k, false}), gate_up_args(layer), gate_tiles(), k);
        commands_.barrier();
        // x += Σ weight·(hidden·W2 + b2); (1, hidden)
        const args::DownArgs down{residual(next_norm), a_.hidden.address(), layer.expert_table, layer.down_bias,
                                  a_.router.address(), c_.intermediate,     c_.n_experts,       1};
        commands_.dispatch(kernels_.down({product(WEIGHT_MXFP4), k}), down, hidden_tiles_, 1);
        lora_shrink_down(i);
    }

    // Tokens are sorted by expert, in tiles of (token, choice) slots; each tile is multiplied by its expert's weights.
    void experts_of_batch(uint32_t i, const LayerWeights& layer, uint64_t next_norm) {
        const uint32_t k = c_.n_active_experts;
        const uint32_t tile_slots = tier_ == Tier::Coopmat
                                        ? coopmat_tile(tuning_, T_ * k / c_.n_experts, hidden_tiles_, 1, c_.n_experts)
                                    : tier_ == Tier::Integer ? tuning_.integer_tokens
                                                             : exact_tile();
        const args::RouteArgs route = route_args(layer, tile_slots);
        commands_.dispatch(kernels_.topk({k}), route, T_);
        // beside topk, what the experts multiply
        if (tier_ == Tier::Coopmat)
            halve(normed_input(T_));
        else if (tier_ == Tier::Integer)
            round(normed_input(T_));
        else
            commands_.barrier();
        commands_.dispatch(kernels_.group(), route, 1);
        if (own_bias()) lora_gate_up(i, layer);
        commands_.barrier();
        if (tier_ == Tier::Coopmat)
            experts_coopmat(layer, tile_slots, route.n_tiles);
        else if (tier_ == Tier::Integer)
            experts_integer(layer, tile_slots, route.n_tiles);
        else
            experts_exact(layer, tile_slots, route.n_tiles);
        lora_shrink_down(i);
        commands_.barrier();
        // x += Σ weight·output; (T, hidden)
        const args::MergeArgs merge{residual(next_norm), a_.expert_out.address(), a_.expert_weight.address(), k};
        commands_.dispatch(kernels_.merge(), merge, hidden_tiles_, T_);
    }

    // The biases that gate_up takes in the place of its own, between two barriers: after topk's, and before gate_up's.
    void lora_gate_up(uint32_t i, const LayerWeights& layer) {
        lora_->shrink_gate_up(i, normed_input(T_), a_.expert_choice.address());
        commands_.barrier();
        lora_->gate_up(i, layer.gate_up_bias, a_.expert_choice.address());
    }
    // Beside down's own product.
    void lora_shrink_down(uint32_t i) {
        if (!lora_ || !lora_->use().down) return;
        lora_->shrink_down(i, a_.hidden.address(), a_.expert_choice.address(), T_ > 1 ? a_.slots.address() : 0,
                           tier_ == Tier::Coopmat ? 1 / swiglu_half_scale(c_) : 0);
    }
    bool own_bias() const { return lora_ && lora_->use().gate_up; }
    uint64_t gate_up_bias(const LayerWeights& layer) const {
        return own_bias() ? lora_->gate_up_bias() : layer.gate_up_bias;
    }

    args::RouteArgs route_args(const LayerWeights& layer, uint32_t tile_slots) const {
        return {a_.router.address(),
                a_.slots.address(),
                a_.expert_weight.address(),
                a_.slot_tiles.address(),
                a_.expert_choice.address(),
                layer.expert_uses,
                T_,
                c_.n_experts,
                c_.n_active_experts,
                tile_slots,
                slot_tile_room(c_, T_, tile_slots)};
    }

    // Of every slot, in each of the tiers: swiglu(norm(x)·W1 + b1), (T * n_active, intermediate), and of that
    // hidden·W2 + b2, (T * n_active, hidden).
    void experts_coopmat(const LayerWeights& layer, uint32_t tile_slots, uint32_t n_tiles) {
        const float y_scale = swiglu_half_scale(c_);
        const args::GateUpCoopmatArgs gate_up{half_input(c_.hidden, layer.gate_up_largest),
                                              layer.expert_table,
                                              gate_up_bias(layer),
                                              a_.slots.address(),
                                              a_.slot_tiles.address(),
                                              a_.hidden.address(),
                                              y_scale,
                                              c_.swiglu_limit,
                                              c_.swiglu_alpha,
                                              c_.n_active_experts,
                                              own_bias()};
        commands_.dispatch(kernels_.gate_up_coopmat(coopmat(tile_slots, WEIGHT_MXFP4)), gate_up, gate_tiles(), n_tiles);
        commands_.barrier();
        args::HalfInput hidden = half_input(c_.intermediate, layer.down_largest);
        hidden.x = a_.hidden.address();
        hidden.sum_scale /= y_scale;
        const args::DownCoopmatArgs down{hidden,
                                         layer.expert_table,
                                         layer.down_bias,
                                         a_.slots.address(),
                                         a_.slot_tiles.address(),
                                         a_.expert_out.address(),
                                         c_.hidden};
        commands_.dispatch(kernels_.down_coopmat(coopmat(tile_slots, WEIGHT_MXFP4)), down, hidden_tiles_, n_tiles);
    }

    void experts_integer(const LayerWeights& layer, uint32_t tile_slots, uint32_t n_tiles) {
        const ProductConstants constants{workgroup_, tuning_.lanes, tile_slots, WEIGHT_MXFP4};
        const args::GateUpIntegerArgs gate_up{
            integer_input(c_.hidden), layer.expert_table,  gate_up_bias(layer), a_.slots.address(),
            a_.slot_tiles.address(),  a_.hidden.address(), c_.n_active_experts, c_.swiglu_limit,
            c_.swiglu_alpha,          own_bias()};
        commands_.dispatch(kernels_.gate_up_integer(constants), gate_up, gate_tiles(), n_tiles);
        commands_.barrier();
        round({a_.hidden.address(), 0, 0, c_.intermediate, T_, 0}, c_.n_active_experts);
        const args::DownIntegerArgs down{
            integer_input(c_.intermediate), layer.expert_table,      layer.down_bias, a_.slots.address(),
            a_.slot_tiles.address(),        a_.expert_out.address(), c_.hidden};
        commands_.dispatch(kernels_.down_integer(constants), down, hidden_tiles_, n_tiles);
    }

    void experts_exact(const LayerWeights& layer, uint32_t tile_slots, uint32_t n_tiles) {
        const ProductConstants constants{workgroup_, tuning_.lanes, tile_slots, WEIGHT_MXFP4};
        commands_.dispatch(kernels_.gate_up({constants, c_.n_active_experts, true}), gate_up_args(layer), gate_tiles(),
                           n_tiles);
        commands_.barrier();
        const args::DownSlotsArgs down{
            a_.hidden.address(),     layer.expert_table,      layer.down_bias, a_.slots.address(),
            a_.slot_tiles.address(), a_.expert_out.address(), c_.intermediate, c_.hidden};
        commands_.dispatch(kernels_.down_slots(constants), down, hidden_tiles_, n_tiles);
    }

    args::GateUpArgs gate_up_args(const LayerWeights& layer) const {
        return {normed_input(T_),   layer.expert_table,      gate_up_bias(layer), a_.router.address(),
                a_.slots.address(), a_.slot_tiles.address(), a_.hidden.address(), layer.expert_uses,
                c_.n_experts,       c_.swiglu_limit,         c_.swiglu_alpha,     own_bias()};
    }

    // the residual and, in `normed`, what the norm with that weight begins with
    args::Residual residual(uint64_t norm) const {
        return {a_.x.address(), a_.normed.address(), a_.squares.address(), norm, c_.hidden, n_squares_};
    }
    args::Input normed_input(uint32_t count) const {
        return {a_.normed.address(), a_.squares.address(), n_squares_, c_.hidden, count, c_.norm_eps};
    }
    // the float16 activations, as a product with weights of that magnitude reads them
    args::HalfInput half_input(uint32_t cols, float largest) const {
        const float scale = power_to(3, largest);
        return {a_.rounded.address(), a_.rounded_scales.address(), cols, T_, scale, 1 / scale};
    }
    args::IntegerInput integer_input(uint32_t cols) const {
        return {a_.rounded.address(), a_.rounded_scales.address(), cols};
    }

    void halve(const args::Input& input, uint32_t terms = 1) {
        const args::HalveArgs args{input, a_.rounded.address(), a_.rounded_scales.address(), terms};
        commands_.dispatch(kernels_.halve({128, 32}), args, T_);
        commands_.barrier();
    }
    // n * T rows
    void round(const args::Input& input, uint32_t n = 1) {
        const args::RoundArgs args{input, a_.rounded.address(), a_.rounded_scales.address()};
        commands_.dispatch(kernels_.round({64, 32}), args, T_, n);
        commands_.barrier();
    }

    // How many slots of an expert share a weight read; there are few in a small batch, and what is missing in a tile is
    // computed all the same.
    uint32_t exact_tile() const {
        const uint32_t slots = (T_ * c_.n_active_experts + c_.n_experts - 1) / c_.n_experts;
        return std::bit_ceil(std::clamp(slots, 1u, std::min(T_, tuning_.batch_tokens)));
    }

    ProductConstants product(uint32_t weight) const { return {workgroup_, tuning_.lanes, tokens_, weight}; }
    CoopmatConstants coopmat(uint32_t tile, uint32_t weight, uint32_t terms = 1, uint32_t kv = 0) const {
        const vk::CoopmatShape& shape = network_.device.info().coopmat;
        return {shape.subgroup * tuning_.coopmat_subgroups,
                shape.subgroup,
                tile,
                weight,
                kv,
                terms,
                shape.m,
                shape.n,
                shape.k,
                32 / shape.m};
    }

    uint32_t is_f16(uint32_t i) const { return network_.kv_f16 && !c_.sliding[i]; }
    uint32_t gate_tiles() const { return tile_count(2 * c_.intermediate); }

    vk::Commands& commands_;
    const Network& network_;
    Kernels& kernels_;
    const io::Config& c_;
    const Tuning& tuning_;
    const Activations& a_;
    const KvTables& tables_;
    const Taps* const taps_;
    const uint32_t T_;
    const Tier tier_;
    const uint32_t workgroup_;
    const bool rows_;        // each token is the last of its sequence
    const uint32_t tokens_;  // that share a weight read
    const uint32_t token_groups_;
    const uint32_t hidden_tiles_;
    const uint32_t n_squares_;
    std::optional<LoraRecorder> lora_;
};

}  // namespace

void record_forward(vk::Commands& commands, const Network& network, const Activations& activations,
                    const KvTables& tables, uint32_t n_tokens, uint32_t first_layer, uint32_t last_layer,
                    uint32_t n_logits, const std::optional<LoraBatch>& lora, const Taps* taps) {
    Recorder recorder(commands, network, activations, tables, n_tokens, n_logits == n_tokens, lora, taps);
    commands.barrier();  // after whatever was submitted before
    if (first_layer == 0) recorder.embed();
    for (uint32_t i = first_layer; i < last_layer; i++)
        recorder.layer(i, i + 1 == network.config.n_layers && n_logits == 0 && !taps);
    const bool tapped = taps && last_layer == network.config.n_layers;
    if (n_logits == 0 && !tapped) return;
    commands.barrier();
    if (tapped) taps->residual(commands, last_layer);
    if (n_logits > 0) recorder.logits(n_logits);
}

Unembedding::Unembedding(const Network& network, uint32_t n)
    : network_(network), commands_(network.device, network.pipelines) {
    const io::Config& c = network.config;
    const auto make = [&](uint64_t words, vk::Memory memory, const char* what) {
        return vk::Buffer(network.device, n * words * 4, memory, what);
    };
    states_ = make(c.hidden, vk::Memory::Upload, "states");
    ones_ = make(1, vk::Memory::Upload, "weights of states");
    x_ = make(c.hidden, vk::Memory::Device, "residual of states");
    normed_ = make(c.hidden, vk::Memory::Device, "normed states");
    squares_ = make(square_count(c), vk::Memory::Device, "sums of squares of states");
    logits_ = make(logits_stride(c), vk::Memory::Readback, "logits of states");
    std::fill_n(ones_.as<float>(), n, 1.0f);
}

void Unembedding::run(std::span<const float> states, float* out) {
    const io::Config& c = network_.config;
    const auto n = static_cast<uint32_t>(states.size() / c.hidden);
    std::copy(states.begin(), states.end(), states_.as<float>());
    commands_.begin();
    commands_.zero(x_);
    commands_.zero(squares_);
    commands_.barrier();
    // x = 0 + 1 * state, as merge adds what experts leave; (n, hidden)
    const args::MergeArgs merge{
        {x_.address(), normed_.address(), squares_.address(), network_.weights.final_norm, c.hidden, square_count(c)},
        states_.address(),
        ones_.address(),
        1};
    commands_.dispatch(network_.kernels.merge(), merge, tile_count(c.hidden), n);
    commands_.barrier();
    record_logits(commands_, network_,
                  {normed_.address(), squares_.address(), square_count(c), c.hidden, n, c.norm_eps}, logits_.address(),
                  false);
    commands_.finish();
    for (uint32_t i = 0; i < n; i++)
        out = std::copy_n(logits_.as<const float>() + uint64_t{i} * logits_stride(c), c.vocab, out);
}

}  // namespace gptoss::model
