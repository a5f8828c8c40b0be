#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "soak.h"

namespace gptoss::test {

namespace {

constexpr size_t kTimelines = 24, kAnswer = 40;

using Tokens = std::vector<uint32_t>;

std::atomic<uint64_t> generations{0}, n_tokens{0};

// A prompt, and what a context alone answers to it. Draws depend on the seed and the position, so that a context that
// holds any beginning of it with the prompt's end goes on to the rest of it.
struct Timeline {
    Tokens tokens;
    size_t n_prompt;
    gptoss_sampler_t sampler;  // no penalty of it depends on where the answer begins
};

std::vector<Timeline> make_timelines(gptoss_model_t model, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<Timeline> timelines(kTimelines);
    gptoss_context_t context = nullptr;
    must(gptoss_context_create(model, 0, 0, &context), "create");
    for (size_t i = 0; i < kTimelines; i++) {
        Timeline& t = timelines[i];
        t.n_prompt = i == 0 ? 600 : 1 + random() % 40;  // one of more than a segment
        for (size_t k = 0; k < t.n_prompt; k++) t.tokens.push_back(static_cast<uint32_t>(random() % kVocabulary));
        must(gptoss_sampler_create(&t.sampler), "sampler");
        must(gptoss_sampler_set_seed(t.sampler, random()), "sampler");
        if (i % 4 == 0) must(gptoss_sampler_set_temperature(t.sampler, 0), "sampler");
        if (i % 4 == 1) must(gptoss_sampler_set_top_p(t.sampler, 0.9f), "sampler");
        if (i % 4 == 2) must(gptoss_sampler_set_repetition_penalty(t.sampler, 1.2f), "sampler");
        must(gptoss_context_reset(context), "reset");
        must(gptoss_context_append_tokens(context, t.n_prompt, t.tokens.data()), "append");
        static const uint32_t none = 0;
        gptoss_generate_options options{};
        options.struct_size = sizeof options;
        options.max_tokens = kAnswer;
        options.stop_tokens = &none;
        must(gptoss_context_generate(context, t.sampler, &options, nullptr, nullptr), "generate");
        t.tokens.resize(t.n_prompt + kAnswer);
        size_t n = 0;
        must(gptoss_context_get_tokens(context, t.tokens.data(), t.tokens.size(), &n), "get_tokens");
    }
    must(gptoss_context_release(context), "release");
    return timelines;
}

// A context that holds the first tokens of a timeline.
struct Place {
    gptoss_context_t context = nullptr;
    const Timeline* timeline = nullptr;
    size_t n = 0;
};

class Generator {
  public:
    Generator(gptoss_model_t model, const std::vector<Timeline>& timelines, Targets& targets, size_t index,
              uint64_t seed)
        : timelines_(timelines), targets_(targets), index_(index), random_(seed) {
        const size_t batches[] = {0, 7, 64};
        for (Place& place : places_) {
            must(gptoss_context_create(model, 0, batches[below(3)], &place.context), "create");
            go_elsewhere(place);
        }
    }
    ~Generator() {
        targets_.set(index_, nullptr);
        for (Place& place : places_) must(gptoss_context_release(place.context), "release");
    }
    Generator(const Generator&) = delete;

    void run(std::atomic<int64_t>& left) {
        while (left > 0) {
            Place& place = places_[below(2)];
            targets_.set(index_, place.context);
            switch (below(8)) {
                case 0:
                    go_elsewhere(place);
                    break;
                case 1:
                    go_back(place, below(place.n + 1));
                    break;
                case 2:
                    fork(place);
                    break;
                case 3:
                    if ((left -= 2) >= 0) generate({&places_[0], &places_[1]});
                    break;
                default:
                    if (left-- > 0) generate({&place});
            }
        }
    }

  private:
    size_t below(size_t n) { return random_() % n; }

    void append(Place& place, size_t end) {
        must(gptoss_context_append_tokens(place.context, end - place.n, place.timeline->tokens.data() + place.n),
             "append");
        place.n = end;
    }

    // To a place in another timeline.
    void go_elsewhere(Place& place) {
        must(gptoss_context_reset(place.context), "reset");
        place.timeline = &timelines_[below(timelines_.size())];
        place.n = 0;
        append(place, place.timeline->n_prompt + below(kAnswer));
    }

    // To an earlier place, within the prompt too, whose rest then comes again.
    void go_back(Place& place, size_t n) {
        place.n = n;
        must(gptoss_context_truncate(place.context, place.n), "truncate");
        if (place.n < place.timeline->n_prompt) append(place, place.timeline->n_prompt);
    }

    // The fork takes the other place.
    void fork(Place& place) {
        Place& other = &place == &places_[0] ? places_[1] : places_[0];
        must(gptoss_context_release(other.context), "release");
        other = {nullptr, place.timeline, place.n};
        must(gptoss_context_fork(place.context, &other.context), "fork");
    }

    void generate(std::vector<Place*> places) {
        static const uint32_t none = 0;
        std::vector<gptoss_generate_options> options(places.size());
        std::vector<gptoss_generation> all(places.size());
        for (size_t i = 0; i < places.size(); i++) {
            Place& place = *places[i];
            if (place.n == place.timeline->tokens.size()) go_back(place, below(place.n));
            options[i].struct_size = sizeof options[i];
            options[i].max_tokens = 1 + below(std::min<size_t>(8, place.timeline->tokens.size() - place.n));
            options[i].stop_tokens = &none;
            if (below(3) == 0) options[i].callback = [](void*, uint32_t) { return 0; };
            all[i] = {.struct_size = sizeof all[i],
                      .context = place.context,
                      .sampler = place.timeline->sampler,
                      .options = &options[i]};
        }
        if (places.size() == 1) {
            all[0].status = gptoss_context_generate(all[0].context, all[0].sampler, all[0].options, &all[0].num_tokens,
                                                    &all[0].stop_reason);
        } else {
            gptoss_generate_together(all.data(), all.size());
        }
        generations += places.size();
        for (size_t i = 0; i < places.size(); i++) check(*places[i], all[i]);
    }

    // A cancelled one has the first of its tokens.
    void check(Place& place, const gptoss_generation& g) {
        if (g.status == gptoss_status_cancelled)
            cancelled++;
        else if (g.status != gptoss_status_success)
            wrong(std::string("generate: ") + gptoss_status_string(g.status));
        else if (g.num_tokens != g.options->max_tokens)
            wrong("too few tokens");
        place.n += g.num_tokens;
        n_tokens += g.num_tokens;
        Tokens tokens(place.n);
        size_t n = 0;
        must(gptoss_context_get_tokens(place.context, tokens.data(), tokens.size(), &n), "get_tokens");
        if (n != place.n || place.n > place.timeline->tokens.size() ||
            !std::equal(tokens.begin(), tokens.end(), place.timeline->tokens.begin())) {
            wrong("other tokens than alone");
            go_elsewhere(place);
        }
    }

    const std::vector<Timeline>& timelines_;
    Targets& targets_;
    const size_t index_;
    std::mt19937_64 random_;
    Place places_[2];
};

}  // namespace

void many_generations(gptoss_model_t model, uint64_t count, size_t n_threads, uint64_t seed) {
    const std::vector<Timeline> timelines = make_timelines(model, seed);
    std::atomic<int64_t> left{static_cast<int64_t>(count)};
    Targets targets;
    std::vector<std::thread> threads;
    for (size_t i = 0; i < n_threads; i++)
        threads.emplace_back([&, i] { Generator(model, timelines, targets, i, seed + i).run(left); });
    std::mt19937_64 random(seed);
    for (uint64_t cancels = 0; left > 0;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        for (; cancels < generations / 6; cancels++) targets.cancel_one(random);
    }
    for (std::thread& thread : threads) thread.join();
    std::printf("%llu generations of %llu tokens, %llu of them cancelled\n",
                static_cast<unsigned long long>(generations), static_cast<unsigned long long>(n_tokens),
                static_cast<unsigned long long>(cancelled));
    for (const Timeline& t : timelines) must(gptoss_sampler_release(t.sampler), "sampler");
}

}  // namespace gptoss::test
