#include "model/graph.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace gptoss::model {

namespace {

// Columns of the table of sums of squares: one a tile of the residual, in whole vec4.
uint32_t square_count(const io::Config& config) { return (tile_count(config.hidden) + 3) / 4 * 4; }

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

Activations::Activations(const Model& model, uint32_t batch) : max_batch(batch) {
    for (const Part& part : parts_of(model.config, model.tuning, batch))
        this->*part.buffer = vk::Buffer(model.device, part.size, vk::Memory::Device, part.what);
}

std::vector<Activations::Part> Activations::parts_of(const io::Config& c, const Tuning& tuning, uint32_t batch) {
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
        {&A::parts, uint64_t{c.n_heads} * tuning.attention_splits * 66 * 4, "parts of attention"},
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
        {&A::logits, (c.vocab + 3ull) / 4 * 4 * 4, "logits"},
    };
}

uint64_t Activations::footprint(const io::Config& config, const Tuning& tuning, uint32_t batch) {
    uint64_t sum = 0;
    for (const Part& part : parts_of(config, tuning, batch)) sum += vk::Buffer::footprint(part.size);
    return sum;
}

uint64_t workgroups_of_batch(const io::Config& config, const Tuning& tuning, uint32_t n_tokens) {
    return std::max(n_tokens, slot_tile_room(config, n_tokens, std::min(n_tokens, tuning.batch_tokens)));
}

float swiglu_half_scale(const io::Config& config) {
    return power_to(14, config.swiglu_limit * (config.swiglu_limit + 1));
}

void record_forward(vk::Commands& commands, const Model& model, const Activations& a, const KvCache& cache,
                    uint32_t n_tokens, uint32_t first_layer, uint32_t last_layer, bool want_logits) {
    const io::Config& c = model.config;
    const Weights& w = model.weights;
    const Tuning& tuning = model.tuning;
    const uint32_t T = n_tokens;
    const bool batch = T > 1, coopmat = T >= tuning.coopmat_batch, integer = T >= tuning.integer_batch;
    const uint32_t hidden_tiles = tile_count(c.hidden), n_squares = square_count(c);
    const uint32_t workgroup = tuning.lanes * (batch ? tuning.batch_splits : tuning.decode_splits);
    uint32_t tokens = 1;  // that share a weight read
    while (tokens < std::min(T, tuning.batch_tokens)) tokens *= 2;
    const uint32_t token_groups = (T + tokens - 1) / tokens;

    const auto kernel = [&](const char* name, std::vector<uint32_t> constants) -> const vk::Kernel& {
        return model.kernels.get(name, constants);
    };
    // the residual and, in `normed`, what the norm with that weight begins with
    const auto residual = [&](uint64_t norm) {
        return args::Residual{a.x.address(), a.normed.address(), a.squares.address(), norm, c.hidden, n_squares};
    };
    const auto normed_input = [&](uint32_t count) {
        return args::Input{a.normed.address(), a.squares.address(), n_squares, c.hidden, count, c.norm_eps};
    };

    const vk::CoopmatShape& shape = model.device.info().coopmat;
    const auto coopmat_kernel = [&](const char* name, uint32_t tile, uint32_t weight, uint32_t terms = 1,
                                    uint32_t kv = 0) -> const vk::Kernel& {
        return model.kernels.get(name,
                                 {shape.subgroup * tuning.coopmat_subgroups, shape.subgroup, tile, weight, kv, terms,
                                  shape.m, shape.n, shape.k, 32 / shape.m},
                                 shape.subgroup);
    };
    // the float16 activations, as a product with weights of that magnitude reads them
    const auto half_input = [&](uint32_t cols, float largest) {
        const float scale = power_to(3, largest);
        return args::HalfInput{a.rounded.address(), a.rounded_scales.address(), cols, T, scale, 1 / scale};
    };
    const auto halve = [&](const args::Input& input, uint32_t terms = 1) {
        const args::HalveArgs args{input, a.rounded.address(), a.rounded_scales.address(), terms};
        commands.dispatch(kernel("halve", {128, 32}), args, T);
        commands.barrier();
    };
    // n * T rows as integers
    const auto round = [&](const args::Input& input, uint32_t n = 1) {
        const args::RoundArgs args{input, a.rounded.address(), a.rounded_scales.address()};
        commands.dispatch(kernel("round", {64, 32}), args, T, n);
        commands.barrier();
        return args::IntegerInput{args.y, args.scales, input.cols};
    };

    commands.barrier();  // after whatever was submitted before
    if (first_layer == 0) {
        // x = embedding[token]; (T, hidden)
        for (const TiledMatrix::Part& part : w.embedding.parts) {
            const args::EmbedArgs embed{residual(w.layers[0].attn_norm), part.address, a.tokens.address(),
                                        part.first_row, part.rows};
            commands.dispatch(kernel("embed", {32, 32, 1, w.embedding.weight}), embed, hidden_tiles, T);
        }
    }
    for (uint32_t i = first_layer; i < last_layer; i++) {
        const LayerWeights& layer = w.layers[i];
        const uint32_t kv_f16 = model.kv_f16 && !c.sliding[i];
        const uint64_t next_norm = i + 1 < c.n_layers ? w.layers[i + 1].attn_norm : w.final_norm;
        commands.barrier();

        // q, k, v = norm(x)·W + b, rotated; k and v to the cache; (T, n_heads + 2 n_kv_heads, 64)
        const uint32_t heads = tile_count(layer.qkv.rows);
        if (coopmat) {
            halve(normed_input(T), kQkvTerms);
            const args::QkvCoopmatArgs qkv{half_input(c.hidden, layer.qkv.largest),
                                           layer.qkv.address(),
                                           layer.qkv_bias,
                                           w.rope,
                                           a.tokens.address(),
                                           cache.table(i),
                                           a.q.address(),
                                           c.n_heads,
                                           c.n_kv_heads,
                                           w.rope_coarse};
            const uint32_t tile = coopmat_tile(tuning, T, heads, kQkvTerms);
            commands.dispatch(coopmat_kernel("qkv_coopmat", tile, layer.qkv.weight, kQkvTerms, kv_f16), qkv, heads,
                              (T + tile - 1) / tile);
        } else {
            const args::QkvArgs qkv{normed_input(T),    layer.qkv.address(), layer.qkv_bias, w.rope,
                                    a.tokens.address(), cache.table(i),      a.q.address(),  c.n_heads,
                                    c.n_kv_heads,       w.rope_coarse};
            commands.dispatch(kernel("qkv", {workgroup, tuning.lanes, tokens, layer.qkv.weight, kv_f16}), qkv, heads,
                              token_groups);
        }
        commands.barrier();

        // softmax(q·k, sink)·v; (T, n_heads, 64)
        const uint32_t window = c.sliding[i] ? c.window : UINT32_MAX;
        const uint32_t splits = batch || c.sliding[i] ? 1 : tuning.attention_splits;
        const args::AttentionArgs attention{
            a.q.address(),     a.tokens.address(), cache.table(i), layer.sinks, a.attention.address(),
            a.parts.address(), c.n_heads,          c.n_kv_heads,   window,      splits};
        commands.dispatch(kernel("attention", {tuning.attention_workgroup, c.n_heads / c.n_kv_heads, kv_f16}),
                          attention, splits, c.n_kv_heads, T);
        commands.barrier();
        if (splits > 1) {
            const args::CombineArgs combine{a.parts.address(), layer.sinks, a.attention.address(), c.n_heads, splits};
            commands.dispatch(kernel("combine", {}), combine, c.n_heads, T);
            commands.barrier();
        }

        // x += attention·Wo + bo; (T, hidden)
        if (coopmat) {
            halve({a.attention.address(), 0, 0, layer.out.cols, T, 0});
            const args::OutCoopmatArgs out{residual(layer.mlp_norm), half_input(layer.out.cols, layer.out.largest),
                                           layer.out.address(), layer.out_bias};
            const uint32_t tile = coopmat_tile(tuning, T, hidden_tiles);
            commands.dispatch(coopmat_kernel("out_coopmat", tile, layer.out.weight), out, hidden_tiles,
                              (T + tile - 1) / tile);
        } else {
            const args::OutArgs out{residual(layer.mlp_norm), a.attention.address(), layer.out.address(),
                                    layer.out_bias,           layer.out.cols,        T};
            commands.dispatch(kernel("out", {workgroup, tuning.lanes, tokens, layer.out.weight}), out, hidden_tiles,
                              token_groups);
        }
        commands.barrier();

        // router logits = norm(x)·Wr + br; (T, n_experts)
        const args::LinearArgs router{normed_input(T),
                                      layer.router.address(),
                                      layer.router_bias,
                                      a.router.address(),
                                      c.n_experts,
                                      c.n_experts,
                                      1};
        commands.dispatch(kernel("linear", {workgroup, tuning.lanes, tokens, layer.router.weight}), router,
                          tile_count(c.n_experts), token_groups);
        commands.barrier();

        args::GateUpArgs gate_up{normed_input(T),   layer.expert_table,     layer.gate_up_bias, a.router.address(),
                                 a.slots.address(), a.slot_tiles.address(), a.hidden.address(), layer.expert_uses,
                                 c.n_experts,       c.swiglu_limit,         c.swiglu_alpha};
        const uint32_t gate_tiles = tile_count(2 * c.intermediate), k = c.n_active_experts;
        if (!batch) {
            // the four experts' swiglu(norm(x)·W1 + b1); (n_active, intermediate)
            commands.dispatch(kernel("gate_up", {workgroup, tuning.lanes, 1, WEIGHT_MXFP4, k, false}), gate_up,
                              gate_tiles, T * k);
            commands.barrier();
            // x += Σ weight·(hidden·W2 + b2); (1, hidden)
            const args::DownArgs down{residual(next_norm), a.hidden.address(), layer.expert_table, layer.down_bias,
                                      a.router.address(),  c.intermediate,     c.n_experts,        T};
            commands.dispatch(kernel("down", {workgroup, tuning.lanes, 1, WEIGHT_MXFP4, k}), down, hidden_tiles, T);
            continue;
        }
        // tokens sorted by expert, in tiles of (token, choice) slots
        const uint32_t tile_slots = coopmat   ? coopmat_tile(tuning, T * k / c.n_experts, hidden_tiles, 1, c.n_experts)
                                    : integer ? tuning.integer_tokens
                                              : tokens;
        const args::RouteArgs route{a.router.address(),
                                    a.slots.address(),
                                    a.expert_weight.address(),
                                    a.slot_tiles.address(),
                                    a.expert_choice.address(),
                                    layer.expert_uses,
                                    T,
                                    c.n_experts,
                                    k,
                                    tile_slots,
                                    slot_tile_room(c, T, tile_slots)};
        commands.dispatch(kernel("topk", {k}), route, T);
        args::IntegerInput integers{};
        if (coopmat)
            halve(normed_input(T));
        else if (integer)
            integers = round(normed_input(T));
        else
            commands.barrier();
        commands.dispatch(kernel("group", {}), route, 1);
        commands.barrier();
        if (coopmat) {
            // swiglu(norm(x)·W1 + b1) of every slot as float16; (T * n_active, intermediate)
            const float y_scale = swiglu_half_scale(c);
            const args::GateUpCoopmatArgs gate_up16{half_input(c.hidden, layer.gate_up_largest),
                                                    layer.expert_table,
                                                    layer.gate_up_bias,
                                                    a.slots.address(),
                                                    a.slot_tiles.address(),
                                                    a.hidden.address(),
                                                    y_scale,
                                                    c.swiglu_limit,
                                                    c.swiglu_alpha,
                                                    k};
            commands.dispatch(coopmat_kernel("gate_up_coopmat", tile_slots, WEIGHT_MXFP4), gate_up16, gate_tiles,
                              route.n_tiles);
            commands.barrier();
            // hidden·W2 + b2; (T * n_active, hidden)
            args::HalfInput hidden = half_input(c.intermediate, layer.down_largest);
            hidden.x = a.hidden.address();
            hidden.sum_scale /= y_scale;
            const args::DownCoopmatArgs down{hidden,
                                             layer.expert_table,
                                             layer.down_bias,
                                             a.slots.address(),
                                             a.slot_tiles.address(),
                                             a.expert_out.address(),
                                             c.hidden};
            commands.dispatch(coopmat_kernel("down_coopmat", tile_slots, WEIGHT_MXFP4), down, hidden_tiles,
                              route.n_tiles);
        } else if (integer) {
            const std::vector<uint32_t> constants = {workgroup, tuning.lanes, tile_slots, WEIGHT_MXFP4};
            // swiglu(norm(x)·W1 + b1) of every slot; (T * n_active, intermediate)
            const args::GateUpIntegerArgs gate_up8{integers,
                                                   layer.expert_table,
                                                   layer.gate_up_bias,
                                                   a.slots.address(),
                                                   a.slot_tiles.address(),
                                                   a.hidden.address(),
                                                   k,
                                                   c.swiglu_limit,
                                                   c.swiglu_alpha};
            commands.dispatch(kernel("gate_up_integer", constants), gate_up8, gate_tiles, route.n_tiles);
            commands.barrier();
            // hidden·W2 + b2; (T * n_active, hidden)
            integers = round({a.hidden.address(), 0, 0, c.intermediate, T, 0}, k);
            const args::DownIntegerArgs down{integers,          layer.expert_table,     layer.down_bias,
                                             a.slots.address(), a.slot_tiles.address(), a.expert_out.address(),
                                             c.hidden};
            commands.dispatch(kernel("down_integer", constants), down, hidden_tiles, route.n_tiles);
        } else {
            // swiglu(norm(x)·W1 + b1) of every slot; (T * n_active, intermediate)
            commands.dispatch(kernel("gate_up", {workgroup, tuning.lanes, tokens, WEIGHT_MXFP4, k, true}), gate_up,
                              gate_tiles, route.n_tiles);
            commands.barrier();
            // hidden·W2 + b2; (T * n_active, hidden)
            const args::DownSlotsArgs down{
                a.hidden.address(),     layer.expert_table,     layer.down_bias, a.slots.address(),
                a.slot_tiles.address(), a.expert_out.address(), c.intermediate,  c.hidden};
            commands.dispatch(kernel("down_slots", {workgroup, tuning.lanes, tokens, WEIGHT_MXFP4}), down, hidden_tiles,
                              route.n_tiles);
        }
        commands.barrier();
        // x += Σ weight·output; (T, hidden)
        const args::MergeArgs merge{residual(next_norm), a.expert_out.address(), a.expert_weight.address(), k};
        commands.dispatch(kernel("merge", {}), merge, hidden_tiles, T);
    }
    if (want_logits) {
        commands.barrier();
        // logits = norm(x of the last token)·lm_head; (vocab)
        args::Input last = normed_input(1);
        last.x += uint64_t{T - 1} * c.hidden * 4;
        last.squares += uint64_t{T - 1} * n_squares * 4;
        const uint32_t lm_workgroup = tuning.lanes * tuning.decode_splits;
        for (const TiledMatrix::Part& part : w.lm_head.parts) {
            const args::LinearArgs lm_head{
                last, part.address, 0, a.logits.address() + uint64_t{part.first_row} * 4, part.rows, c.vocab, 0};
            commands.dispatch(kernel("linear", {lm_workgroup, tuning.lanes, 1, w.lm_head.weight}), lm_head,
                              tile_count(part.rows));
        }
    }
}

}  // namespace gptoss::model
