// Prompts: which are computed next, in batches, and the first draw after each.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "engine/engine.h"

namespace gptoss::model {

namespace {

constexpr double kSubmitWork = 5e10;  // multiply-adds of a submit: a quarter of a second on a slow laptop's GPU

// Multiply-adds of a layer for n tokens, the last of them at position `last`.
double layer_work(const io::Config& c, uint32_t last, uint32_t n) {
    const double attention_rows = c.qkv_rows() + 1.0 * HEAD_DIM * c.n_heads;
    const double experts = 3.0 * c.n_active_experts * c.intermediate;
    const double keys = 2.0 * HEAD_DIM * c.n_heads * (last + 1.0);
    return n * (c.hidden * (attention_rows + experts) + keys);
}

}  // namespace

// The prompt whose last turn was first, and whole rests of others as far as they fit beside it.
std::vector<Engine::Piece> Engine::choose_prompts() {
    std::vector<Job*> waiting;
    for (Job* job : jobs_)
        if (job->phase == Job::Phase::Prompt && !job->ended && job->tapped.empty() &&
            (!job->request || job->submitted < job->limit))
            waiting.push_back(job);
    std::stable_sort(waiting.begin(), waiting.end(), [](const Job* a, const Job* b) { return a->turn < b->turn; });
    std::vector<Piece> pieces;
    uint32_t room = workspace_->activations.max_batch;
    for (Job* job : waiting) {
        Sequence& s = *job->sequence;
        const auto first = static_cast<uint32_t>(s.computed_.size());
        const uint32_t rest = job->end - first;
        const uint32_t n = tapped_room(*job, first, std::min({rest, s.max_batch_, room}));
        if (!pieces.empty() && n < rest) continue;
        const uint32_t* tokens = job->forced.empty() ? s.tokens_.data() + first : &job->forced[first - job->first];
        pieces.push_back({&s, first, n, job, n == rest && job->wants_logits, tokens});
        room -= n;
        if (room == 0 || pieces.size() == kMaxRows) break;
    }
    turn_++;
    for (const Piece& piece : pieces) piece.job->turn = turn_;
    return pieces;
}

void Engine::compute_prompts(Lock& lock, std::vector<Piece> pieces) {
    try {
        // rows are drawn, then only computed, then of prompts that go on
        const auto kind = [](const Piece& p) { return !p.last ? 2 : p.job->request ? 0 : 1; };
        std::stable_sort(pieces.begin(), pieces.end(),
                         [&](const Piece& a, const Piece& b) { return kind(a) < kind(b); });
        const auto n_logits = std::count_if(pieces.begin(), pieces.end(), [](const Piece& p) { return p.last; });
        set_room(0, static_cast<uint32_t>(n_logits));
        std::shared_ptr<const Taps> taps;
        try {
            taps = taps_of(pieces);
        } catch (...) {
            // whoever asks for too much ends alone; the others are chosen again
            for (const Piece& p : pieces)
                if (p.sequence->tap_) end(*p.job, Error::current());
            return;
        }
        for (const Piece& p : pieces) p.sequence->pages_.will_write(p.first, p.n);
        write_masks(pieces);
        lock.unlock();
        run_batch(pieces, taps.get());
        std::vector<Job*> jobs, drawn;
        for (const Piece& p : pieces) {
            jobs.push_back(p.job);
            if (kind(p) == 0) drawn.push_back(p.job);
        }
        read_logits(drawn);
        lock.lock();
        deliver_tapped(jobs, taps);
        for (uint32_t row = 0; row < pieces.size(); row++) {
            const Piece& p = pieces[row];
            Sequence& s = *p.sequence;
            Job& job = *p.job;
            s.computed_.insert(s.computed_.end(), p.tokens, p.tokens + p.n);
            s.prompt_tokens_computed_ += std::min(p.first + p.n, std::max(p.first, job.prompt)) - p.first;
            if (!job.wants_logits) {
                if (p.first + p.n == job.end) end(job);
                continue;
            }
            keep_prompt(p);
            if (!p.last || job.ended) continue;
            if (job.request) {
                const bool forced = !job.forced.empty();
                job.submitted++;
                receive_drawn(job, row, job.end);
                if (!forced) continue;
                s.drafts_.forget();  // the forced tokens were no steps
                s.drafts_.add(s.computed_, job.token);
            } else {
                const std::span<const float> all = logits(row);
                s.logits_ = std::make_shared<std::vector<float>>(all.begin(), all.end());
                s.logits_of_ = job.end;  // last: a call that fails has to fail again on a device that stays lost
                end(job);
            }
        }
    } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        abandon();
        for (const Piece& p : pieces)
            if (!p.job->ended) end(*p.job, Error::current());
    }
}

// In several submits where the work is long: a display's GPU resets a job of more than about two seconds.
void Engine::run_batch(std::span<const Piece> pieces, const Taps* taps) {
    const uint32_t n_layers = network_.config.n_layers;
    const Activations& a = workspace_->activations;
    const Sampler& sampler = workspace_->sampler;
    uint32_t n = 0, n_logits = 0;
    double work = 0;  // of a layer
    std::vector<Sampler::Row> drawn;
    for (const Piece& p : pieces) {
        n += p.n;
        n_logits += p.last;
        work += layer_work(network_.config, p.first + p.n - 1, p.n);
        if (p.last && p.job && p.job->request) drawn.push_back(sampler_row(*p.job));
    }
    const auto n_drawn = static_cast<uint32_t>(drawn.size());
    const auto layers = static_cast<uint32_t>(std::clamp(kSubmitWork / work, 1.0, 1e6));
    rows_.clear();
    step_received_.reset();
    for (uint32_t layer = 0, i = 0; layer < n_layers; layer += layers, i++) {
        vk::Commands& commands = batch_commands_[i % batch_commands_.size()];
        commands.begin();
        if (layer == 0) {
            record_tokens(commands, pieces);
            if (n_drawn > 0) sampler.record_rows(commands, drawn);
        }
        const uint32_t end = std::min(layer + layers, n_layers);
        record_forward(commands, network_, a, workspace_->tables, n, layer, end, end == n_layers ? n_logits : 0,
                       lora_batch(), taps);
        if (end == n_layers) {
            if (n_logits > 0) commands.barrier();
            if (n_drawn > 0) sampler.record(commands, n_drawn, a.logits.address(), a.tokens.address());
            const uint64_t row_bytes = Sampler::counts_bytes(network_.config);
            if (n_logits > n_drawn)
                commands.copy(a.logits, n_drawn * row_bytes, workspace_->logits, n_drawn * row_bytes,
                              (n_logits - n_drawn) * row_bytes);
            record_expert_counts(commands, kAhead);
        }
        commands.end();
        // as soon as nobody waits for it any more
        if (std::all_of(pieces.begin(), pieces.end(), [](const Piece& p) { return p.sequence->cancelled_.load(); })) {
            for (const Piece& p : pieces) p.sequence->cancelled_ = false;
            throw Error(Status::Cancelled, "cancelled");
        }
        commands.submit();
    }
    for (vk::Commands& commands : batch_commands_) commands.wait();
    hand_in_expert_counts(kAhead);
}

// The tokens of a batch: first those whose logits are wanted, in the order of their pieces. Returns how many there are.
uint32_t Engine::record_tokens(vk::Commands& commands, std::span<const Piece> pieces) {
    std::vector<args::Token> last, others;
    commands.barrier();
    std::vector<const Sequence*> sequences;
    for (const Piece& p : pieces) sequences.push_back(p.sequence);
    record_adapters(commands, sequences);
    for (const Piece& p : pieces) {
        const uint32_t sequence = workspace_->tables.sequence(table_of(commands, p.sequence->pages_));
        const uint32_t adapter = adapter_of(*p.sequence);
        for (uint32_t i = p.first; i < p.first + p.n; i++) {
            const bool is_last = p.last && i + 1 == p.first + p.n;
            (is_last ? last : others).push_back({p.tokens[i - p.first], i, sequence, adapter});
        }
    }
    last.insert(last.end(), others.begin(), others.end());
    commands.update(workspace_->activations.tokens, 0, last.data(), last.size() * sizeof(args::Token));
    return static_cast<uint32_t>(last.size());
}

// From logits that are known.
void Engine::draw(Job& job) {
    try {
        set_room(0, 1);
        const Activations& a = workspace_->activations;
        rows_.clear();
        std::memcpy(workspace_->logits.data(), job.sequence->logits_->data(), network_.config.vocab * 4ull);
        const args::Token token{job.token, job.position, 0, 0};
        const Sampler::Row row = sampler_row(job);
        keep_start(*job.sequence, job.end);
        commands_.begin();
        commands_.barrier();
        commands_.copy(workspace_->logits, 0, a.logits, 0, network_.config.vocab * 4ull);
        commands_.update(a.tokens, 0, &token, sizeof token);
        workspace_->sampler.record_rows(commands_, {&row, 1});
        commands_.barrier();
        workspace_->sampler.record(commands_, 1, a.logits.address(), a.tokens.address());
        if (job.grammar) write_mask(0, job);
        commands_.finish();
        Job* const jobs[] = {&job};
        read_logits(jobs);
        job.submitted++;
        receive_drawn(job, 0, job.end);
    } catch (...) {
        abandon();
        end(job, Error::current());
    }
}

std::vector<TokenLogprobs> Engine::logprobs(Sequence& s, uint32_t first, uint32_t end, uint32_t n_top) {
    std::vector<TokenLogprobs> out;
    const auto compute = [&] {
        set_room(s.max_batch_, std::min(kMaxRows, end - first), s.adapter_.use());
        uint32_t done = go_to(s, first - 1);
        s.pages_.reserve(done, end - 1);
        while (done < end - 1) {
            // a token whose logits are wanted is a piece of its own
            const bool wanted = done >= first - 1;
            const uint32_t n = wanted ? std::min({end - 1 - done, s.max_batch_, workspace_->activations.max_rows})
                                      : std::min(first - 1 - done, s.max_batch_);
            std::vector<Piece> pieces;
            for (uint32_t i = done; i < done + n; i += pieces.back().n)
                pieces.push_back({&s, i, wanted ? 1 : n, nullptr, wanted, s.tokens_.data() + i});
            s.pages_.will_write(done, n);
            run_batch(pieces);
            s.computed_.insert(s.computed_.end(), s.tokens_.begin() + done, s.tokens_.begin() + done + n);
            for (uint32_t row = 0; wanted && row < n; row++)
                out.push_back(model_logprobs(logits(row), s.tokens_[done + row + 1], n_top));
            done += n;
        }
    };
    Job job{.alone = [&] {
        try {
            compute();
        } catch (...) {
            abandon();
            throw;
        }
    }};
    run({&job, 1});
    if (job.error) throw Error(*job.error);
    return out;
}

std::vector<vk::KernelTime> Engine::profile(Sequence& s, uint32_t n, const SamplerSettings& settings) {
    std::vector<vk::KernelTime> times;
    const auto run_timed = [&] {
        const auto end = static_cast<uint32_t>(s.tokens_.size());
        uint32_t done = go_to(s, end - n);
        s.pages_.reserve(done, end);
        const auto take = [&](uint32_t first, uint32_t count) {
            s.pages_.will_write(first, count);
            return Piece{&s, first, count, nullptr, first + count == end, s.tokens_.data() + first};
        };
        for (; done < end - n; done = static_cast<uint32_t>(s.computed_.size())) {
            const Piece piece = take(done, std::min(end - n - done, s.max_batch_));
            run_batch({&piece, 1});
            s.computed_.insert(s.computed_.end(), s.tokens_.begin() + done, s.tokens_.begin() + done + piece.n);
        }
        const Activations& a = workspace_->activations;
        const Piece piece = take(end - n, n);
        const Page counts = counts_of(s, settings);
        const Sampler::Row row{settings, counts ? counts->address() : 0};
        vk::Commands commands(network_.device, network_.pipelines);
        commands.enable_profile();
        rows_.clear();
        commands.begin();
        record_tokens(commands, {&piece, 1});
        workspace_->sampler.record_rows(commands, {&row, 1});
        record_forward(commands, network_, a, workspace_->tables, n, 0, network_.config.n_layers, 1, lora_batch());
        commands.finish();
        s.computed_ = s.tokens_;
        times = commands.profile();
        commands.begin();
        commands.barrier();
        workspace_->sampler.record(commands, 1, a.logits.address(), a.tokens.address());
        commands.finish();
        for (vk::KernelTime& time : commands.profile()) times.push_back(std::move(time));
    };
    Job job{.alone = [&] {
        try {
            run_timed();
        } catch (...) {
            abandon();
            throw;
        }
    }};
    run({&job, 1});
    if (job.error) throw Error(*job.error);
    return times;
}

}  // namespace gptoss::model
