#include "weights/plan.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>

#include "base/fail.h"
#include "base/hash.h"
#include "base/text.h"

namespace gptoss::model {

namespace {

constexpr uint64_t kFillBytes =
    4 << 20;  // about what a fill makes: small beside any budget, large beside a disk's block
constexpr uint64_t kPlacesBytes = 512 << 20;  // experts share allocations, which heaps have a limited number of

uint64_t padded_rows(uint64_t rows) { return uint64_t{tile_count(rows)} * kTileRows; }

uint64_t expert_matrix_bytes(uint64_t rows, uint64_t cols) { return tile_count(rows) * tile_bytes(WEIGHT_MXFP4, cols); }

// Fills run on several threads.
void raise(float& largest, float value) {
    const std::atomic_ref<float> shared(largest);
    for (float now = shared; now < value && !shared.compare_exchange_weak(now, value);) {
    }
}

// Adds to a hash of all weights what one tile's rows are in the file, or a vector's values. Tiles come in any order,
// and in pieces that depend on the device: the hash does not.
void add_contents(uint64_t& contents, uint64_t matrix, uint64_t tile, const void* data, uint64_t size) {
    std::atomic_ref(contents) += hash_block(data, size, matrix << 32 | tile);
}

// The rows of several tiles.
void add_rows(uint64_t& contents, uint64_t matrix, uint64_t tile, const std::byte* rows, uint64_t n_rows,
              uint64_t row_bytes) {
    for (uint64_t r = 0; r < n_rows; r += kTileRows, tile++)
        add_contents(contents, matrix, tile, rows + r * row_bytes,
                     std::min<uint64_t>(kTileRows, n_rows - r) * row_bytes);
}

// Weights that are no numbers, or none in the type that they are stored as, would give wrong tokens without a word.
void check_magnitude(const std::string& tensor, const File& file, float magnitude, float largest) {
    if (!std::isfinite(magnitude))
        fail(file.path(), "tensor " + quote(tensor) + " holds NaN or infinite values: the file is damaged");
    if (magnitude > largest)
        fail(file.path(), "tensor " + quote(tensor) + " holds values up to " + number_text(magnitude) +
                              ", and the type of weights that was asked for at most " + number_text(largest) +
                              ": load it with the file's own type");
}

std::vector<float> check_finite(const io::Matrix& from, std::vector<float> values) {
    for (const float value : values) check_magnitude(from.name, *from.file, std::abs(value), INFINITY);
    return values;
}

class Planner {
  public:
    Planner(const io::Checkpoint& checkpoint, uint32_t dense, uint64_t max_allocation);
    LoadPlan plan(Room room);

  private:
    // An expert's fills, from the start of its place.
    using ExpertFills = std::vector<Fill>;

    void tie_embeddings();
    void add_expert_tables();
    void place(Room room);
    void place_experts(uint64_t pinned);
    LoadPlan::Place add_place(const std::string& what, vk::Memory memory);
    uint64_t places_footprint(uint64_t n) const;
    uint64_t places_within(uint64_t bytes) const;
    void add_layer(LayerWeights& to, const io::LayerTensors& from, const std::string& name);
    void add_matrix(TiledMatrix& to, const std::vector<const io::Matrix*>& stacked, uint32_t dense);
    void add_experts(size_t first, const io::Experts& from, bool gate_up, float& largest);
    // values() is called when the vector is read; count values of it are placed, the rest up to padded is zero.
    void add_vector(Allocation& to, uint64_t* address, uint64_t padded, std::function<std::vector<float>()> values);
    void add_vector(Allocation& to, uint64_t* address, const io::Matrix& from);

    const io::Checkpoint& checkpoint_;
    const io::Config& config_;
    const uint32_t dense_;
    const uint64_t max_allocation_;
    LoadPlan plan_;
    std::vector<ExpertFills> experts_;  // (n_layers * n_experts)
    uint64_t places_per_allocation_ = 1;
    uint64_t n_hashed_ = 0;     // numbers what is read, for its hash
    size_t embedding_end_ = 0;  // the allocations before it are the embedding's
};

Planner::Planner(const io::Checkpoint& checkpoint, uint32_t dense, uint64_t max_allocation)
    : checkpoint_(checkpoint), config_(checkpoint.config), dense_(dense), max_allocation_(max_allocation) {
    plan_.table = std::make_unique<WeightTable>();
    plan_.gate_up_bytes = expert_matrix_bytes(2 * uint64_t{config_.intermediate}, config_.hidden);
    plan_.place_bytes = plan_.gate_up_bytes + expert_matrix_bytes(config_.hidden, config_.intermediate);
    places_per_allocation_ = std::max<uint64_t>(1, std::min(max_allocation, kPlacesBytes) / plan_.place_bytes);
    experts_.resize(uint64_t{config_.n_layers} * config_.n_experts);
    plan_.table->expert_addresses.resize(experts_.size());
}

LoadPlan Planner::plan(Room room) {
    WeightTable& weights = *plan_.table;
    add_matrix(weights.embedding, {&checkpoint_.embedding}, dense_);
    embedding_end_ = plan_.allocations.size();
    weights.layers.resize(checkpoint_.layers.size());
    for (size_t i = 0; i < checkpoint_.layers.size(); i++) {
        const io::LayerTensors& from = checkpoint_.layers[i];
        LayerWeights& to = weights.layers[i];
        add_layer(to, from, "layer " + std::to_string(i));
        add_experts(i * config_.n_experts, from.gate_up, true, to.gate_up_largest);
        add_experts(i * config_.n_experts, from.down, false, to.down_largest);
    }
    Allocation last{"vectors"};
    add_vector(last, &weights.final_norm, checkpoint_.final_norm);
    auto rope = std::make_shared<std::vector<float>>(rope_table(config_, config_.max_context, &weights.rope_coarse));
    add_vector(last, &weights.rope, rope->size(), [rope] { return *rope; });
    plan_.allocations.push_back(std::move(last));
    const io::Matrix &embedding = checkpoint_.embedding, &lm_head = checkpoint_.lm_head;
    if (lm_head.file == embedding.file && lm_head.offset == embedding.offset)
        tie_embeddings();
    else
        add_matrix(weights.lm_head, {&checkpoint_.lm_head}, dense_);
    add_expert_tables();
    place(room);

    weights.bytes_per_token = weights.lm_head.bytes();
    for (const LayerWeights& layer : weights.layers)
        weights.bytes_per_token +=
            layer.qkv.bytes() + layer.out.bytes() + layer.router.bytes() + config_.n_active_experts * plan_.place_bytes;
    return std::move(plan_);
}

// lm_head is the embedding, and stays on the device with it, since every token reads all of it.
void Planner::tie_embeddings() {
    WeightTable& weights = *plan_.table;
    weights.lm_head = weights.embedding;
    for (size_t i = 0; i < embedding_end_; i++)
        plan_.allocations[i].bindings.push_back({&weights.lm_head.parts[i].address, 0});
    embedding_end_ = 0;
}

void Planner::add_expert_tables() {
    WeightTable& weights = *plan_.table;
    const auto add = [&](const char* what, uint64_t entry_bytes, uint64_t LayerWeights::*address,
                         std::function<void(std::byte*)> fill) {
        Allocation table{what, vk::Memory::Device, experts_.size() * entry_bytes, {}, {}};
        for (size_t i = 0; i < weights.layers.size(); i++)
            table.bindings.push_back({&(weights.layers[i].*address), i * config_.n_experts * entry_bytes});
        table.fills.push_back({0, table.size, std::move(fill)});
        plan_.allocations.push_back(std::move(table));
        return plan_.allocations.size() - 1;
    };
    // read once every address is known
    plan_.expert_table = add("table of experts", sizeof(args::Expert), &LayerWeights::expert_table,
                             [&addresses = weights.expert_addresses](std::byte* out) {
                                 std::memcpy(out, addresses.data(), addresses.size() * sizeof(args::Expert));
                             });
    plan_.expert_uses = add("uses of experts", 4, &LayerWeights::expert_uses,
                            [bytes = experts_.size() * 4](std::byte* out) { std::memset(out, 0, bytes); });
}

// Where the experts lie, and the embedding. What is read least for its size leaves the device first: of the embedding a
// row for every token, then experts.
void Planner::place(Room room) {
    const uint64_t all = experts_.size(), fixed = plan_.footprint(vk::Memory::Device);
    const uint64_t device = room.device - std::min(room.device, room.reserved);
    if (fixed + places_footprint(all) <= device) {
        place_experts(all);
        return;
    }
    uint64_t embedding = 0;
    for (size_t i = 0; i < embedding_end_; i++) embedding += vk::Buffer::footprint(plan_.allocations[i].size);
    const uint64_t on_device = places_within(device - std::min(device, fixed - embedding));
    const uint64_t in_host = places_within(room.host - std::min(room.host, embedding));
    if (fixed - embedding > device || embedding > room.host || on_device + in_host < all)
        throw Error(Status::InsufficientMemory,
                    "the weights need " + std::to_string(fixed + places_footprint(all)) + " bytes, " +
                        std::to_string(fixed - embedding) + " of them in device memory: there are " +
                        std::to_string(room.device) + " bytes of device memory, of which a context needs " +
                        std::to_string(room.reserved) + ", and " + std::to_string(room.host) +
                        " bytes of host memory beside it");
    for (size_t i = 0; i < embedding_end_; i++) plan_.allocations[i].memory = vk::Memory::Host;
    if (on_device >= all) {
        place_experts(all);
        return;
    }
    // As many as host memory holds stay there, so that all the room on the device is the cache's, for the experts that
    // are used most; the others are on the device for good.
    const uint64_t pinned = all - std::min(all, in_host);
    place_experts(pinned);
    uint64_t n = on_device - pinned;
    while (n > 0 && places_footprint(pinned) + places_footprint(n) > places_footprint(on_device)) n--;
    for (uint64_t i = 0; i < n; i++) plan_.slots.push_back(add_place("cached experts", vk::Memory::Device));
}

// The first of every layer are on the device, `pinned` in all, the others in host memory.
void Planner::place_experts(uint64_t pinned) {
    const uint64_t n_layers = config_.n_layers, n_experts = config_.n_experts;
    plan_.homes.resize(experts_.size());
    for (const vk::Memory memory : {vk::Memory::Device, vk::Memory::Host})
        for (uint64_t i = 0; i < experts_.size(); i++) {
            const bool pin = i % n_experts * n_layers + i / n_experts < pinned;
            if (pin != (memory == vk::Memory::Device)) continue;
            plan_.homes[i] = add_place("experts", memory);
            Allocation& allocation = plan_.allocations[plan_.homes[i].allocation];
            for (Fill& fill : experts_[i]) {
                fill.offset += plan_.homes[i].offset;
                allocation.fills.push_back(std::move(fill));
            }
            allocation.bindings.push_back({&plan_.table->expert_addresses[i].gate_up, plan_.homes[i].offset});
            allocation.bindings.push_back(
                {&plan_.table->expert_addresses[i].down, plan_.homes[i].offset + plan_.gate_up_bytes});
        }
}

LoadPlan::Place Planner::add_place(const std::string& what, vk::Memory memory) {
    const Allocation& last = plan_.allocations.back();
    if (last.what != what || last.memory != memory || last.size / plan_.place_bytes == places_per_allocation_)
        plan_.allocations.push_back({what, memory});
    const LoadPlan::Place place{plan_.allocations.size() - 1, plan_.allocations.back().size};
    plan_.allocations.back().size += plan_.place_bytes;
    return place;
}

uint64_t Planner::places_footprint(uint64_t n) const {
    const uint64_t full = n / places_per_allocation_, rest = n % places_per_allocation_;
    return full * vk::Buffer::footprint(places_per_allocation_ * plan_.place_bytes) +
           vk::Buffer::footprint(rest * plan_.place_bytes);
}

// The most places that take no more than that.
uint64_t Planner::places_within(uint64_t bytes) const {
    uint64_t n = std::min<uint64_t>(experts_.size(), bytes / plan_.place_bytes);
    while (n > 0 && places_footprint(n) > bytes) n--;
    return n;
}

void Planner::add_layer(LayerWeights& to, const io::LayerTensors& from, const std::string& name) {
    add_matrix(to.qkv, {&from.q, &from.k, &from.v}, dense_);
    add_matrix(to.out, {&from.out}, dense_);
    add_matrix(to.router, {&from.router}, UINT32_MAX);  // small, and an 8-bit router would choose other experts

    Allocation vectors{name + " vectors"};
    add_vector(vectors, &to.attn_norm, from.attn_norm);
    add_vector(vectors, &to.qkv_bias, to.qkv.rows, [&from] {
        std::vector<float> all = check_finite(from.q_bias, from.q_bias.read_f32());
        for (const io::Matrix* part : {&from.k_bias, &from.v_bias}) {
            const std::vector<float> values = check_finite(*part, part->read_f32());
            all.insert(all.end(), values.begin(), values.end());
        }
        return all;
    });
    add_vector(vectors, &to.sinks, from.sinks);
    add_vector(vectors, &to.out_bias, from.out_bias);
    add_vector(vectors, &to.mlp_norm, from.mlp_norm);
    add_vector(vectors, &to.router_bias, from.router_bias);
    add_vector(vectors, &to.gate_up_bias, uint64_t{config_.n_experts} * 2 * config_.intermediate, [&from] {
        const std::vector<float> alternating = check_finite(from.gate_up_bias[0], from.read_gate_up_bias());
        std::vector<float> tiled(alternating.size());
        for (size_t i = 0; i < tiled.size(); i++)
            tiled[i] = alternating[i / kTileRows * kTileRows + gate_up_row(i % kTileRows)];
        return tiled;
    });
    const uint64_t hidden = config_.hidden, padded = padded_rows(hidden);
    add_vector(vectors, &to.down_bias, config_.n_experts * padded, [&from, hidden, padded] {
        const std::vector<float> values = check_finite(from.down_bias, from.down_bias.read_f32());
        std::vector<float> rows(values.size() / hidden * padded);
        for (size_t e = 0; e < values.size() / hidden; e++) std::copy_n(&values[e * hidden], hidden, &rows[e * padded]);
        return rows;
    });
    plan_.allocations.push_back(std::move(vectors));
}

void Planner::add_matrix(TiledMatrix& to, const std::vector<const io::Matrix*>& stacked, uint32_t dense) {
    to.weight = dense == UINT32_MAX ? weight_of(stacked[0]->type) : dense;
    to.cols = static_cast<uint32_t>(stacked[0]->cols);
    const uint64_t tile = tile_bytes(to.weight, to.cols);
    const uint64_t max_tiles = max_allocation_ / tile;
    if (max_tiles == 0)
        throw Error(Status::InsufficientResources, stacked[0]->name + ": a tile of " + std::to_string(tile) +
                                                       " bytes is larger than the device allocates at once");
    const uint64_t fill_tiles = std::max<uint64_t>(1, kFillBytes / tile);
    for (const io::Matrix* m : stacked) {
        const uint64_t matrix = n_hashed_++;
        const float largest = to.weight == weight_of(m->type) ? INFINITY : largest_weight(to.weight);
        for (uint64_t first = 0; first < tile_count(m->rows);) {
            // stacked matrices share an allocation: all but a vocabulary are far below the device's limit
            const bool extend = m != stacked[0] && first == 0;
            const uint64_t n = std::min(max_tiles, tile_count(m->rows) - first);
            if (!extend) {
                plan_.allocations.push_back({m->name});
                to.parts.push_back({0, static_cast<uint32_t>(to.rows + first * kTileRows), 0});
                plan_.allocations.back().bindings.push_back({&to.parts.back().address, 0});
            }
            Allocation& allocation = plan_.allocations.back();
            for (uint64_t t = first; t < first + n; t += fill_tiles) {
                const uint64_t count = std::min(fill_tiles, first + n - t);
                allocation.fills.push_back(
                    {allocation.size, count * tile,
                     [&to, &contents = plan_.table->contents, m, matrix, largest, t, count, tile](std::byte* out) {
                         const uint64_t rows = std::min(count * kTileRows, m->rows - t * kTileRows);
                         std::vector<std::byte> raw(rows * m->row_bytes());
                         m->read(t * kTileRows, rows, raw.data());
                         const float magnitude = largest_magnitude(m->type, raw.data(), rows * m->cols);
                         check_magnitude(m->name, *m->file, magnitude, largest);
                         raise(to.largest, magnitude);
                         add_rows(contents, matrix, t, raw.data(), rows, m->row_bytes());
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

// The gate_up or the down of a layer's experts, the first of which is experts_[first]; gate_up comes first.
void Planner::add_experts(size_t first, const io::Experts& from, bool gate_up, float& largest) {
    const uint64_t tile = tile_bytes(WEIGHT_MXFP4, from.cols), tiles = tile_count(from.rows);
    const uint64_t fill_tiles = std::max<uint64_t>(1, kFillBytes / tile), start = gate_up ? 0 : plan_.gate_up_bytes;
    const uint64_t matrix = n_hashed_;
    n_hashed_ += 2;  // the blocks and the scales
    for (uint64_t e = 0; e < from.n_experts; e++)
        for (uint64_t t = 0; t < tiles; t += fill_tiles) {
            const uint64_t count = std::min(fill_tiles, tiles - t);
            experts_[first + e].push_back(
                {start + t * tile, count * tile,
                 [&from, &largest, &table = *plan_.table, matrix, e, t, tiles, count, tile, gate_up](std::byte* out) {
                     const uint64_t rows = std::min(count * kTileRows, from.rows - t * kTileRows),
                                    blocks = from.blocks_per_row();
                     std::vector<std::byte> raw(rows * blocks * 17);
                     std::byte* scales = raw.data() + rows * blocks * 16;
                     const io::QuantizationError cost = from.read(e, t * kTileRows, rows, raw.data(), scales);
                     std::atomic_ref(table.quantized.error) += cost.error;
                     std::atomic_ref(table.quantized.values) += cost.values;
                     const float magnitude = largest_mxfp4(scales, rows * blocks);
                     check_magnitude(from.name, *from.parts[0].file, magnitude, INFINITY);
                     raise(largest, magnitude);
                     add_rows(table.contents, matrix, e * tiles + t, raw.data(), rows, blocks * 16);
                     add_rows(table.contents, matrix + 1, e * tiles + t, scales, rows, blocks);
                     for (uint64_t i = 0; i < count; i++)
                         pack_mxfp4_tile(raw.data() + i * kTileRows * blocks * 16, scales + i * kTileRows * blocks,
                                         static_cast<uint32_t>(std::min<uint64_t>(kTileRows, rows - i * kTileRows)),
                                         static_cast<uint32_t>(from.cols), gate_up, out + i * tile);
                 }});
        }
}

void Planner::add_vector(Allocation& to, uint64_t* address, uint64_t padded,
                         std::function<std::vector<float>()> values) {
    padded = padded_rows(padded);
    to.bindings.push_back({address, to.size});
    to.fills.push_back(
        {to.size, padded * 4,
         [&contents = plan_.table->contents, matrix = n_hashed_++, padded, values = std::move(values)](std::byte* out) {
             const std::vector<float> read = values();
             add_contents(contents, matrix, 0, read.data(), read.size() * 4);
             std::memcpy(out, read.data(), read.size() * 4);
             std::memset(out + read.size() * 4, 0, (padded - read.size()) * 4);
         }});
    to.size += padded * 4;
}

void Planner::add_vector(Allocation& to, uint64_t* address, const io::Matrix& from) {
    add_vector(to, address, from.cols * from.rows, [&from] { return check_finite(from, from.read_f32()); });
}

}  // namespace

LoadPlan plan_load(const io::Checkpoint& checkpoint, uint32_t dense, uint64_t max_allocation, Room room) {
    return Planner(checkpoint, dense, max_allocation).plan(room);
}

uint64_t LoadPlan::largest_fill() const {
    uint64_t largest = 0;
    for (const Allocation& a : allocations)
        for (const Fill& fill : a.fills) largest = std::max(largest, fill.size);
    return largest;
}

uint64_t LoadPlan::fill_bytes() const {
    uint64_t sum = 0;
    for (const Allocation& a : allocations)
        for (const Fill& fill : a.fills) sum += fill.size;
    return sum;
}

uint64_t LoadPlan::footprint(vk::Memory memory) const {
    uint64_t sum = 0;
    for (const Allocation& a : allocations)
        if (a.memory == memory) sum += vk::Buffer::footprint(a.size);
    return sum;
}

}  // namespace gptoss::model
