#include "model/context.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace gptoss::model {

namespace {

constexpr uint32_t kDefaultBatch = 256;  // tokens: enough rows for every expert to be worth its weights' read

uint32_t checked_max_tokens(const Model& model, uint64_t wanted) {
    const uint32_t most = model.config.max_context;
    if (wanted > most)
        throw Error(Status::InvalidArgument, "context_length is " + std::to_string(wanted) + "; the model supports " +
                                                 std::to_string(most));
    return wanted ? static_cast<uint32_t>(wanted) : most;
}

uint32_t checked_max_batch(uint32_t max_tokens, uint64_t wanted) {
    if (wanted > max_tokens)
        throw Error(Status::InvalidArgument, "max_batch_tokens is " + std::to_string(wanted) +
                                                 "; the context holds " + std::to_string(max_tokens));
    return wanted ? static_cast<uint32_t>(wanted) : std::min(max_tokens, kDefaultBatch);
}

}  // namespace

Context::Context(std::shared_ptr<const Model> model, uint64_t max_tokens, uint64_t max_batch)
    : model_(std::move(model)),
      max_tokens_(checked_max_tokens(*model_, max_tokens)),
      max_batch_(checked_max_batch(max_tokens_, max_batch)),
      activations_(*model_, max_batch_),
      cache_(*model_, max_tokens_, max_batch_),
      token_staging_(model_->device, max_batch_ * sizeof(args::Token), vk::Memory::Upload, "tokens"),
      logits_staging_(model_->device, model_->config.vocab * 4ull, vk::Memory::Readback, "logits"),
      commands_(model_->device, model_->kernels) {
    // kernels sum whole vectors of this table, also where no tile writes
    commands_.begin();
    commands_.zero(activations_.squares);
    commands_.end();
    commands_.submit();
    commands_.wait();
}

void Context::append(std::span<const uint32_t> tokens) {
    if (tokens.size() > max_tokens_ - tokens_.size())
        throw Error(Status::ContextOverflow, "the context holds " + std::to_string(tokens_.size()) + " of at most " +
                                                 std::to_string(max_tokens_) + " tokens: no room for " +
                                                 std::to_string(tokens.size()) + " more");
    for (size_t i = 0; i < tokens.size(); i++)
        if (tokens[i] >= model_->config.vocab)
            throw Error(Status::InvalidArgument, "token " + std::to_string(tokens[i]) + " (number " + std::to_string(i) +
                                                     ") is outside the vocabulary of " +
                                                     std::to_string(model_->config.vocab));
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

void Context::truncate(size_t n) {
    if (n > tokens_.size())
        throw Error(Status::InvalidArgument, "cannot keep " + std::to_string(n) + " tokens: the context holds " +
                                                 std::to_string(tokens_.size()));
    tokens_.resize(n);
}

void Context::check_cancelled() const {
    if (cancelled_) throw Error(Status::Cancelled, "cancelled");
}

void Context::process() {
    cancelled_ = false;
    if (tokens_.empty()) throw Error(Status::InvalidState, "the context is empty: append tokens first");
    const auto [mine, cached] = std::mismatch(tokens_.begin(), tokens_.end(), computed_.begin(), computed_.end());
    auto start = static_cast<uint32_t>(mine - tokens_.begin());
    if (start == tokens_.size()) {
        if (logits_of_ == start) return;
        start--;  // only the last token's logits are missing
    }
    logits_of_ = 0;
    start = cache_.rewind(start);
    computed_.resize(start);
    const auto end = static_cast<uint32_t>(tokens_.size());
    cache_.reserve(end);
    while (start < end) {
        check_cancelled();
        const uint32_t n = std::min(end - start, max_batch_);
        run_batch(start, n, start + n == end);
        computed_.insert(computed_.end(), tokens_.begin() + start, tokens_.begin() + start + n);
        start += n;
    }
    logits_of_ = end;
}

void Context::run_batch(uint32_t first, uint32_t n, bool want_logits) {
    commands_.wait();
    auto* staged = token_staging_.as<args::Token>();
    for (uint32_t i = 0; i < n; i++) staged[i] = {tokens_[first + i], first + i, 0, 0};
    cache_.will_write(first, n);
    commands_.begin();
    commands_.barrier();
    commands_.copy(token_staging_, 0, activations_.tokens, 0, n * sizeof(args::Token));
    record_forward(commands_, *model_, activations_, cache_, n, 0, model_->config.n_layers, want_logits);
    commands_.end();
    commands_.submit();
    commands_.wait();
}

void Context::read_logits(std::span<float> out) {
    process();
    const uint64_t size = model_->config.vocab * 4ull;
    commands_.begin();
    commands_.barrier();
    commands_.copy(activations_.logits, 0, logits_staging_, 0, size);
    commands_.end();
    commands_.submit();
    commands_.wait();
    std::memcpy(out.data(), logits_staging_.data(), std::min<uint64_t>(out.size() * 4, size));
}

}  // namespace gptoss::model
