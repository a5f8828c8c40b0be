#include "engine/sequence.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "engine/engine.h"
#include "vk/transfer.h"

namespace gptoss::model {

uint32_t checked_max_tokens(const io::Config& config, uint64_t wanted) {
    const uint32_t most = config.max_context;
    if (wanted > most)
        throw Error(Status::InvalidArgument,
                    "context_length is " + std::to_string(wanted) + "; the model supports " + std::to_string(most));
    return wanted ? static_cast<uint32_t>(wanted) : most;
}

uint32_t checked_max_batch(const io::Config& config, const Tuning& tuning, const vk::DeviceInfo& device,
                           uint32_t max_tokens, uint64_t wanted) {
    if (wanted > max_tokens)
        throw Error(Status::InvalidArgument, "max_batch_tokens is " + std::to_string(wanted) + "; the context holds " +
                                                 std::to_string(max_tokens));
    const uint32_t batch = wanted ? static_cast<uint32_t>(wanted) : std::min(max_tokens, tuning.default_batch());
    if (const uint64_t groups = workgroups_of_batch(config, tuning, batch); groups > device.max_groups)
        throw Error(Status::InvalidArgument, "max_batch_tokens is " + std::to_string(batch) + ", which takes " +
                                                 std::to_string(groups) + " workgroups; the device has at most " +
                                                 std::to_string(device.max_groups));
    return batch;
}

Sequence::Sequence(std::shared_ptr<const Model> model, uint64_t max_tokens, uint64_t max_batch)
    : model_(std::move(model)),
      max_tokens_(checked_max_tokens(model_->config, max_tokens)),
      max_batch_(checked_max_batch(model_->config, model_->tuning, model_->device.info(), max_tokens_, max_batch)),
      pages_(model_->engine->layout(), model_->engine->pool(), max_tokens_, max_batch_) {
    model_->engine->make_room(max_batch_);
}

Sequence::Sequence(Sequence& other)
    : model_(other.model_),
      max_tokens_(other.max_tokens_),
      max_batch_(other.max_batch_),
      adapter_(other.adapter_),
      tokens_(other.tokens_),
      computed_(other.computed_),
      logits_(other.logits_),
      logits_of_(other.logits_of_),
      answer_start_(other.answer_start_),
      grammar_(other.grammar_),
      pages_(model_->engine->layout(), model_->engine->pool(), max_tokens_, max_batch_),
      kept_(other.kept_) {
    pages_.share(other.pages_, static_cast<uint32_t>(computed_.size()));
}

Sequence::~Sequence() {
    pages_.clear();
    model_->engine->prefixes().trim();  // which may be alone now with pages that were this sequence's too
}

void Sequence::append(std::span<const uint32_t> tokens) {
    if (tokens.size() > max_tokens_ - tokens_.size())
        throw Error(Status::ContextOverflow, "the context holds " + std::to_string(tokens_.size()) + " of at most " +
                                                 std::to_string(max_tokens_) + " tokens: no room for " +
                                                 std::to_string(tokens.size()) + " more");
    for (size_t i = 0; i < tokens.size(); i++)
        if (tokens[i] >= model_->config.vocab)
            throw Error(Status::InvalidArgument, "token " + std::to_string(tokens[i]) + " (number " +
                                                     std::to_string(i) + ") is outside the vocabulary of " +
                                                     std::to_string(model_->config.vocab));
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    answer_start_ = tokens_.size();
    grammar_.reset();
}

void Sequence::truncate(size_t n) {
    if (n > tokens_.size())
        throw Error(Status::InvalidArgument, "cannot keep " + std::to_string(n) + " tokens: the context holds " +
                                                 std::to_string(tokens_.size()));
    tokens_.resize(n);
    tapped_ = std::min(tapped_, static_cast<uint32_t>(n));
    answer_start_ = std::min(answer_start_, n);
    if (answer_start_ == n)
        grammar_.reset();
    else if (grammar_)
        grammar_->truncate(n - answer_start_);
}

void Sequence::set_adapter(Attachment attachment) {
    if (attachment.adapter && attachment.adapter->model != model_)
        throw Error(Status::InvalidArgument, "the adapter is of another model than the context");
    if (!std::isfinite(attachment.scale))
        throw Error(Status::InvalidArgument,
                    "the adapter's scale must be finite, not " + std::to_string(attachment.scale));
    const bool same = attachment.key() == adapter_.key();
    adapter_ = std::move(attachment);
    if (same) return;
    computed_.clear();
    logits_of_ = 0;
    kept_ = 0;
    drafts_.forget();
}

void Sequence::set_tap(std::optional<Tap> tap) {
    tap_ = tap ? std::make_unique<const Tap>(std::move(*tap)) : nullptr;
    tapped_ = 0;
}

void Sequence::check_cancelled() {
    if (cancelled_.exchange(false)) throw Error(Status::Cancelled, "cancelled");
}

void Sequence::require_tokens() const {
    if (tokens_.empty()) throw Error(Status::InvalidState, "the context is empty: append tokens first");
}

// Whether the logits of the next token are known, and nothing is left to tap.
bool Sequence::processed() const {
    return logits_of_ == tokens_.size() && next_tapped() >= tokens_.size() &&
           std::equal(tokens_.begin(), tokens_.end(), computed_.begin());
}

void Sequence::process() {
    check_cancelled();
    require_tokens();
    if (processed()) return;
    Job job{.sequence = this};
    model_->engine->run({&job, 1});
    if (job.error) throw Error(*job.error);
}

void Sequence::read_logits(std::span<float> out) {
    process();
    std::copy_n(logits_->begin(), std::min(out.size(), logits_->size()), out.begin());
}

StopReason Sequence::generate(const GenerateRequest& request, uint64_t* n_tokens) {
    Generation generation{.sequence = this, .request = &request};
    generate_together({&generation, 1});
    *n_tokens = generation.n_tokens;
    if (generation.error) throw Error(*generation.error);
    return generation.reason;
}

void generate_together(std::span<Generation> generations) {
    std::vector<Job> jobs;
    std::vector<size_t> index;  // of each job's generation
    jobs.reserve(generations.size());
    index.reserve(generations.size());
    for (size_t i = 0; i < generations.size(); i++) {
        Generation& g = generations[i];
        try {
            g.sequence->check_cancelled();
            g.sequence->require_tokens();
            g.n_prompt = g.sequence->tokens_.size();
            Job job{.sequence = g.sequence};
            const uint64_t room = g.sequence->max_tokens_ - g.sequence->tokens_.size();
            const bool bounded = g.request->max_tokens != 0 && g.request->max_tokens <= room;
            job.limit = bounded ? g.request->max_tokens : room;
            job.reason = bounded ? StopReason::MaxTokens : StopReason::ContextFull;
            if (job.limit > 0) job.request = g.request;
            if (job.request || !g.sequence->processed()) {
                jobs.push_back(std::move(job));  // may throw, since the move of a deque allocates
                index.push_back(i);
            } else {
                g.reason = job.reason;
                g.n_cached = g.n_prompt;
            }
        } catch (...) {
            g.error = Error::current();
        }
    }
    if (jobs.empty()) return;
    jobs[0].sequence->model_->engine->run(jobs);
    for (size_t i = 0; i < jobs.size(); i++) {
        Generation& g = generations[index[i]];
        g.n_tokens = jobs[i].received;
        g.n_cached = jobs[i].cached;
        g.n_forced = std::min(jobs[i].n_forced, g.n_tokens);
        g.error = jobs[i].error;
        if (!g.error) g.reason = jobs[i].reason;
    }
}

std::vector<vk::KernelTime> Sequence::profile(uint32_t n, const SamplerSettings& settings) {
    if (n == 0 || n > std::min<size_t>(max_batch_, tokens_.size()))
        throw Error(Status::InvalidArgument, "cannot profile a batch of " + std::to_string(n) + ": the context holds " +
                                                 std::to_string(tokens_.size()) + " tokens, a batch " +
                                                 std::to_string(max_batch_));
    process();
    return model_->engine->profile(*this, n, settings);
}

std::vector<TokenLogprobs> Sequence::logprobs(size_t first, size_t end, uint32_t n_top) {
    check_cancelled();
    if (first == 0 || first > end || end > tokens_.size())
        throw Error(Status::InvalidArgument, "no log-probabilities of tokens " + std::to_string(first) + " to " +
                                                 std::to_string(end) + ": the context holds " +
                                                 std::to_string(tokens_.size()) +
                                                 ", and the first one follows nothing");
    if (first == end) return {};
    return model_->engine->logprobs(*this, static_cast<uint32_t>(first), static_cast<uint32_t>(end), n_top);
}

Sequence::Stats Sequence::stats() const { return model_->engine->stats(*this); }

StateShape Sequence::state_shape() const {
    const io::Config& c = model_->config;
    const KvLayout& layout = model_->engine->layout();
    // with an adapter the keys and values are those of another model
    return {model_->fingerprint ^ adapter_.key(),
            model_->kv_f16 ? 2u : 4u,
            c.vocab,
            c.window,
            c.max_context,
            layout.n_sliding,
            layout.n_full,
            layout.slot_bytes,
            layout.ring_slot_bytes};
}

StateHeader Sequence::state_header(const StateShape& shape, std::span<const Window> windows) const {
    StateHeader header = new_state_header(shape);
    header.n_tokens = static_cast<uint32_t>(tokens_.size());
    header.answer_start = static_cast<uint32_t>(answer_start_);
    const auto n_computed = static_cast<uint32_t>(computed_.size());
    if (!pages_.has_window(n_computed)) return header;  // what a failure left behind: all is computed again
    header.n_computed = n_computed;
    header.logits_of = static_cast<uint32_t>(logits_of_);
    header.ring_first = pages_.ring_first();
    for (const Window& window : windows) header.snapshots[header.n_snapshots++] = window.position;
    return header;
}

uint64_t Sequence::save(std::span<std::byte> state) const {
    // the longest ones: who goes on with it will not go back far
    std::vector<PrefixCache::Ref> beginnings = model_->engine->prefixes().beginnings(computed_, adapter_.key());
    if (beginnings.size() > kMaxSnapshots)
        beginnings.erase(beginnings.begin(), beginnings.end() - static_cast<ptrdiff_t>(kMaxSnapshots));
    std::vector<Window> windows;
    for (const PrefixCache::Ref& prefix : beginnings)
        if (prefix->window.page) windows.push_back(prefix->window);
    const StateShape shape = state_shape();
    const StateHeader header = state_header(shape, windows);
    windows.resize(header.n_snapshots);
    const StateLayout layout(shape, header);
    if (layout.size > state.size()) return layout.size;
    state = state.first(layout.size);
    const auto put = [&](uint64_t at, const void* from, uint64_t size) {
        if (size > 0) std::memcpy(state.data() + at, from, size);
    };
    put(0, &header, sizeof header);
    put(layout.tokens, tokens_.data(), header.n_tokens * 4ull);
    put(layout.computed, computed_.data(), header.n_computed * 4ull);
    if (header.logits_of) put(layout.logits, logits_->data(), logits_->size() * 4);
    vk::Transfer transfer(model_->device, model_->pipelines, vk::Memory::Readback, layout.size);
    for (const KvPages::Piece& piece : pages_.pieces(header.n_computed, header.ring_first, windows))
        transfer.read(*piece.buffer, piece.offset, piece.size, state.data() + layout.cache + piece.at);
    transfer.finish();
    seal_state(state);
    return layout.size;
}

void Sequence::restore(std::span<const std::byte> bytes) {
    State state = parse_state(bytes, state_shape());
    const StateHeader& header = state.header;
    if (std::max(header.n_tokens, header.n_computed) > max_tokens_)
        throw Error(Status::ContextOverflow, "the saved state has " +
                                                 std::to_string(std::max(header.n_tokens, header.n_computed)) +
                                                 " tokens; the context holds at most " + std::to_string(max_tokens_));
    KvPages pages(model_->engine->layout(), model_->engine->pool(), max_tokens_, max_batch_);
    const std::vector<Window> windows = pages.begin_restore(header.n_computed, header.ring_first,
                                                            std::span(header.snapshots).first(header.n_snapshots));
    const auto logits = std::make_shared<std::vector<float>>(state.logits.size() / 4);
    if (!state.logits.empty()) std::memcpy(logits->data(), state.logits.data(), state.logits.size());
    vk::Transfer transfer(model_->device, model_->pipelines, vk::Memory::Upload, bytes.size());
    for (const KvPages::Piece& piece : pages.pieces(header.n_computed, header.ring_first, windows))
        transfer.write(*piece.buffer, piece.offset, piece.size, state.cache.data() + piece.at);
    transfer.finish();
    pages_ = std::move(pages);
    tokens_ = std::move(state.tokens);
    computed_ = std::move(state.computed);
    logits_ = logits;
    logits_of_ = header.logits_of;
    answer_start_ = header.answer_start;
    grammar_.reset();
    tapped_ = 0;
    kept_ = 0;
    PrefixCache& prefixes = model_->engine->prefixes();
    for (const Window& window : windows) {
        const std::span tokens = std::span(computed_).first(window.position);
        kept_ = window.position;
        if (!prefixes.has(tokens, adapter_.key()))
            prefixes.add({adapter_.key(), {tokens.begin(), tokens.end()}, pages_.lend(window.position), window});
    }
}

}  // namespace gptoss::model
