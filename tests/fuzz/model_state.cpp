// A saved context: refused, or one whose parts all lie in its bytes. The first byte says for which of some models; the
// size and the checksum are made right, or nothing would get past them.
#include "engine/state.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

using namespace gptoss;

namespace {

const model::StateShape shapes[] = {
    {7, 2, 96, 16, 4096, 1, 1, 256, 256},
    {7, 4, 96, 1, 100, 2, 0, 64, 64},
    {7, 2, 512, 128, 131072, 0, 2, 1024, 2048},
    {7, 2, UINT32_MAX, UINT32_MAX, UINT32_MAX, 1000, 1000, 16 << 10, 32 << 10},
};

void use(const model::State& state, std::span<const std::byte> bytes, const model::StateShape& shape) {
    const model::StateLayout layout(shape, state.header);
    if (layout.size != bytes.size() || state.tokens.size() != state.header.n_tokens ||
        state.computed.size() != state.header.n_computed || state.header.answer_start > state.tokens.size() ||
        state.header.ring_first > state.header.n_computed || state.header.n_snapshots > model::kMaxSnapshots)
        std::abort();
    for (const auto& tokens : {state.tokens, state.computed})
        for (const uint32_t token : tokens)
            if (token >= shape.vocab) std::abort();
    // the sanitizer sees to it that these can be read
    volatile unsigned sum = 0;
    for (const auto& part : {state.logits, state.cache})
        for (const std::byte b : part) sum = sum + static_cast<unsigned>(b);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const model::StateShape& shape = shapes[data[0] % std::size(shapes)];
    std::vector<std::byte> bytes(size - 1);
    if (!bytes.empty()) std::memcpy(bytes.data(), data + 1, bytes.size());
    for (const bool sealed : {false, true}) {
        if (sealed && bytes.size() < sizeof(model::StateHeader) + 4) break;
        if (sealed) model::seal_state(bytes);
        try {
            use(model::parse_state(bytes, shape), bytes, shape);
        } catch (const Error& e) {
            if (e.status() != Status::InvalidArgument && e.status() != Status::UnsupportedArgument) std::abort();
        }
    }
    return 0;
}
