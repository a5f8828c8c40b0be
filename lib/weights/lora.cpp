#include "weights/lora.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <span>

#include "base/fail.h"
#include "base/hash.h"
#include "vk/transfer.h"
#include "weights/tiles.h"

namespace gptoss::model {

namespace {

using io::LoraTarget;
using io::LoraTensors;

// The pairs that become one: several where gates and ups come apart.
struct Slot {
    std::vector<const LoraTensors*> parts;
};

// Index into LoraRow::pairs, of a layer.
uint32_t index_of(LoraTarget target, uint32_t expert, const io::Config& c) {
    switch (target) {
        case LoraTarget::Q:
            return kLoraQ;
        case LoraTarget::K:
            return kLoraK;
        case LoraTarget::V:
            return kLoraV;
        case LoraTarget::Out:
            return kLoraOut;
        case LoraTarget::GateUp:
            return kLoraGateUp + expert;
        case LoraTarget::Down:
            return lora_down(c) + expert;
    }
    return 0;
}

uint32_t rows_of(LoraTarget target, const io::Config& c) {
    switch (target) {
        case LoraTarget::Q:
            return c.n_heads * c.head_dim;
        case LoraTarget::K:
        case LoraTarget::V:
            return c.n_kv_heads * c.head_dim;
        case LoraTarget::GateUp:
            return 2 * c.intermediate;
        case LoraTarget::Out:
        case LoraTarget::Down:
            return c.hidden;
    }
    return 0;
}

// One type for all factors of a pair: theirs where it has 16 bits, else float32, into which everything fits.
uint32_t weight_of(const Slot& slot) {
    const io::DType type = slot.parts[0]->a.type;
    for (const LoraTensors* p : slot.parts)
        if (p->a.type != type || p->b.type != type || p->scale != slot.parts[0]->scale) return WEIGHT_F32;
    return type == io::DType::F16 ? WEIGHT_F16 : type == io::DType::BF16 ? WEIGHT_BF16 : WEIGHT_F32;
}

uint32_t weight_bytes(uint32_t weight) { return weight == WEIGHT_F32 ? 4 : 2; }

uint32_t rank_of(const Slot& slot) {
    uint32_t rank = 0;
    for (const LoraTensors* p : slot.parts) rank += p->rank;
    return rank;
}

// Bytes of a pair's A and B, one after the other.
struct Packed {
    uint64_t a, b;
};
constexpr uint64_t kAlign = 16;
uint64_t aligned(uint64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

Packed packed_bytes(const Slot& slot, LoraTarget target, const io::Config& c) {
    const uint64_t rank = rank_of(slot), bytes = weight_bytes(weight_of(slot));
    return {aligned(rank * slot.parts[0]->a.cols * bytes),
            aligned(uint64_t{tile_count(rows_of(target, c))} * rank * kTileRows * bytes)};
}

void put(float value, uint32_t weight, uint64_t index, std::byte* to) {
    if (weight == WEIGHT_F32) {
        std::memcpy(to + 4 * index, &value, 4);
        return;
    }
    // exact: the value was of that type
    const uint16_t bits =
        weight == WEIGHT_F16 ? to_f16(value) : static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
    std::memcpy(to + 2 * index, &bits, 2);
}

// The slots of a layer, by their index.
using Slots = std::map<uint32_t, std::pair<LoraTarget, Slot>>;

Slots slots_of(std::span<const LoraTensors> pairs, const io::Config& c) {
    Slots slots;
    for (const LoraTensors& p : pairs)
        for (uint32_t e = p.first_expert; e < p.first_expert + p.n_experts; e++) {
            auto& [target, slot] = slots[index_of(p.target, e, c)];
            target = p.target;
            slot.parts.push_back(&p);
        }
    return slots;
}

LoraUse use_of(LoraTarget target, uint32_t rank) {
    LoraUse use;
    use.qkv = target <= LoraTarget::V;
    use.out = target == LoraTarget::Out;
    use.gate_up = target == LoraTarget::GateUp;
    use.down = target == LoraTarget::Down;
    use.max_rank = std::bit_ceil(std::max(rank, 8u));
    return use;
}

// Calls f with each layer's number and its pairs.
template <typename F>
void for_layers(const io::AdapterFiles& files, const F& f) {
    const std::span<const LoraTensors> all = files.pairs();
    for (size_t first = 0, end; first < all.size(); first = end) {
        end = first;
        while (end < all.size() && all[end].layer == all[first].layer) end++;
        f(all[first].layer, all.subspan(first, end - first));
    }
}

// The values of a layer's factors, read once for all experts that share a tensor.
class Values {
  public:
    explicit Values(const io::AdapterFiles& files) : files_(files) {}

    const std::vector<float>& of(const io::Matrix& m) {
        const auto [at, fresh] = values_.try_emplace(&m);
        if (fresh) {
            at->second = m.read_f32();
            for (const float value : at->second)
                if (!std::isfinite(value))
                    fail(files_.path(), "tensor " + quote(m.name) + " has a weight that is no finite number");
        }
        return at->second;
    }

  private:
    const io::AdapterFiles& files_;
    std::map<const io::Matrix*, std::vector<float>> values_;
};

void pack(const Slot& slot, uint32_t expert, uint32_t weight, Values& values, std::byte* a_out, std::byte* b_out) {
    const uint32_t rank = rank_of(slot);
    uint32_t first_rank = 0;
    for (const LoraTensors* p : slot.parts) {
        const std::vector<float>&a = values.of(p->a), &b = values.of(p->b);
        const uint32_t e = expert - p->first_expert, r = p->rank;
        const uint64_t cols = p->a.cols;
        // where scales differ, each goes into its own A; that of the pair is the first part's
        const float scale = slot.parts[0]->scale, by = scale != 0 ? p->scale / scale : 0;
        for (uint64_t i = 0; i < r * cols; i++) {
            const float value = a[e * r * cols + i];
            put(p->scale == scale ? value : value * by, weight, first_rank * cols + i, a_out);
        }
        for (uint32_t o = 0; o < p->rows; o++) {
            const uint32_t row = p->first_row + o * p->row_step;
            // a tile of gate_up holds gates, then ups: see gate_up_row
            const uint32_t in_tile = row % kTileRows;
            const uint32_t at = p->target == LoraTarget::GateUp ? in_tile % 2 * 32 + in_tile / 2 : in_tile;
            const uint64_t first = uint64_t{row / kTileRows} * rank * kTileRows + at % 32 * 2 + at / 32;
            for (uint32_t k = 0; k < r; k++) {
                const uint64_t from = p->fused ? uint64_t{o} * p->b.cols + uint64_t{k} * p->n_experts + e
                                               : (uint64_t{e} * p->rows + o) * r + k;
                put(b[from], weight, first + uint64_t{first_rank + k} * kTileRows, b_out);
            }
        }
        first_rank += r;
    }
}

}  // namespace

LoraUse LoraUse::operator|(const LoraUse& other) const {
    return {qkv || other.qkv, out || other.out, gate_up || other.gate_up, down || other.down,
            std::max(max_rank, other.max_rank)};
}

LoraFootprint lora_footprint(const io::Config& config, const io::AdapterFiles& files) {
    LoraFootprint footprint;
    footprint.device = vk::Buffer::footprint(uint64_t{config.n_layers} * lora_pairs(config) * sizeof(args::LoraPair));
    for_layers(files, [&](uint32_t, std::span<const LoraTensors> pairs) {
        uint64_t bytes = 0;
        for (const auto& [index, of] : slots_of(pairs, config)) {
            const auto& [target, slot] = of;
            const Packed packed = packed_bytes(slot, target, config);
            bytes += packed.a + packed.b;
            footprint.use = footprint.use | use_of(target, rank_of(slot));
        }
        footprint.device += vk::Buffer::footprint(bytes);
    });
    return footprint;
}

LoraWeights load_lora(const vk::Device& device, const vk::Pipelines& pipelines, const io::Config& config,
                      const io::AdapterFiles& files) {
    LoraWeights out;
    out.use = lora_footprint(config, files).use;
    std::vector<args::LoraPair> table(size_t{config.n_layers} * lora_pairs(config));
    Hash hash;
    const auto upload = [&](const void* data, uint64_t size, const char* what) {
        out.buffers.emplace_back(device, size, vk::Memory::Device, what);
        out.device_bytes += out.buffers.back().footprint();
        vk::Transfer transfer(device, pipelines, vk::Memory::Upload, size);
        transfer.write(out.buffers.back(), 0, size, static_cast<const std::byte*>(data));
        transfer.finish();
    };
    for_layers(files, [&](uint32_t layer, std::span<const LoraTensors> pairs) {
        const Slots slots = slots_of(pairs, config);
        uint64_t size = 0;
        for (const auto& [index, of] : slots) {
            const Packed packed = packed_bytes(of.second, of.first, config);
            size += packed.a + packed.b;
        }
        std::vector<std::byte> bytes(size);
        Values values(files);
        uint64_t at = 0;
        args::LoraPair* const own = &table[size_t{layer} * lora_pairs(config)];
        for (const auto& [index, of] : slots) {
            const auto& [target, slot] = of;
            const uint32_t weight = weight_of(slot);
            const uint32_t first = target == LoraTarget::GateUp ? kLoraGateUp : lora_down(config);
            const uint32_t expert = target >= LoraTarget::GateUp ? index - first : 0;
            const Packed packed = packed_bytes(slot, target, config);
            pack(slot, expert, weight, values, &bytes[at], &bytes[at + packed.a]);
            own[index] = {at, at + packed.a, slot.parts[0]->scale, rank_of(slot), weight, 0};
            out.rank = std::max(out.rank, own[index].rank);
            hash.add(&layer, sizeof layer);
            hash.add(&index, sizeof index);
            hash.add(&own[index], sizeof own[index]);
            at += packed.a + packed.b;
        }
        const uint64_t contents = hash_block(bytes.data(), bytes.size(), layer);
        hash.add(&contents, sizeof contents);
        upload(bytes.data(), bytes.size(), "an adapter");
        for (const auto& [index, of] : slots) {
            own[index].a += out.buffers.back().address();
            own[index].b += out.buffers.back().address();
        }
    });
    upload(table.data(), table.size() * sizeof table[0], "an adapter's table");
    out.pairs = out.buffers.back().address();
    out.contents = hash.value();
    return out;
}

}  // namespace gptoss::model
