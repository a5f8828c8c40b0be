#include "forward/taps.h"

#include <algorithm>
#include <cmath>

namespace gptoss::model {

namespace {

constexpr uint32_t kWorkgroup = 64;  // of tap_attention

// Keys that a token of a layer has: in a sliding one those of its window.
uint32_t key_count(const io::Config& c, uint32_t layer, uint32_t position) {
    return c.sliding[layer] ? std::min(position + 1, c.window) : position + 1;
}

// As choose_expert does in experts.glsl: the k largest logits, ties to the lower index, and the softmax over them.
std::vector<float> choose_experts(std::span<const float> logits, uint32_t k) {
    std::vector<float> chosen(2 * k);
    std::vector<uint32_t> order(logits.size());
    for (uint32_t i = 0; i < order.size(); i++) order[i] = i;
    // a NaN counts as the least, since an order needs one
    const auto value = [&](uint32_t e) { return std::isnan(logits[e]) ? -INFINITY : logits[e]; };
    std::partial_sort(order.begin(), order.begin() + k, order.end(),
                      [&](uint32_t a, uint32_t b) { return value(a) > value(b) || (value(a) == value(b) && a < b); });
    float sum = 0;
    for (uint32_t j = 0; j < k; j++) {
        chosen[j] = static_cast<float>(order[j]);
        sum += chosen[k + j] = std::exp(logits[order[j]] - logits[order[0]]);
    }
    for (uint32_t j = 0; j < k; j++) chosen[k + j] /= sum;
    return chosen;
}

}  // namespace

uint32_t Tap::next(uint32_t from) const {
    from = std::max(from, first_position);
    if (positions.empty()) return from;
    const auto at = std::lower_bound(positions.begin(), positions.end(), from);
    return at == positions.end() ? UINT32_MAX : *at;
}

uint64_t Taps::bytes(const io::Config& c, const Tap& tap, uint32_t position) {
    if (!tap.wants(position)) return 0;
    uint64_t words = 0;
    if (tap.kinds & kTapEmbedding) words += c.hidden;
    if (tap.kinds & kTapFinal) words += c.hidden;
    for (uint32_t i = 0; i < c.n_layers; i++) {
        if (tap.wants(kTapHidden, i)) words += c.hidden;
        if (tap.wants(kTapRouter, i) || tap.wants(kTapExperts, i)) words += c.n_experts;
        if (tap.wants(kTapAttention, i)) words += uint64_t{c.n_heads} * key_count(c, i, position);
    }
    return words * 4;
}

Taps::Taps(const Network& network, const Activations& activations, std::vector<TapToken> tokens)
    : network_(network), activations_(activations), tokens_(std::move(tokens)) {
    const io::Config& c = network_.config;
    const auto fixed = [](uint32_t words) { return [words](uint32_t) { return words; }; };
    add_block(kTapEmbedding, 0, kTapEmbedding, fixed(c.hidden));
    for (uint32_t i = 0; i < c.n_layers; i++) {
        add_block(kTapHidden, i, kTapHidden, fixed(c.hidden));
        add_block(kTapRouter, i, kTapRouter | kTapExperts, fixed(c.n_experts));
        add_block(kTapAttention, i, kTapAttention,
                  [&, i](uint32_t position) { return c.n_heads * key_count(c, i, position); });
    }
    // the residual times the norm's weight, and its sums of squares, of which the norm's scale is made
    add_block(kTapFinal, 0, kTapFinal, fixed(c.hidden));
    add_block(kTapFinal, 1, kTapFinal, fixed(n_squares()));
    out_ = vk::Buffer(network_.device, size_ * 4, vk::Memory::Readback, "what is tapped");
}

uint32_t Taps::n_squares() const {
    return static_cast<uint32_t>(activations_.squares.size() / 4 / activations_.max_batch);
}

// The runs of the tokens that want any of these kinds of a layer. words_of: of a token at a position.
template <typename Words>
void Taps::add_block(TapKind kind, uint32_t layer, uint32_t kinds, const Words& words_of) {
    const bool of_layer = kinds & (kTapHidden | kTapRouter | kTapExperts | kTapAttention);
    Block block{kind, layer, {}};
    for (uint32_t i = 0; i < tokens_.size(); i++) {
        const TapToken& token = tokens_[i];
        if (!(token.tap->kinds & kinds) || (of_layer && !token.tap->layers[layer])) continue;
        Run* run = block.runs.empty() ? nullptr : &block.runs.back();
        const bool next = run && run->first + run->n == i && tokens_[i - 1].tap == token.tap &&
                          tokens_[i - 1].row + 1 == token.row && tokens_[i - 1].position + 1 == token.position;
        if (next)
            run->n++;
        else
            run = &block.runs.emplace_back(Run{i, 1, 0, 0});
        run->stride = words_of(token.position);  // the last one has most
    }
    for (Run& run : block.runs) {
        run.at = size_;
        size_ += uint64_t{run.n} * run.stride;
    }
    if (!block.runs.empty()) blocks_.push_back(std::move(block));
}

const Taps::Block* Taps::find(TapKind kind, uint32_t layer) const {
    for (const Block& block : blocks_)
        if (block.kind == kind && block.layer == layer) return &block;
    return nullptr;
}

// The tokens' rows of an array that has as many words of each as the tap takes.
void Taps::copy(vk::Commands& commands, TapKind kind, uint32_t layer, const vk::Buffer& from) const {
    const Block* block = find(kind, layer);
    if (!block) return;
    for (const Run& run : block->runs)
        commands.copy(from, uint64_t{tokens_[run.first].row} * run.stride * 4, out_, run.at * 4,
                      uint64_t{run.n} * run.stride * 4);
}

void Taps::residual(vk::Commands& commands, uint32_t layer) const {
    if (layer == 0)
        copy(commands, kTapEmbedding, 0, activations_.x);
    else
        copy(commands, kTapHidden, layer - 1, activations_.x);
    if (layer < network_.config.n_layers) return;
    copy(commands, kTapFinal, 0, activations_.normed);
    copy(commands, kTapFinal, 1, activations_.squares);
}

void Taps::router(vk::Commands& commands, uint32_t layer) const {
    copy(commands, kTapRouter, layer, activations_.router);
}

void Taps::attention(vk::Commands& commands, const KvTables& tables, uint32_t layer) const {
    const Block* block = find(kTapAttention, layer);
    if (!block) return;
    const io::Config& c = network_.config;
    const uint32_t kv_f16 = network_.kv_f16 && !c.sliding[layer];
    for (const Run& run : block->runs) {
        // softmax(q·k, sink), the sink's share left out; (n_heads, keys) of each token
        const args::TapAttentionArgs args{activations_.q.address(),
                                          activations_.tokens.address(),
                                          tables.caches(layer),
                                          network_.weights.layers[layer].sinks,
                                          out_.address() + run.at * 4,
                                          tokens_[run.first].row,
                                          c.n_heads,
                                          c.n_kv_heads,
                                          c.sliding[layer] ? c.window : UINT32_MAX,
                                          run.stride};
        commands.dispatch(network_.kernels.tap_attention({kWorkgroup, kv_f16}), args, c.n_heads, run.n);
    }
}

// Of token number i, which has that.
const float* Taps::words(TapKind kind, uint32_t layer, size_t i) const {
    for (const Run& run : find(kind, layer)->runs)
        if (i < run.first + run.n) return out_.as<const float>() + run.at + (i - run.first) * run.stride;
    return nullptr;
}

void Taps::hand_over(size_t i) const {
    const io::Config& c = network_.config;
    const TapToken& token = tokens_[i];
    const Tap& tap = *token.tap;
    const auto hand = [&](TapKind kind, uint32_t layer, uint32_t rows, uint32_t columns, const float* values) {
        tap.on_tapped({kind, layer, token.position, rows, columns, {values, uint64_t{rows} * columns}});
    };
    if (tap.kinds & kTapEmbedding) hand(kTapEmbedding, 0, 1, c.hidden, words(kTapEmbedding, 0, i));
    for (uint32_t layer = 0; layer < c.n_layers; layer++) {
        if (tap.wants(kTapAttention, layer))
            hand(kTapAttention, layer, c.n_heads, key_count(c, layer, token.position), words(kTapAttention, layer, i));
        if (tap.wants(kTapRouter, layer)) hand(kTapRouter, layer, 1, c.n_experts, words(kTapRouter, layer, i));
        if (tap.wants(kTapExperts, layer)) {
            const auto chosen = choose_experts({words(kTapRouter, layer, i), c.n_experts}, c.n_active_experts);
            hand(kTapExperts, layer, 2, c.n_active_experts, chosen.data());
        }
        if (tap.wants(kTapHidden, layer)) hand(kTapHidden, layer, 1, c.hidden, words(kTapHidden, layer, i));
    }
    if (tap.kinds & kTapFinal) {
        const float *x = words(kTapFinal, 0, i), *squares = words(kTapFinal, 1, i);
        double sum = 0;
        for (uint32_t s = 0; s < n_squares(); s++) sum += squares[s];
        const auto scale = static_cast<float>(1 / std::sqrt(sum / c.hidden + c.norm_eps));
        std::vector<float> normed(x, x + c.hidden);
        for (float& value : normed) value *= scale;
        hand(kTapFinal, c.n_layers, 1, c.hidden, normed.data());
    }
}

}  // namespace gptoss::model
