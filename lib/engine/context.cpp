#include "engine/context.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "engine/memory.h"
#include "vk/transfer.h"

namespace gptoss::model {

namespace {

constexpr uint32_t kSnapshotTokens = 64;  // computing fewer again costs less than a copy of the ring

constexpr double kSubmitWork = 5e10;  // multiply-adds of a submit: a quarter of a second on a slow laptop's GPU

// Multiply-adds of a layer for n tokens from position `first` on.
double layer_work(const io::Config& c, uint32_t first, uint32_t n) {
    const double attention_rows = c.qkv_rows() + 1.0 * HEAD_DIM * c.n_heads;
    const double experts = 3.0 * c.n_active_experts * c.intermediate;
    const double keys = 2.0 * HEAD_DIM * c.n_heads * (static_cast<double>(first) + n);
    return n * (c.hidden * (attention_rows + experts) + keys);
}

const Model& with_room(const Model& model, uint32_t max_tokens, uint32_t max_batch) {
    require_room_for_context(model, max_tokens, max_batch);
    return model;
}

}  // namespace

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

Context::Context(std::shared_ptr<const Model> model, uint64_t max_tokens, uint64_t max_batch)
    : model_(std::move(model)),
      max_tokens_(checked_max_tokens(model_->config, max_tokens)),
      max_batch_(checked_max_batch(model_->config, model_->tuning, model_->device.info(), max_tokens_, max_batch)),
      activations_(with_room(*model_, max_tokens_, max_batch_), max_batch_),
      cache_(std::make_unique<KvCache>(*model_, max_tokens_, max_batch_)),
      sampler_(*model_),
      token_staging_(model_->device, max_batch_ * sizeof(args::Token), vk::Memory::Upload, "tokens"),
      logits_staging_(model_->device, model_->config.vocab * 4ull, vk::Memory::Readback, "logits"),
      commands_(model_->device, model_->pipelines),
      batch_commands_{vk::Commands(model_->device, model_->pipelines),
                      vk::Commands(model_->device, model_->pipelines)} {
    if (const ExpertCache* experts = model_->weights.expert_cache())
        expert_counts_ =
            vk::Buffer(model_->device, (kAhead + 1) * experts->counts_bytes(), vk::Memory::Readback, "uses of experts");
    // kernels sum whole vectors of this table, also where no tile writes
    commands_.begin();
    commands_.zero(activations_.squares);
    commands_.finish();
}

Context::Context(const Context& other) : Context(other.model_, other.max_tokens_, other.max_batch_) {
    cache_->share(*other.cache_, static_cast<uint32_t>(other.computed_.size()));
    if (other.logits_of_ > 0) {
        commands_.begin();
        commands_.barrier();
        commands_.copy(other.activations_.logits, 0, activations_.logits, 0, activations_.logits.size());
        commands_.finish();
    }
    tokens_ = other.tokens_;
    computed_ = other.computed_;
    logits_of_ = other.logits_of_;
    answer_start_ = other.answer_start_;
}

void Context::append(std::span<const uint32_t> tokens) {
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
}

void Context::truncate(size_t n) {
    if (n > tokens_.size())
        throw Error(Status::InvalidArgument, "cannot keep " + std::to_string(n) + " tokens: the context holds " +
                                                 std::to_string(tokens_.size()));
    tokens_.resize(n);
    answer_start_ = n;
}

void Context::check_cancelled() {
    if (cancelled_.exchange(false)) throw Error(Status::Cancelled, "cancelled");
}

void Context::process() {
    check_cancelled();
    if (tokens_.empty()) throw Error(Status::InvalidState, "the context is empty: append tokens first");
    const auto [mine, cached] = std::mismatch(tokens_.begin(), tokens_.end(), computed_.begin(), computed_.end());
    auto start = static_cast<uint32_t>(mine - tokens_.begin());
    if (start == tokens_.size()) {
        if (logits_of_ == start) return;
        start--;  // only the last token's logits are missing
    }
    const uint32_t first = go_back(start);
    const auto end = static_cast<uint32_t>(tokens_.size());
    cache_->reserve(first, end);
    compute_until(end);
    if (end - first >= kSnapshotTokens) cache_->save(end);
    logits_of_ = end;  // last: a call that fails has to fail again on a device that stays lost
}

// To `position` computed tokens, or fewer: returns how many.
uint32_t Context::go_back(uint32_t position) {
    logits_of_ = 0;
    position = cache_->rewind(position);
    computed_.resize(position);
    return position;
}

void Context::compute_until(uint32_t end) {
    for (auto start = static_cast<uint32_t>(computed_.size()); start < end;) {
        check_cancelled();
        const uint32_t n = std::min(end - start, max_batch_);
        try {
            run_batch(start, n, start + n == tokens_.size());
        } catch (...) {
            drain();
            throw;
        }
        computed_.insert(computed_.end(), tokens_.begin() + start, tokens_.begin() + start + n);
        prompt_tokens_computed_ += n;
        start += n;
    }
}

// In several submits where the work is long: a display's GPU resets a job of more than about two seconds.
void Context::run_batch(uint32_t first, uint32_t n, bool want_logits) {
    const uint32_t n_layers = model_->config.n_layers;
    const auto layers = static_cast<uint32_t>(std::clamp(kSubmitWork / layer_work(model_->config, first, n), 1.0, 1e6));
    cache_->will_write(first, n);
    for (uint32_t layer = 0, i = 0; layer < n_layers; layer += layers, i++) {
        vk::Commands& commands = batch_commands_[i % batch_commands_.size()];
        commands.begin();
        if (layer == 0) record_tokens(commands, first, n);
        const uint32_t end = std::min(layer + layers, n_layers);
        record_forward(commands, *model_, activations_, *cache_, n, layer, end, want_logits && end == n_layers);
        if (end == n_layers) record_expert_counts(commands, kAhead);
        commands.end();
        check_cancelled();
        commands.submit();
    }
    for (vk::Commands& commands : batch_commands_) commands.wait();
    hand_in_expert_counts(kAhead);
}

void Context::record_expert_counts(vk::Commands& commands, uint32_t index) const {
    if (const ExpertCache* experts = model_->weights.expert_cache())
        experts->record_counts(commands, expert_counts_, index * experts->counts_bytes());
}

void Context::hand_in_expert_counts(uint32_t index) const {
    ExpertCache* experts = model_->weights.expert_cache();
    if (!experts) return;
    const uint64_t n = experts->counts_bytes() / 4;
    experts->hand_in({expert_counts_.as<const uint32_t>() + index * n, n});
}

void Context::record_tokens(vk::Commands& commands, uint32_t first, uint32_t n) {
    auto* staged = token_staging_.as<args::Token>();
    for (uint32_t i = 0; i < n; i++) staged[i] = {tokens_[first + i], first + i, 0, 0};
    commands.barrier();
    commands.copy(token_staging_, 0, activations_.tokens, 0, n * sizeof(args::Token));
}

std::vector<vk::KernelTime> Context::profile(uint32_t n, const SamplerSettings& settings) {
    if (n == 0 || n > std::min<size_t>(max_batch_, tokens_.size()))
        throw Error(Status::InvalidArgument, "cannot profile a batch of " + std::to_string(n) + ": the context holds " +
                                                 std::to_string(tokens_.size()) + " tokens, a batch " +
                                                 std::to_string(max_batch_));
    process();
    const auto end = static_cast<uint32_t>(tokens_.size());
    go_back(end - n);
    compute_until(end - n);
    vk::Commands commands(model_->device, model_->pipelines);
    commands.enable_profile();
    cache_->will_write(end - n, n);
    commands.begin();
    record_tokens(commands, end - n, n);
    record_forward(commands, *model_, activations_, *cache_, n, 0, model_->config.n_layers, true);
    commands.finish();
    computed_ = tokens_;
    logits_of_ = end;
    std::vector<vk::KernelTime> times = commands.profile();
    commands.begin();
    record_first_draw(commands, settings);
    commands.finish();
    for (vk::KernelTime& time : commands.profile()) times.push_back(std::move(time));
    return times;
}

void Context::read_logits(std::span<float> out) {
    process();
    const uint64_t size = model_->config.vocab * 4ull;
    commands_.begin();
    commands_.barrier();
    commands_.copy(activations_.logits, 0, logits_staging_, 0, size);
    commands_.finish();
    if (!out.empty()) std::memcpy(out.data(), logits_staging_.data(), std::min<uint64_t>(out.size() * 4, size));
}

StopReason Context::generate(const GenerateRequest& request, uint64_t* n_tokens) {
    *n_tokens = 0;
    process();
    const uint64_t room = max_tokens_ - tokens_.size();
    if (room == 0) return StopReason::ContextFull;
    const bool bounded = request.max_tokens != 0 && request.max_tokens <= room;
    StopReason reason = bounded ? StopReason::MaxTokens : StopReason::ContextFull;
    try {
        run_steps(request, bounded ? request.max_tokens : room, n_tokens, &reason);
    } catch (...) {
        drain();
        throw;
    }
    return reason;
}

// Draw 0 takes the logits that process() left; draw i > 0 is step i, which first computes the token of draw i - 1.
void Context::run_steps(const GenerateRequest& request, uint64_t limit, uint64_t* n_tokens, StopReason* reason) {
    const auto base = static_cast<uint32_t>(tokens_.size());
    uint64_t submitted = 0, received = 0;
    bool stop = false;
    logits_of_ = 0;
    while (!stop && received < limit) {
        check_cancelled();
        for (; submitted < limit && submitted < received + kAhead; submitted++) {
            const auto position = static_cast<uint32_t>(base + submitted);
            if (submitted == 0) {
                submit_first_draw(request.settings);
                continue;
            }
            if (!cache_->holds(position - 1, position)) {
                if (submitted > received) break;  // the cache grows once no step is in flight
                cache_->reserve(position - 1, position);
            }
            cache_->will_write(position - 1, 1);
            submit_step(static_cast<uint32_t>(submitted % kAhead), request.settings);
        }
        (received == 0 ? commands_ : *steps_[received % kAhead].commands).wait();
        if (received > 0) computed_.push_back(tokens_.back());
        const uint32_t token = sampler_.drawn(static_cast<uint32_t>(base + received));
        tokens_.push_back(token);
        *n_tokens = ++received;
        if (std::find(request.stop_tokens.begin(), request.stop_tokens.end(), token) != request.stop_tokens.end()) {
            *reason = StopReason::StopToken;
            stop = true;
        }
        if (request.on_token && request.on_token(token) && !stop) {
            *reason = StopReason::Callback;
            stop = true;
        }
        if (received > 1) hand_in_expert_counts(static_cast<uint32_t>((received - 1) % kAhead));
    }
    for (uint64_t i = received; i < submitted; i++) steps_[i % kAhead].commands->wait();
    // steps that ran on past the last token: the first of them computed it
    if (submitted > received) computed_.push_back(tokens_.back());
    if (submitted == received + 1) logits_of_ = computed_.size();
}

void Context::submit_first_draw(const SamplerSettings& settings) {
    commands_.begin();
    record_first_draw(commands_, settings);
    commands_.end();
    commands_.submit();
}

void Context::record_first_draw(vk::Commands& commands, const SamplerSettings& settings) {
    commands.barrier();
    *token_staging_.as<args::Token>() = {tokens_.back(), static_cast<uint32_t>(tokens_.size() - 1), 0, 0};
    commands.copy(token_staging_, 0, activations_.tokens, 0, sizeof(args::Token));
    if (settings.penalizes()) sampler_.record_counts(commands, tokens_, answer_start_);
    commands.barrier();
    sampler_.record(commands, settings, activations_.logits.address(), activations_.tokens.address());
}

void Context::submit_step(uint32_t index, const SamplerSettings& settings) {
    Step& step = steps_[index];
    if (!step.commands || step.settings != settings) {
        auto commands = std::make_unique<vk::Commands>(model_->device, model_->pipelines);
        commands->begin();
        record_forward(*commands, *model_, activations_, *cache_, 1, 0, model_->config.n_layers, true);
        commands->barrier();
        sampler_.record(*commands, settings, activations_.logits.address(), activations_.tokens.address());
        record_expert_counts(*commands, index);
        commands->end();
        step = {std::move(commands), settings};
    }
    step.commands->submit();
}

StateHeader Context::state_header(const StateShape& shape) const {
    StateHeader header = new_state_header(shape);
    header.n_tokens = static_cast<uint32_t>(tokens_.size());
    header.answer_start = static_cast<uint32_t>(answer_start_);
    const auto n_computed = static_cast<uint32_t>(computed_.size());
    if (!cache_->has_window(n_computed)) return header;  // what a failure left behind: all is computed again
    header.n_computed = n_computed;
    header.logits_of = static_cast<uint32_t>(logits_of_);
    header.ring_first = cache_->ring_first();
    for (const uint32_t position : cache_->snapshot_positions(n_computed))
        header.snapshots[header.n_snapshots++] = position;
    return header;
}

uint64_t Context::state_size() const {
    const StateShape shape = cache_->state_shape();
    return StateLayout(shape, state_header(shape)).size;
}

void Context::save(std::span<std::byte> state) const {
    const StateShape shape = cache_->state_shape();
    const StateHeader header = state_header(shape);
    const StateLayout layout(shape, header);
    const auto put = [&](uint64_t at, const void* from, uint64_t size) {
        if (size > 0) std::memcpy(state.data() + at, from, size);
    };
    put(0, &header, sizeof header);
    put(layout.tokens, tokens_.data(), header.n_tokens * 4ull);
    put(layout.computed, computed_.data(), header.n_computed * 4ull);
    vk::Transfer transfer(model_->device, model_->pipelines, vk::Memory::Readback, layout.size);
    transfer.read(activations_.logits, 0, layout.cache - layout.logits, state.data() + layout.logits);
    for (const KvCache::Piece& piece : cache_->pieces(header.n_computed, header.ring_first))
        transfer.read(*piece.buffer, piece.offset, piece.size, state.data() + layout.cache + piece.at);
    transfer.finish();
    seal_state(state);
}

void Context::restore(std::span<const std::byte> bytes) {
    State state = parse_state(bytes, cache_->state_shape());
    const StateHeader& header = state.header;
    if (std::max(header.n_tokens, header.n_computed) > max_tokens_)
        throw Error(Status::ContextOverflow, "the saved state has " +
                                                 std::to_string(std::max(header.n_tokens, header.n_computed)) +
                                                 " tokens; the context holds at most " + std::to_string(max_tokens_));
    auto cache = std::make_unique<KvCache>(*model_, max_tokens_, max_batch_);
    cache->begin_restore(header.n_computed, header.ring_first, std::span(header.snapshots).first(header.n_snapshots));
    logits_of_ = 0;  // of the context as it was: they are computed again if this fails
    vk::Transfer transfer(model_->device, model_->pipelines, vk::Memory::Upload, bytes.size());
    transfer.write(activations_.logits, 0, state.logits.size(), state.logits.data());
    for (const KvCache::Piece& piece : cache->pieces(header.n_computed, header.ring_first))
        transfer.write(*piece.buffer, piece.offset, piece.size, state.cache.data() + piece.at);
    transfer.finish();
    for (Step& step : steps_) step = {};  // they name the old cache
    cache_ = std::move(cache);
    tokens_ = std::move(state.tokens);
    computed_ = std::move(state.computed);
    logits_of_ = header.logits_of;
    answer_start_ = header.answer_start;
}

void Context::drain() noexcept {
    const auto wait = [](vk::Commands& commands) {
        try {
            commands.wait();
        } catch (...) {
            // the error that led here is the one to report
        }
    };
    wait(commands_);
    for (vk::Commands& commands : batch_commands_) wait(commands);
    for (Step& step : steps_)
        if (step.commands) wait(*step.commands);
}

}  // namespace gptoss::model
