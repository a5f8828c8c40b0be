#include "engine/state.h"

#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <string>

#include "base/error.h"

namespace gptoss::model {

namespace {

static_assert(std::endian::native == std::endian::little, "states are little-endian and are used as they are");

constexpr char kMagic[8] = {'g', 'p', 't', 'o', 's', 's', 'c', 't'};

[[noreturn]] void refuse(const std::string& why, Status status = Status::InvalidArgument) {
    throw Error(status, "the saved state " + why);
}

uint32_t checksum_of(std::span<const std::byte> bytes) {
    return static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

std::vector<uint32_t> read_tokens(const std::byte* from, uint32_t n, uint32_t vocab) {
    std::vector<uint32_t> tokens(n);
    if (n > 0) std::memcpy(tokens.data(), from, n * 4ull);
    for (const uint32_t token : tokens)
        if (token >= vocab)
            refuse("has token " + std::to_string(token) + ", outside the vocabulary of " + std::to_string(vocab));
    return tokens;
}

// Of the numbers in a header whose magic, version and model are right.
void check_counts(const StateHeader& h, const StateShape& shape) {
    if (std::max(h.n_tokens, h.n_computed) > shape.max_context)
        refuse("has " + std::to_string(std::max(h.n_tokens, h.n_computed)) + " tokens; the model supports " +
               std::to_string(shape.max_context));
    if (h.answer_start > h.n_tokens) refuse("is damaged: its answer begins after its tokens");
    if (h.logits_of != 0 && h.logits_of != h.n_computed) refuse("is damaged: its logits are of other tokens");
    if (h.ring_first > h.n_computed - std::min(h.n_computed, shape.window - 1))
        refuse("is damaged: it lacks a part of the window");
    if (h.n_snapshots > kMaxSnapshots || (h.n_snapshots > 0 && shape.n_sliding == 0))
        refuse("is damaged: it has " + std::to_string(h.n_snapshots) + " snapshots");
    uint32_t last = 0;
    for (uint32_t i = 0; i < kMaxSnapshots; i++) {
        const uint32_t position = h.snapshots[i];
        if (i >= h.n_snapshots ? position != 0 : position <= last || position > h.n_computed)
            refuse("is damaged: a snapshot of " + std::to_string(position) + " tokens");
        last = position;
    }
}

}  // namespace

StateLayout::StateLayout(const StateShape& shape, const StateHeader& h) {
    const uint64_t sliding_bytes = shape.n_sliding * 2 * shape.ring_slot_bytes;
    tokens = sizeof(StateHeader);
    computed = tokens + h.n_tokens * 4ull;
    logits = computed + h.n_computed * 4ull;
    cache = logits + (h.logits_of ? shape.vocab * 4ull : 0);
    checksum = cache + (h.n_computed - h.ring_first) * sliding_bytes;
    for (uint32_t i = 0; i < h.n_snapshots; i++) checksum += std::min(h.snapshots[i], shape.window - 1) * sliding_bytes;
    checksum += h.n_computed * (shape.n_full * 2 * shape.slot_bytes);
    size = checksum + 4;
}

StateHeader new_state_header(const StateShape& shape) {
    StateHeader header{};
    std::copy(std::begin(kMagic), std::end(kMagic), header.magic);
    header.version = kStateVersion;
    header.kv_bytes = shape.kv_bytes;
    header.model = shape.model;
    return header;
}

void seal_state(std::span<std::byte> state) {
    const uint64_t size = state.size();
    std::memcpy(state.data() + offsetof(StateHeader, size), &size, sizeof size);
    const uint32_t checksum = checksum_of(state.first(size - 4));
    std::memcpy(state.data() + size - 4, &checksum, 4);
}

State parse_state(std::span<const std::byte> bytes, const StateShape& shape) {
    State state;
    StateHeader& h = state.header;
    if (bytes.size() < sizeof h) refuse("is truncated: it has " + std::to_string(bytes.size()) + " bytes");
    std::memcpy(&h, bytes.data(), sizeof h);
    if (std::memcmp(h.magic, kMagic, sizeof kMagic) != 0) refuse("is none: it does not begin as one");
    if (h.version != kStateVersion)
        refuse("is of version " + std::to_string(h.version) + "; this library reads version " +
                   std::to_string(kStateVersion),
               Status::UnsupportedArgument);
    if (h.size != bytes.size())
        refuse((h.size > bytes.size() ? "is truncated: it has " : "is damaged: it has ") +
               std::to_string(bytes.size()) + " of " + std::to_string(h.size) + " bytes");
    if (h.size < sizeof h + 4) refuse("is damaged: it ends in its header");
    uint32_t checksum;
    std::memcpy(&checksum, bytes.data() + h.size - 4, 4);
    if (checksum_of(bytes.first(h.size - 4)) != checksum) refuse("is damaged: its checksum is another");
    if (h.kv_bytes != shape.kv_bytes)
        refuse("has a cache of " + std::to_string(8 * h.kv_bytes) + "-bit numbers, this model one of " +
               std::to_string(8 * shape.kv_bytes) + "-bit numbers");
    if (h.model != shape.model)
        refuse("is of another model, of one loaded with other weights, or of another adapter or scale");
    check_counts(h, shape);
    const StateLayout layout(shape, h);
    if (layout.size != h.size)
        refuse("is damaged: its parts take " + std::to_string(layout.size) + " bytes, and it has " +
               std::to_string(h.size));
    state.tokens = read_tokens(bytes.data() + layout.tokens, h.n_tokens, shape.vocab);
    state.computed = read_tokens(bytes.data() + layout.computed, h.n_computed, shape.vocab);
    state.logits = bytes.subspan(layout.logits, layout.cache - layout.logits);
    state.cache = bytes.subspan(layout.cache, layout.checksum - layout.cache);
    return state;
}

}  // namespace gptoss::model
