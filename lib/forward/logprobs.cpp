#include "forward/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace gptoss::model {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr float kLowest = -3.0e38f;  // of sample.glsl: what is not above it has no probability

// The tokens that can be drawn, the likeliest first as far as `sorted` of them go.
class Order {
  public:
    explicit Order(std::span<const float> logits) : logits_(logits) {
        for (uint32_t id = 0; id < logits.size(); id++)
            if (logits[id] > kLowest) ids_.push_back(id);
    }
    size_t size() const { return ids_.size(); }
    // The token of rank i, from 0.
    uint32_t at(size_t i) {
        if (i >= sorted_) {
            const size_t end = std::min(ids_.size(), std::max<size_t>(2 * sorted_, i + 64));
            const auto from = ids_.begin() + static_cast<ptrdiff_t>(sorted_);
            std::partial_sort(
                from, ids_.begin() + static_cast<ptrdiff_t>(end), ids_.end(),
                [&](uint32_t a, uint32_t b) { return logits_[a] > logits_[b] || (logits_[a] == logits_[b] && a < b); });
            sorted_ = end;
        }
        return ids_[i];
    }
    void resize(size_t n) {
        at(n - 1);
        ids_.resize(n);
    }
    double mass(double top) const {
        return std::accumulate(ids_.begin(), ids_.end(), 0.0,
                               [&](double sum, uint32_t id) { return sum + std::exp(logits_[id] - top); });
    }
    bool holds(uint32_t token) const { return std::find(ids_.begin(), ids_.end(), token) != ids_.end(); }

  private:
    const std::span<const float> logits_;
    std::vector<uint32_t> ids_;
    size_t sorted_ = 0;
};

TokenLogprobs logprobs_of(std::span<const float> logits, Order& order, uint32_t token, uint32_t n_top) {
    TokenLogprobs out;
    if (order.size() == 0) return {kNever, {}};
    const double top = logits[order.at(0)], sum = top + std::log(order.mass(top));
    out.logprob = order.holds(token) ? static_cast<float>(logits[token] - sum) : kNever;
    for (size_t i = 0; i < std::min<size_t>(n_top, order.size()); i++)
        out.top.push_back({order.at(i), static_cast<float>(logits[order.at(i)] - sum)});
    return out;
}

}  // namespace

TokenLogprobs model_logprobs(std::span<const float> logits, uint32_t token, uint32_t n_top) {
    Order order(logits);
    return logprobs_of(logits, order, token, n_top);
}

TokenLogprobs drawn_logprobs(std::span<const float> adjusted, const SamplerSettings& s, uint32_t token,
                             uint32_t n_top) {
    Order order(adjusted);
    if (order.size() == 0) return {0, {}};
    if (s.temperature == 0) {
        order.resize(1);
    } else {
        if (s.top_k > 0 && s.top_k < order.size()) order.resize(s.top_k);
        const double top = adjusted[order.at(0)];
        if (s.top_p < 1) {
            const double wanted = s.top_p * order.mass(top);
            double before = 0;
            size_t n = 0;
            for (; n < order.size() && before < wanted; n++) before += std::exp(adjusted[order.at(n)] - top);
            order.resize(n);
        }
        if (s.min_p > 0) {
            const auto least = static_cast<float>(top + std::log(double{s.min_p}));
            size_t n = 1;
            while (n < order.size() && adjusted[order.at(n)] >= least) n++;
            order.resize(n);
        }
    }
    TokenLogprobs out = logprobs_of(adjusted, order, token, n_top);
    // the device drew it: at the edge of a filter its sums were rounded otherwise
    if (out.logprob == kNever) out.logprob = static_cast<float>(adjusted[token] - adjusted[order.at(0)]);
    return out;
}

}  // namespace gptoss::model
