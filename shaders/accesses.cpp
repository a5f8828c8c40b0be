#include "accesses.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>
#include <utility>

#include "args.h"

namespace gptoss {

namespace {

constexpr uint64_t kRow = HEAD_DIM * 4;  // bytes of a head's float32

// Bytes of a tile of weights; see weights.glsl.
uint64_t tile_bytes(uint32_t weight, uint64_t cols) {
    const uint64_t chunks = (cols + 127) / 128, blocks = cols / 32;
    switch (weight) {
        case WEIGHT_F32:
            return blocks * 8192;
        case WEIGHT_Q8:
            return chunks * 512 + blocks * 2048;
        case WEIGHT_MXFP4:
            return chunks * 256 + blocks * 1024;
        default:
            return blocks * 4096;
    }
}

// Collects the accesses of a launch; has a method for what several kernels share.
class Collector {
  public:
    Collector(const Launch& launch, const Memory& memory) : l(launch), memory_(memory) {}

    const Launch& l;
    std::vector<Access> all{};

    uint32_t constant(size_t id) const { return l.constants[id]; }

    void reads(std::string argument, uint64_t address, uint64_t bytes, double share = 1) {
        add(std::move(argument), address, bytes, true, false, share);
    }
    void writes(std::string argument, uint64_t address, uint64_t bytes) {
        add(std::move(argument), address, bytes, false, true, 1);
    }
    void updates(std::string argument, uint64_t address, uint64_t bytes) {
        add(std::move(argument), address, bytes, true, true, 1);
    }
    // n values at an address as they are; none where they are unknown.
    template <typename T>
    std::vector<T> values(uint64_t address, uint64_t n) const {
        std::vector<T> all;
        const std::byte* bytes = n > 0 ? memory_(address, n * sizeof(T)) : nullptr;
        if (!bytes) return all;
        all.resize(n);
        std::memcpy(all.data(), bytes, n * sizeof(T));
        return all;
    }
    // Reads them, and declares it.
    template <typename T>
    std::vector<T> table(const std::string& argument, uint64_t address, uint64_t n) {
        reads(argument, address, n * sizeof(T));
        return values<T>(address, n);
    }

    std::vector<args::Token> tokens(uint64_t address, uint32_t n, const std::string& argument = "tokens") {
        return table<args::Token>(argument, address, n);
    }

    // A tile of weights for each workgroup in x.
    void weights(uint64_t address, uint32_t weight, uint64_t cols) {
        reads("w", address, l.x * tile_bytes(weight, cols));
    }

    // token_rows: which tokens, where not all n.
    void residual(const args::Residual& r, uint32_t n, bool before, const std::vector<uint32_t>* token_rows = nullptr) {
        const auto& [x, normed, squares, norm, hidden, n_squares] = r;
        const auto all_of = [](uint32_t n) {
            std::vector<uint32_t> rows(n);
            for (uint32_t i = 0; i < n; i++) rows[i] = i;
            return rows;
        };
        const std::vector<uint32_t> rows = token_rows ? *token_rows : all_of(n);
        const uint64_t bytes = uint64_t{hidden} * 4, sums = uint64_t{n_squares} * 4;
        for (const uint32_t row : rows) add("r.x", x + row * bytes, bytes, before, true, 1);
        for (const uint32_t row : rows) writes("r.normed", normed + row * bytes, bytes);
        for (const uint32_t row : rows) writes("r.squares", squares + row * sums, sums);
        reads("r.norm", norm, uint64_t{hidden} * 4);
    }
    // rows: of x, where they are not the tokens.
    void input(const args::Input& in, uint64_t rows, uint32_t element = 4) {
        const auto& [x, squares, n_squares, cols, n_tokens, eps] = in;
        reads("src.x", x, rows * cols * element);
        if (n_squares > 0) reads("src.squares", squares, uint64_t{n_tokens} * n_squares * 4);
    }
    void half_input(const args::HalfInput& in, uint64_t rows, bool scaled) {
        const auto& [x, scales, cols, n_tokens, weight_scale, sum_scale] = in;
        const uint32_t terms = constant(5);
        for (uint32_t term = 0; term < terms; term++)
            reads("src.x", x + uint64_t{term} * n_tokens * cols * 2, rows * cols * 2);
        if (scaled) reads("src.scales", scales, uint64_t{n_tokens} * 4);
    }

    // Calls f(address, bytes) for the keys and the values of positions [first, first + n) of a token's sequence.
    template <typename F>
    void cached(uint64_t caches, const args::Token& token, uint32_t n_kv_heads, bool f16, uint32_t first, uint32_t n,
                const F& f) {
        const uint64_t row_bytes = f16 ? 128 : 256;
        const auto cache = table<args::Cache>("caches", caches + token.sequence * sizeof(args::Cache), 1);
        if (cache.empty() || cache[0].slots == 0 || cache[0].n_segments == 0) return;
        const auto& [segments, slots, n_segments, k_row, v_row] = cache[0];
        for (uint32_t p = first; p < first + n;) {
            const uint32_t slot = p % slots, count = std::min(first + n - p, slots - slot);
            const auto segment =
                table<uint64_t>("caches: segments", segments + uint64_t{p / slots % n_segments} * 8, 1);
            p += count;
            if (segment.empty()) continue;
            for (const uint32_t row : {k_row, v_row})
                f(segment[0] + (row + uint64_t{slot} * n_kv_heads) * row_bytes, count * n_kv_heads * row_bytes);
        }
    }
    void read_caches(uint64_t caches, const std::vector<args::Token>& tokens, uint32_t n_kv_heads, bool f16,
                     uint32_t window) {
        for (const args::Token& t : tokens) {
            const uint32_t first = t.position - std::min(t.position, window - 1);
            cached(caches, t, n_kv_heads, f16, first, t.position + 1 - first,
                   [&](uint64_t at, uint64_t bytes) { reads("caches: keys and values", at, bytes); });
        }
    }
    void write_caches(uint64_t caches, const std::vector<args::Token>& tokens, uint32_t n_kv_heads, bool f16,
                      bool before) {
        for (const args::Token& t : tokens)
            cached(caches, t, n_kv_heads, f16, t.position, 1, [&](uint64_t at, uint64_t bytes) {
                add("caches: keys and values", at, bytes, before, true, 1);
            });
    }
    void rope(uint64_t address, uint32_t coarse) { reads("rope", address, (uint64_t{coarse} + 256) * 32 * 2 * 4); }

    // The tiles of slots that a grouped batch has, which moe_group left.
    struct SlotTile {
        uint32_t expert, first, n;
    };
    struct Slots {
        std::vector<SlotTile> tiles{};
        std::vector<uint32_t> slots{};  // token * K + choice
    };
    Slots slots(uint64_t slots_address, uint64_t tiles_address) {
        Slots all;
        uint32_t n = 0;
        for (const SlotTile& tile : table<SlotTile>("tiles", tiles_address, l.y)) {
            if (tile.n == 0) continue;
            all.tiles.push_back(tile);
            n = std::max(n, tile.first + tile.n);
        }
        all.slots = table<uint32_t>("slots", slots_address, n);
        return all;
    }
    // One matrix of each expert of the tiles, and its row of biases unless the slots have biases of their own.
    void experts(uint64_t table_address, uint64_t args::Expert::*matrix, const Slots& slots, uint64_t cols,
                 uint64_t bias, bool own_bias, uint32_t weight) {
        std::vector<uint32_t> used;
        for (const SlotTile& tile : slots.tiles) used.push_back(tile.expert);
        std::sort(used.begin(), used.end());
        used.erase(std::unique(used.begin(), used.end()), used.end());
        for (const uint32_t e : used) {
            expert(table_address, matrix, e, cols, weight, 1);
            if (!own_bias) reads("bias", bias + uint64_t{e} * l.x * 256, uint64_t{l.x} * 256);
        }
        if (own_bias)
            for (const uint32_t slot : slots.slots)
                reads("bias", bias + uint64_t{slot} * l.x * 256, uint64_t{l.x} * 256);
    }
    // The same where the kernel itself chooses `n` experts by the router's logits.
    void chosen_experts(uint64_t table_address, uint64_t args::Expert::*matrix, uint32_t n_experts, uint32_t n,
                        uint64_t cols, uint32_t weight) {
        for (uint32_t e = 0; e < n_experts; e++) expert(table_address, matrix, e, cols, weight, double(n) / n_experts);
    }
    void expert(uint64_t table_address, uint64_t args::Expert::*matrix, uint32_t e, uint64_t cols, uint32_t weight,
                double share) {
        const auto entry = table<args::Expert>("experts", table_address + e * sizeof(args::Expert), 1);
        if (!entry.empty()) reads("experts: weights", entry[0].*matrix, l.x * tile_bytes(weight, cols), share);
    }

    // An adapter's pairs that the tokens of a batch have: calls f(token, pair's number from l.pair on, pair).
    template <typename F>
    void lora(const args::Lora& lora, uint32_t n_tokens, const F& f, const std::vector<uint32_t>* pairs = nullptr,
              uint32_t n_pairs = 1) {
        const auto& [tokens_at, rows, shrunk, pair, max_rank] = lora;
        uint32_t i = 0;
        for (const args::Token& t : tokens(tokens_at, n_tokens, "l.tokens")) {
            const uint32_t token = i++;
            if (t.adapter == 0) continue;
            const auto row =
                table<args::LoraRow>("l.rows", rows + (t.adapter - 1) * uint64_t{sizeof(args::LoraRow)}, 1);
            if (row.empty()) continue;
            for (uint32_t j = 0; j < n_pairs; j++) {
                const uint32_t which = pairs ? (*pairs)[token * n_pairs + j] : j;
                const auto found = table<args::LoraPair>(
                    "l.rows: pairs", row[0].pairs + (pair + which) * uint64_t{sizeof(args::LoraPair)}, 1);
                if (!found.empty() && found[0].rank > 0) f(token, j, found[0]);
            }
        }
    }
    void lora_a(const args::LoraPair& p, uint64_t cols) {
        reads("l.rows: pairs: a", p.a, p.rank * cols * (p.weight == WEIGHT_F32 ? 4 : 2));
    }
    void lora_b(const args::LoraPair& p, uint64_t tiles) {
        reads("l.rows: pairs: b", p.b, tiles * p.rank * 32 * (p.weight == WEIGHT_F32 ? 8 : 4));
    }

  private:
    void add(std::string argument, uint64_t address, uint64_t bytes, bool reads, bool writes, double share) {
        if (bytes == 0) return;
        // neighbours become one
        if (!all.empty() && all.back().argument == argument && all.back().address + all.back().bytes == address &&
            all.back().reads == reads && all.back().writes == writes && all.back().share == share)
            all.back().bytes += bytes;
        else
            all.push_back({std::move(argument), address, bytes, reads, writes, share});
    }

    const Memory& memory_;
};

// --------------------------------------------------------------------------------------------------------- the table
// Every field of a kernel's arguments has a name here: a field that is added to args.h does not compile until it has
// one here too.

void embed(Collector& c, const args::EmbedArgs& args) {
    const auto& [r, w, tokens, first_row, n_rows] = args;
    const std::vector<args::Token> all = c.tokens(tokens, c.l.y);
    std::vector<uint32_t> mine;  // tokens whose row is in this part
    for (uint32_t t = 0; t < all.size(); t++)
        if (all[t].id - first_row < n_rows) mine.push_back(t);
    c.residual(r, c.l.y, false, all.empty() ? nullptr : &mine);
    const uint64_t tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    c.reads("w", w, tiles * tile_bytes(c.constant(3), r.hidden), double(c.l.y) / n_rows);
}

void linear(Collector& c, const args::LinearArgs& args) {
    const auto& [src, w, bias, y, rows, y_stride, has_bias] = args;
    c.input(src, src.n_tokens);
    c.weights(w, c.constant(3), src.cols);
    if (has_bias) c.reads("bias", bias, uint64_t{rows} * 4);
    for (uint32_t t = 0; t < src.n_tokens; t++) c.writes("y", y + uint64_t{t} * y_stride * 4, uint64_t{rows} * 4);
}

void qkv(Collector& c, const args::QkvArgs& args) {
    const auto& [src, w, bias, rope, tokens, caches, q, n_heads, n_kv_heads, rope_coarse] = args;
    c.input(src, src.n_tokens);
    c.weights(w, c.constant(3), src.cols);
    c.reads("bias", bias, c.l.x * kRow);
    c.rope(rope, rope_coarse);
    c.write_caches(caches, c.tokens(tokens, src.n_tokens), n_kv_heads, c.constant(4), false);
    c.writes("q", q, uint64_t{src.n_tokens} * n_heads * kRow);
}

void qkv_coopmat(Collector& c, const args::QkvCoopmatArgs& args) {
    const auto& [src, w, bias, rope, tokens, caches, q, n_heads, n_kv_heads, rope_coarse] = args;
    c.half_input(src, src.n_tokens, true);
    c.weights(w, c.constant(3), src.cols);
    c.reads("bias", bias, c.l.x * kRow);
    c.rope(rope, rope_coarse);
    c.write_caches(caches, c.tokens(tokens, src.n_tokens), n_kv_heads, c.constant(4), false);
    c.writes("q", q, uint64_t{src.n_tokens} * n_heads * kRow);
}

void attention(Collector& c, const args::AttentionArgs& args) {
    const auto& [q, tokens, caches, sinks, y, parts, n_heads, n_kv_heads, window, n_splits] = args;
    const uint64_t heads = uint64_t{c.l.z} * n_heads;
    c.reads("q", q, heads * kRow);
    c.read_caches(caches, c.tokens(tokens, c.l.z), n_kv_heads, c.constant(2), window);
    if (n_splits == 1) {
        c.reads("sinks", sinks, n_heads * 4);
        c.writes("y", y, heads * kRow);
    } else {
        c.writes("parts", parts, heads * n_splits * 66 * 4);
    }
}

void combine(Collector& c, const args::CombineArgs& args) {
    const auto& [parts, sinks, y, n_heads, n_splits] = args;
    const uint64_t heads = uint64_t{c.l.y} * n_heads;
    c.reads("parts", parts, heads * n_splits * 66 * 4);
    c.reads("sinks", sinks, n_heads * 4);
    c.writes("y", y, heads * kRow);
}

void tap_attention(Collector& c, const args::TapAttentionArgs& args) {
    const auto& [q, tokens, caches, sinks, y, first_token, n_heads, n_kv_heads, window, y_stride] = args;
    c.reads("q", q + uint64_t{first_token} * n_heads * kRow, uint64_t{c.l.y} * n_heads * kRow);
    c.read_caches(caches, c.tokens(tokens + first_token * sizeof(args::Token), c.l.y), n_kv_heads, c.constant(1),
                  window);
    c.reads("sinks", sinks, n_heads * 4);
    c.writes("y", y, uint64_t{c.l.y} * y_stride * 4);
}

void out(Collector& c, const args::OutArgs& args) {
    const auto& [r, attention, w, bias, cols, n_tokens] = args;
    c.residual(r, n_tokens, true);
    c.reads("attention", attention, uint64_t{n_tokens} * cols * 4);
    c.weights(w, c.constant(3), cols);
    c.reads("bias", bias, uint64_t{r.hidden} * 4);
}

void out_coopmat(Collector& c, const args::OutCoopmatArgs& args) {
    const auto& [r, src, w, bias] = args;
    c.residual(r, src.n_tokens, true);
    c.half_input(src, src.n_tokens, true);
    c.weights(w, c.constant(3), src.cols);
    c.reads("bias", bias, uint64_t{r.hidden} * 4);
}

void topk(Collector& c, const args::RouteArgs& args) {
    const auto& [logits, slots, weights, tiles, experts, uses, n_tokens, n_experts, n_active, tile_slots, n_tiles] =
        args;
    c.reads("logits", logits, uint64_t{n_tokens} * n_experts * 4);
    c.writes("experts", experts, uint64_t{n_tokens} * n_active * 4);
    c.writes("weights", weights, uint64_t{n_tokens} * n_active * 4);
}

void group(Collector& c, const args::RouteArgs& args) {
    const auto& [logits, slots, weights, tiles, experts, uses, n_tokens, n_experts, n_active, tile_slots, n_tiles] =
        args;
    c.reads("experts", experts, uint64_t{n_tokens} * n_active * 4);
    c.writes("slots", slots, uint64_t{n_tokens} * n_active * 4);
    c.writes("tiles", tiles, uint64_t{n_tiles} * 12);
    c.updates("uses", uses, uint64_t{n_experts} * 4);
}

void gate_up(Collector& c, const args::GateUpArgs& args) {
    const auto& [src, experts, bias, logits, slots, tiles, y, uses, n_experts, limit, alpha, own_bias] = args;
    const uint64_t row = uint64_t{c.l.x} * 32 * 4;  // of y
    c.input(src, src.n_tokens);
    if (c.constant(5)) {
        const Collector::Slots grouped = c.slots(slots, tiles);
        c.experts(experts, &args::Expert::gate_up, grouped, src.cols, bias, own_bias, c.constant(3));
        c.writes("y", y, grouped.slots.size() * row);
        return;
    }
    c.reads("logits", logits, uint64_t{src.n_tokens} * n_experts * 4);
    c.chosen_experts(experts, &args::Expert::gate_up, n_experts, c.l.y, src.cols, c.constant(3));
    const uint64_t bias_rows = own_bias ? c.l.y : n_experts;
    c.reads("bias", bias, bias_rows * c.l.x * 256, double(c.l.y) / double(bias_rows));
    c.writes("y", y, c.l.y * row);
    c.updates("uses", uses, uint64_t{n_experts} * 4);
}

void gate_up_coopmat(Collector& c, const args::GateUpCoopmatArgs& args) {
    const auto& [src, experts, bias, slots, tiles, y, y_scale, limit, alpha, n_active, own_bias] = args;
    const Collector::Slots grouped = c.slots(slots, tiles);
    c.half_input(src, src.n_tokens, true);
    c.experts(experts, &args::Expert::gate_up, grouped, src.cols, bias, own_bias, c.constant(3));
    c.writes("y", y, grouped.slots.size() * c.l.x * 32 * 2);
}

void gate_up_integer(Collector& c, const args::GateUpIntegerArgs& args) {
    const auto& [src, experts, bias, slots, tiles, y, n_active, limit, alpha, own_bias] = args;
    const Collector::Slots grouped = c.slots(slots, tiles);
    const uint64_t blocks = grouped.slots.size() / n_active * (src.cols / 32);
    c.reads("src.x", src.x, blocks * 64);
    c.reads("src.scales", src.scales, blocks * 4);
    c.experts(experts, &args::Expert::gate_up, grouped, src.cols, bias, own_bias, c.constant(3));
    c.writes("y", y, grouped.slots.size() * c.l.x * 32 * 4);
}

void down(Collector& c, const args::DownArgs& args) {
    const auto& [r, x, experts, bias, logits, cols, n_experts, n_tokens] = args;
    const uint32_t active = c.constant(4);
    c.residual(r, n_tokens, true);
    c.reads("x", x, uint64_t{n_tokens} * active * cols * 4);
    c.reads("logits", logits, uint64_t{n_tokens} * n_experts * 4);
    c.chosen_experts(experts, &args::Expert::down, n_experts, n_tokens * active, cols, c.constant(3));
    c.reads("bias", bias, uint64_t{n_experts} * c.l.x * 256, double(n_tokens) * active / n_experts);
}

// What the kernels of down for a grouped batch share.
void down_of_slots(Collector& c, uint64_t experts, uint64_t bias, const Collector::Slots& grouped, uint64_t y,
                   uint64_t cols, uint64_t hidden) {
    c.experts(experts, &args::Expert::down, grouped, cols, bias, false, c.constant(3));
    c.writes("y", y, grouped.slots.size() * hidden * 4);
}

void down_slots(Collector& c, const args::DownSlotsArgs& args) {
    const auto& [x, experts, bias, slots, tiles, y, cols, hidden] = args;
    const Collector::Slots grouped = c.slots(slots, tiles);
    c.reads("x", x, grouped.slots.size() * cols * 4);
    down_of_slots(c, experts, bias, grouped, y, cols, hidden);
}

void down_coopmat(Collector& c, const args::DownCoopmatArgs& args) {
    const auto& [src, experts, bias, slots, tiles, y, hidden] = args;
    const Collector::Slots grouped = c.slots(slots, tiles);
    c.half_input(src, grouped.slots.size(), false);
    down_of_slots(c, experts, bias, grouped, y, src.cols, hidden);
}

void down_integer(Collector& c, const args::DownIntegerArgs& args) {
    const auto& [src, experts, bias, slots, tiles, y, hidden] = args;
    const Collector::Slots grouped = c.slots(slots, tiles);
    const uint64_t blocks = grouped.slots.size() * (src.cols / 32);
    c.reads("src.x", src.x, blocks * 64);
    c.reads("src.scales", src.scales, blocks * 4);
    down_of_slots(c, experts, bias, grouped, y, src.cols, hidden);
}

void merge(Collector& c, const args::MergeArgs& args) {
    const auto& [r, x, weights, n_active] = args;
    const uint64_t slots = uint64_t{c.l.y} * n_active;
    c.residual(r, c.l.y, true);
    c.reads("x", x, slots * r.hidden * 4);
    c.reads("weights", weights, slots * 4);
}

void halve(Collector& c, const args::HalveArgs& args) {
    const auto& [src, y, scales, terms] = args;
    c.input(src, c.l.x);
    c.writes("y", y, uint64_t{terms} * c.l.x * src.cols * 2);
    c.writes("scales", scales, uint64_t{c.l.x} * 4);
}

void round(Collector& c, const args::RoundArgs& args) {
    const auto& [src, y, scales] = args;
    const uint64_t rows = uint64_t{c.l.x} * c.l.y;
    c.input(src, rows);
    c.writes("y", y, rows * (src.cols / 32) * 64);
    c.writes("scales", scales, rows * (src.cols / 32) * 4);
}

void lora_shrink(Collector& c, const args::LoraShrinkArgs& args) {
    const auto& [l, src, experts, slots, n_active, by_slot, grouped, halves, x_scale] = args;
    const uint32_t rows = c.l.y * c.l.z;
    c.input(src, by_slot ? rows : c.l.y, halves ? 2 : 4);
    std::vector<uint32_t> chosen;
    if (n_active) chosen = c.table<uint32_t>("experts", experts, rows);
    if (grouped) c.reads("slots", slots, uint64_t{rows} * 4);
    c.lora(
        l, c.l.y,
        [&, max_rank = l.max_rank, shrunk = l.shrunk](uint32_t token, uint32_t j, const args::LoraPair& p) {
            c.lora_a(p, args.src.cols);
            c.writes("l.shrunk", shrunk + (uint64_t{token} * c.l.z + j) * max_rank * 4, uint64_t{p.rank} * 4);
        },
        n_active ? &chosen : nullptr, c.l.z);
}

void lora_qkv(Collector& c, const args::LoraQkvArgs& args) {
    const auto& [l, rope, caches, q, n_heads, n_kv_heads, rope_coarse] = args;
    c.rope(rope, rope_coarse);
    c.lora(
        l, c.l.y,
        [&, l = l, q = q, heads = n_heads, kv_heads = n_kv_heads](uint32_t token, uint32_t j, const auto& p) {
            c.lora_b(p, j == 0 ? heads : kv_heads);
            c.reads("l.shrunk", l.shrunk + (uint64_t{token} * 3 + j) * l.max_rank * 4, uint64_t{p.rank} * 4);
            if (j == 0) c.updates("q", q + uint64_t{token} * heads * kRow, heads * kRow);
        },
        nullptr, 3);
    std::vector<args::Token> adapted = c.values<args::Token>(l.tokens, c.l.y);
    std::erase_if(adapted, [](const args::Token& t) { return t.adapter == 0; });
    c.write_caches(caches, adapted, n_kv_heads, c.constant(0), true);
}

void lora_residual(Collector& c, const args::LoraResidualArgs& args) {
    const auto& [l, r, experts, weights, n_active] = args;
    const uint32_t n = std::max(n_active, 1u);
    std::vector<uint32_t> chosen;
    if (n_active) {
        chosen = c.table<uint32_t>("experts", experts, uint64_t{c.l.y} * n);
        c.reads("weights", weights, uint64_t{c.l.y} * n * 4);
    }
    std::vector<uint32_t> rows;
    c.lora(
        l, c.l.y,
        [&, l = l](uint32_t token, uint32_t j, const args::LoraPair& p) {
            c.lora_b(p, c.l.x);
            c.reads("l.shrunk", l.shrunk + (uint64_t{token} * n + j) * l.max_rank * 4, uint64_t{p.rank} * 4);
            if (rows.empty() || rows.back() != token) rows.push_back(token);
        },
        n_active ? &chosen : nullptr, n);
    c.residual(r, c.l.y, true, &rows);
}

void lora_gate_up(Collector& c, const args::LoraGateUpArgs& args) {
    const auto& [l, bias, experts, y] = args;
    const uint32_t rows = c.l.y * c.l.z;
    const std::vector<uint32_t> chosen = c.table<uint32_t>("experts", experts, rows);
    for (const uint32_t e : chosen) c.reads("bias", bias + uint64_t{e} * c.l.x * 256, uint64_t{c.l.x} * 256);
    c.lora(
        l, c.l.y,
        [&, l = l](uint32_t token, uint32_t j, const args::LoraPair& p) {
            c.lora_b(p, c.l.x);
            c.reads("l.shrunk", l.shrunk + (uint64_t{token} * c.l.z + j) * l.max_rank * 4, uint64_t{p.rank} * 4);
        },
        &chosen, c.l.z);
    c.writes("y", y, uint64_t{rows} * c.l.x * 256);
}

// sample_prepare comes first, then sample.
void sampling(Collector& c, const args::SampleArgs& args, bool prepare) {
    const auto& [logits, adjusted, blocks, state, rows, tokens, ring, vocab, stride, ring_size] = args;
    const uint64_t n = c.l.y, all = n * stride * 4, all_blocks = n * c.l.x * sizeof(args::SampleBlock);
    const std::vector<args::SampleRow> settings = c.table<args::SampleRow>("rows", rows, n);
    if (prepare) {
        c.reads("logits", logits, all);
        c.writes("adjusted", adjusted, all);
        c.writes("blocks", blocks, all_blocks);
        c.reads("tokens", tokens, n * sizeof(args::Token));
    } else {
        c.reads("adjusted", adjusted, all);
        c.reads("blocks", blocks, all_blocks);
        c.updates("state", state, n * (1 + c.l.x) * 4);
        c.updates("tokens", tokens, n * sizeof(args::Token));
        c.writes("ring", ring, n * ring_size * 4);
    }
    for (const args::SampleRow& s : settings) {
        const bool penalizes = s.repetition != 1 || s.presence != 0 || s.frequency != 0;
        if (prepare && penalizes) c.reads("rows: counts", s.counts, uint64_t{vocab} * 4);
        if (!prepare && penalizes) c.updates("rows: counts", s.counts, uint64_t{vocab} * 4);
        if (prepare && s.flags & SAMPLE_BIASED) c.reads("rows: bias", s.bias, uint64_t{vocab} * 4);
        if (prepare && s.flags & SAMPLE_MASKED) c.reads("rows: mask", s.mask, (uint64_t{vocab} + 127) / 128 * 16);
    }
}
void sample_prepare(Collector& c, const args::SampleArgs& args) { sampling(c, args, true); }
void sample(Collector& c, const args::SampleArgs& args) { sampling(c, args, false); }

using Row = void (*)(Collector&);

// A kernel's function, with the bytes as its arguments.
template <auto function>
struct Typed;
template <typename Args, void (*function)(Collector&, const Args&)>
struct Typed<function> {
    static void call(Collector& c) {
        if (c.l.args.size() != sizeof(Args)) throw std::out_of_range("the arguments have another size");
        Args args;
        std::memcpy(&args, c.l.args.data(), sizeof args);
        function(c, args);
    }
};

const std::map<std::string_view, Row> kKernels = {
    {"dense_embed", Typed<embed>::call},
    {"dense_linear", Typed<linear>::call},
    {"attn_qkv", Typed<qkv>::call},
    {"attn_qkv_coopmat", Typed<qkv_coopmat>::call},
    {"attn_attend", Typed<attention>::call},
    {"attn_combine", Typed<combine>::call},
    {"tap_attention", Typed<tap_attention>::call},
    {"attn_out", Typed<out>::call},
    {"attn_out_coopmat", Typed<out_coopmat>::call},
    {"moe_topk", Typed<topk>::call},
    {"moe_group", Typed<group>::call},
    {"moe_gate_up", Typed<gate_up>::call},
    {"moe_gate_up_coopmat", Typed<gate_up_coopmat>::call},
    {"moe_gate_up_integer", Typed<gate_up_integer>::call},
    {"moe_down", Typed<down>::call},
    {"moe_down_slots", Typed<down_slots>::call},
    {"moe_down_coopmat", Typed<down_coopmat>::call},
    {"moe_down_integer", Typed<down_integer>::call},
    {"moe_merge", Typed<merge>::call},
    {"dense_halve", Typed<halve>::call},
    {"dense_round", Typed<round>::call},
    {"lora_shrink", Typed<lora_shrink>::call},
    {"lora_qkv", Typed<lora_qkv>::call},
    {"lora_residual", Typed<lora_residual>::call},
    {"lora_gate_up", Typed<lora_gate_up>::call},
    {"sample_prepare", Typed<sample_prepare>::call},
    {"sample", Typed<sample>::call},
};

}  // namespace

std::vector<Access> accesses_of(const Launch& launch, const Memory& memory) {
    const auto kernel = kKernels.find(launch.kernel);
    if (kernel == kKernels.end())
        throw std::out_of_range("accesses.cpp has no row for the kernel " + std::string(launch.kernel));
    Collector collector(launch, memory);
    kernel->second(collector);
    return std::move(collector.all);
}

}  // namespace gptoss
