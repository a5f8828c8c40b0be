// A context as bytes. All numbers are little-endian.
//
//     StateHeader
//     tokens      (n_tokens) uint32
//     computed    (n_computed) uint32: the tokens whose keys and values follow
//     logits      (vocab) float32 of what follows the computed tokens, unless logits_of is 0
//     ring        (n_sliding layers, keys and values, positions [ring_first, n_computed)) slots
//     snapshots   each (n_sliding, 2, the window before its position) slots
//     segments    positions by 512s, the last of them fewer, each (n_full layers, 2, positions) slots
//     checksum    uint32, the CRC-32 of all before
//
// A slot is one position's (n_kv_heads, 64) keys or values as kernels keep them: see Cache in args.h. Those of the ring
// and the snapshots are float32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace gptoss::model {

constexpr uint32_t kStateVersion = 1;
constexpr uint32_t kMaxSnapshots = 8;

struct StateHeader {
    char magic[8];
    uint32_t version;
    uint32_t kv_bytes;  // of a key's or value's element: 2 or 4
    uint64_t model;     // its fingerprint
    uint64_t size;      // of the whole state
    uint32_t n_tokens;
    uint32_t n_computed;
    uint32_t answer_start;  // where in tokens the answer begins
    uint32_t logits_of;     // n_computed, or 0 without logits
    uint32_t ring_first;
    uint32_t n_snapshots;
    uint32_t snapshots[kMaxSnapshots];  // their positions, rising; 0 in the unused ones
};
static_assert(sizeof(StateHeader) == 88);

// What a model gives its contexts' states.
struct StateShape {
    uint64_t model = 0;  // fingerprint
    uint32_t kv_bytes = 0;
    uint32_t vocab = 0;
    uint32_t window = 0;
    uint32_t max_context = 0;
    uint32_t n_sliding = 0;
    uint32_t n_full = 0;
    uint64_t slot_bytes = 0, ring_slot_bytes = 0;
};

// Where the parts of a state begin, bytes.
struct StateLayout {
    StateLayout(const StateShape& shape, const StateHeader& header);
    uint64_t tokens, computed, logits, cache, checksum, size;
};

// A new header; what depends on the context is still to be filled in.
StateHeader new_state_header(const StateShape& shape);

// Sets the size in the header that stands at the start, and the checksum at the end.
void seal_state(std::span<std::byte> state);

// A state whose every number has been checked.
struct State {
    StateHeader header;
    std::vector<uint32_t> tokens;
    std::vector<uint32_t> computed;
    std::span<const std::byte> logits;  // empty without
    std::span<const std::byte> cache;   // the ring, the snapshots and the segments
};

// Throws InvalidArgument for bytes that are no whole state, or one of another model; UnsupportedArgument for a version
// that is not known. The result refers to the bytes.
State parse_state(std::span<const std::byte> bytes, const StateShape& shape);

}  // namespace gptoss::model
