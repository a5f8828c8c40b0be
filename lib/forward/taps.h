// Taps: copies of what a forward pass computes on the way, for chosen tokens and layers. Nothing of it is recorded for
// tokens that nobody asks about.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "forward/forward.h"

namespace gptoss::model {

// The values of enum gptoss_tap_kind.
enum TapKind : uint32_t {
    kTapEmbedding = 1,  // (hidden) the residual before the first layer
    kTapHidden = 2,     // (hidden) the residual after a layer
    kTapFinal = 4,      // (hidden) the last residual after the final norm
    kTapRouter = 8,     // (n_experts) the router's logits
    kTapExperts = 16,   // (2, n_active) the chosen experts, the likeliest first, and their weights
    kTapAttention = 32  // (n_heads, keys) probabilities of the keys, without the sink's share
};
constexpr uint32_t kTapKinds = 63;

// What a tap hands over, until the callback returns.
struct Tapped {
    TapKind kind;
    uint32_t layer;
    uint32_t position;
    uint32_t rows, columns;
    std::span<const float> values;  // (rows, columns)
};

// What is wanted of a timeline.
struct Tap {
    uint32_t kinds = 0;        // TapKind
    std::vector<bool> layers;  // (n_layers)
    uint32_t first_position = 0;
    std::vector<uint32_t> positions;  // in ascending order; all if empty
    std::function<void(const Tapped&)> on_tapped;

    // The first position from `from` on that is wanted; UINT32_MAX if none is.
    uint32_t next(uint32_t from) const;
    bool wants(uint32_t position) const { return next(position) == position; }
    bool wants(TapKind kind, uint32_t layer) const { return (kinds & kind) && layers[layer]; }
};

// A token of a batch that a tap wants.
struct TapToken {
    uint32_t row;  // of the batch
    uint32_t position;
    const Tap* tap;
};

// The taps of one batch.
class Taps {
  public:
    // tokens: those of a tap follow each other. Throws InsufficientMemory.
    Taps(const Network& network, const Activations& activations, std::vector<TapToken> tokens);

    // Record the copies, each beside what reads the same: after the barrier that follows what it copies. The residual
    // that enters a layer, or where layer is n_layers what is left after the last one.
    void residual(vk::Commands& commands, uint32_t layer) const;
    void attention(vk::Commands& commands, const KvTables& tables, uint32_t layer) const;
    void router(vk::Commands& commands, uint32_t layer) const;

    size_t size() const { return tokens_.size(); }
    const TapToken& operator[](size_t i) const { return tokens_[i]; }
    // Once the batch is computed: hands all that is wanted of token number i over, layer by layer.
    void hand_over(size_t i) const;

    // The bytes that a token takes.
    static uint64_t bytes(const io::Config& config, const Tap& tap, uint32_t position);

  private:
    // Tokens that lie side by side in the batch and whose positions follow each other.
    struct Run {
        uint32_t first, n;  // of tokens_
        uint64_t at;        // of what the first one has in out_, words
        uint32_t stride;    // words from one to the next
    };
    struct Block {
        TapKind kind;
        uint32_t layer;
        std::vector<Run> runs;
    };
    const Block* find(TapKind kind, uint32_t layer) const;
    template <typename Words>
    void add_block(TapKind kind, uint32_t layer, uint32_t kinds, const Words& words_of);
    void copy(vk::Commands& commands, TapKind kind, uint32_t layer, const vk::Buffer& from) const;
    const float* words(TapKind kind, uint32_t layer, size_t i) const;
    uint32_t n_squares() const;

    const Network& network_;
    const Activations& activations_;
    const std::vector<TapToken> tokens_;
    std::vector<Block> blocks_;
    uint64_t size_ = 0;  // words
    vk::Buffer out_;
};

}  // namespace gptoss::model
