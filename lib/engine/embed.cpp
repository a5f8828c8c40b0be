#include "engine/embed.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>

#include "base/error.h"
#include "engine/engine.h"

namespace gptoss::model {

namespace {

// A text on its way: its timeline, and the sum over the states that are pooled.
struct Text {
    Text(const std::shared_ptr<const Model>& model, std::span<const uint32_t> tokens, Pooling pooling)
        : sequence(model, tokens.size(), 0), sum(model->config.hidden) {
        sequence.append(tokens);
        Tap tap{.kinds = kTapFinal, .layers = std::vector<bool>(model->config.n_layers)};
        if (pooling == Pooling::Last) tap.first_position = static_cast<uint32_t>(tokens.size()) - 1;
        tap.on_tapped = [this](const Tapped& state) {
            for (size_t i = 0; i < sum.size(); i++) sum[i] += state.values[i];
            n++;
        };
        sequence.set_tap(std::move(tap));
    }
    Text(const Text&) = delete;

    void write(bool normalize, float* out) const {
        double divisor = n;
        if (normalize) {
            double squares = 0;
            for (const double x : sum) squares += x * x;
            divisor = squares > 0 ? std::sqrt(squares) : 1;
        }
        for (const double x : sum) *out++ = static_cast<float>(x / divisor);
    }

    Sequence sequence;
    std::vector<double> sum;  // (hidden)
    uint32_t n = 0;
};

}  // namespace

void embed(const std::shared_ptr<const Model>& model, std::span<const std::span<const uint32_t>> texts, Pooling pooling,
           bool normalize, float* out) {
    const uint32_t batch =
        checked_max_batch(model->config, model->tuning, model->device.info(), model->config.max_context, 0);
    for (size_t begin = 0, end = 0; begin < texts.size(); begin = end) {
        // as many as fill a batch: more would take memory for their keys and values while they wait
        std::deque<Text> group;
        std::vector<Job> jobs;
        size_t n_tokens = 0;
        for (; end < texts.size() && jobs.size() < Engine::kMaxRows; end++) {
            if (end > begin && n_tokens + texts[end].size() > batch) break;
            n_tokens += texts[end].size();
            try {
                if (texts[end].empty()) throw Error(Status::InvalidArgument, "it has no token");
                group.emplace_back(model, texts[end], pooling);
            } catch (const Error& e) {
                throw Error(e.status(), "text " + std::to_string(end) + ": " + e.what());
            }
            jobs.push_back({.sequence = &group.back().sequence, .wants_logits = false});
        }
        model->engine->make_room(static_cast<uint32_t>(std::min<size_t>(n_tokens, batch)));
        model->engine->run(jobs);
        for (const Job& job : jobs)
            if (job.error) throw Error(*job.error);
        for (const Text& text : group) {
            text.write(normalize, out);
            out += model->config.hidden;
        }
    }
}

void unembed(const Model& model, std::span<const float> states, float* out) {
    constexpr size_t kMostStates = 16;  // at once, whose logits are 13 MB for 200,000 tokens
    const size_t hidden = model.config.hidden, n = states.size() / hidden;
    std::optional<Unembedding> unembedding;
    while (!unembedding) try {
            unembedding.emplace(model, static_cast<uint32_t>(std::min(n, kMostStates)));
        } catch (...) {
            if (Error::current().status() != Status::InsufficientMemory || !model.engine->prefixes().evict()) throw;
        }
    for (size_t i = 0; i < n; i += kMostStates, out += kMostStates * model.config.vocab)
        unembedding->run(states.subspan(i * hidden, std::min(kMostStates, n - i) * hidden), out);
}

}  // namespace gptoss::model
