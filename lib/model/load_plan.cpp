#include "model/load_plan.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

#include "error.h"

namespace gptoss::model {

namespace {

constexpr uint64_t kFillBytes =
    4 << 20;  // about what a fill makes: small beside any budget, large beside a disk's block

uint64_t padded_rows(uint64_t rows) { return uint64_t{tile_count(rows)} * kTileRows; }

// Fills run on several threads.
void raise(float& largest, float value) {
    const std::atomic_ref<float> shared(largest);
    for (float now = shared; now < value && !shared.compare_exchange_weak(now, value);) {
    }
}

}  // namespace

LoadPlan::LoadPlan(Weights& weights, const io::Checkpoint& checkpoint, uint32_t dense, uint64_t max_allocation)
    : config_(checkpoint.config), dense_(dense), max_allocation_(max_allocation) {
    add_matrix(weights.embedding, {&checkpoint.embedding}, dense);
    weights.layers.resize(checkpoint.layers.size());
    for (size_t i = 0; i < checkpoint.layers.size(); i++)
        add_layer(weights.layers[i], checkpoint.layers[i], "layer " + std::to_string(i));
    Allocation last{"vectors"};
    add_vector(last, &weights.final_norm, checkpoint.final_norm);
    auto rope = std::make_shared<std::vector<float>>(rope_table(config_, config_.max_context, &weights.rope_coarse));
    add_vector(last, &weights.rope, rope->size(), [rope] { return *rope; });
    allocations.push_back(std::move(last));
    add_matrix(weights.lm_head, {&checkpoint.lm_head}, dense);

    weights.bytes = bytes();
    weights.bytes_per_token = weights.lm_head.bytes();
    for (const LayerWeights& layer : weights.layers) {
        const uint64_t expert = tile_count(2 * config_.intermediate) * tile_bytes(WEIGHT_MXFP4, config_.hidden) +
                                tile_count(config_.hidden) * tile_bytes(WEIGHT_MXFP4, config_.intermediate);
        weights.bytes_per_token +=
            layer.qkv.bytes() + layer.out.bytes() + layer.router.bytes() + config_.n_active_experts * expert;
    }
}

uint64_t LoadPlan::bytes() const {
    uint64_t sum = 0;
    for (const Allocation& a : allocations) sum += a.size;
    return sum;
}

void LoadPlan::add_layer(LayerWeights& to, const io::LayerTensors& from, const std::string& name) {
    add_matrix(to.qkv, {&from.q, &from.k, &from.v}, dense_);
    add_matrix(to.out, {&from.out}, dense_);
    add_matrix(to.router, {&from.router}, UINT32_MAX);  // small, and an 8-bit router would choose other experts
    to.experts.resize(config_.n_experts);
    add_experts(to.experts, &args::Expert::gate_up, to.gate_up_largest, from.gate_up, true);
    add_experts(to.experts, &args::Expert::down, to.down_largest, from.down, false);

    Allocation vectors{name + " vectors"};
    add_vector(vectors, &to.attn_norm, from.attn_norm);
    add_vector(vectors, &to.qkv_bias, to.qkv.rows, [&from] {
        std::vector<float> all = from.q_bias.read_f32();
        for (const io::Matrix* part : {&from.k_bias, &from.v_bias}) {
            const std::vector<float> values = part->read_f32();
            all.insert(all.end(), values.begin(), values.end());
        }
        return all;
    });
    add_vector(vectors, &to.sinks, from.sinks);
    add_vector(vectors, &to.out_bias, from.out_bias);
    add_vector(vectors, &to.mlp_norm, from.mlp_norm);
    add_vector(vectors, &to.router_bias, from.router_bias);
    add_vector(vectors, &to.gate_up_bias, uint64_t{config_.n_experts} * 2 * config_.intermediate, [&from] {
        const std::vector<float> alternating = from.read_gate_up_bias();
        std::vector<float> tiled(alternating.size());
        for (size_t i = 0; i < tiled.size(); i++) {
            const size_t tile = i / 64, r = i % 64;
            tiled[i] = alternating[tile * 64 + (r < 32 ? 2 * r : 2 * (r - 32) + 1)];
        }
        return tiled;
    });
    const uint64_t hidden = config_.hidden, padded = padded_rows(hidden);
    add_vector(vectors, &to.down_bias, config_.n_experts * padded, [&from, hidden, padded] {
        const std::vector<float> values = from.down_bias.read_f32();
        std::vector<float> rows(values.size() / hidden * padded);
        for (size_t e = 0; e < values.size() / hidden; e++) std::copy_n(&values[e * hidden], hidden, &rows[e * padded]);
        return rows;
    });
    const uint64_t table_bytes = to.experts.size() * sizeof(args::Expert);
    vectors.bindings.push_back({&to.expert_table, vectors.size});
    vectors.fills.push_back({vectors.size, table_bytes,
                             [&to, table_bytes](std::byte* out) { std::memcpy(out, to.experts.data(), table_bytes); }});
    vectors.size += table_bytes;
    allocations.push_back(std::move(vectors));
}

void LoadPlan::add_matrix(TiledMatrix& to, const std::vector<const io::Matrix*>& stacked, uint32_t dense) {
    to.weight = dense == UINT32_MAX ? weight_of(stacked[0]->type) : dense;
    to.cols = static_cast<uint32_t>(stacked[0]->cols);
    const uint64_t tile = tile_bytes(to.weight, to.cols);
    const uint64_t max_tiles = max_allocation_ / tile;
    if (max_tiles == 0)
        throw Error(Status::InsufficientResources, stacked[0]->name + ": a tile of " + std::to_string(tile) +
                                                       " bytes is larger than the device allocates at once");
    const uint64_t fill_tiles = std::max<uint64_t>(1, kFillBytes / tile);
    for (const io::Matrix* m : stacked) {
        for (uint64_t first = 0; first < tile_count(m->rows);) {
            // stacked matrices share an allocation: all but a vocabulary are far below the device's limit
            const bool extend = m != stacked[0] && first == 0;
            const uint64_t n = std::min(max_tiles, tile_count(m->rows) - first);
            if (!extend) {
                allocations.push_back({m->name, 0, {}, {}});
                to.parts.push_back({0, static_cast<uint32_t>(to.rows + first * kTileRows), 0});
                allocations.back().bindings.push_back({&to.parts.back().address, 0});
            }
            Allocation& allocation = allocations.back();
            for (uint64_t t = first; t < first + n; t += fill_tiles) {
                const uint64_t count = std::min(fill_tiles, first + n - t);
                allocation.fills.push_back(
                    {allocation.size, count * tile, [&to, m, t, count, tile](std::byte* out) {
                         const uint64_t rows = std::min(count * kTileRows, m->rows - t * kTileRows);
                         std::vector<std::byte> raw(rows * m->row_bytes());
                         m->read(t * kTileRows, rows, raw.data());
                         raise(to.largest, largest_magnitude(m->type, raw.data(), rows * m->cols));
                         for (uint64_t i = 0; i < count; i++)
                             pack_dense_tile(m->type, raw.data() + i * kTileRows * m->row_bytes(),
                                             static_cast<uint32_t>(std::min<uint64_t>(kTileRows, rows - i * kTileRows)),
                                             to.cols, to.weight, out + i * tile);
                     }});
                allocation.size += count * tile;
            }
            to.parts.back().rows += static_cast<uint32_t>(std::min(n * kTileRows, m->rows - first * kTileRows));
            first += n;
        }
        to.rows += static_cast<uint32_t>(m->rows);
    }
}

void LoadPlan::add_experts(std::vector<args::Expert>& table, uint64_t args::Expert::*field, float& largest,
                           const io::Experts& from, bool interleaved) {
    const uint64_t tile = tile_bytes(WEIGHT_MXFP4, from.cols), tiles = tile_count(from.rows);
    const uint64_t per_allocation = std::max<uint64_t>(1, max_allocation_ / (tiles * tile));
    const uint64_t fill_tiles = std::max<uint64_t>(1, kFillBytes / tile);
    for (uint64_t e = 0; e < from.n_experts; e++) {
        if (e % per_allocation == 0) allocations.push_back({from.name, 0, {}, {}});
        Allocation& allocation = allocations.back();
        allocation.bindings.push_back({&(table[e].*field), allocation.size});
        for (uint64_t t = 0; t < tiles; t += fill_tiles) {
            const uint64_t count = std::min(fill_tiles, tiles - t);
            allocation.fills.push_back(
                {allocation.size, count * tile, [&from, &largest, e, t, count, tile, interleaved](std::byte* out) {
                     const uint64_t rows = std::min(count * kTileRows, from.rows - t * kTileRows),
                                    blocks = from.blocks_per_row();
                     std::vector<std::byte> raw(rows * blocks * 17);
                     std::byte* scales = raw.data() + rows * blocks * 16;
                     from.read(e, t * kTileRows, rows, raw.data(), scales);
                     raise(largest, largest_mxfp4(scales, rows * blocks));
                     for (uint64_t i = 0; i < count; i++)
                         pack_mxfp4_tile(raw.data() + i * kTileRows * blocks * 16, scales + i * kTileRows * blocks,
                                         static_cast<uint32_t>(std::min<uint64_t>(kTileRows, rows - i * kTileRows)),
                                         static_cast<uint32_t>(from.cols), interleaved, out + i * tile);
                 }});
            allocation.size += count * tile;
        }
    }
}

void LoadPlan::add_vector(Allocation& to, uint64_t* address, uint64_t padded,
                          std::function<std::vector<float>()> values) {
    padded = padded_rows(padded);
    to.bindings.push_back({address, to.size});
    to.fills.push_back({to.size, padded * 4, [padded, values = std::move(values)](std::byte* out) {
                            const std::vector<float> read = values();
                            std::memcpy(out, read.data(), read.size() * 4);
                            std::memset(out + read.size() * 4, 0, (padded - read.size()) * 4);
                        }});
    to.size += padded * 4;
}

void LoadPlan::add_vector(Allocation& to, uint64_t* address, const io::Matrix& from) {
    add_vector(to, address, from.cols * from.rows, [&from] { return from.read_f32(); });
}

}  // namespace gptoss::model
