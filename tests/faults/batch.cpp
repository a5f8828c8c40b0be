#include "batch.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>

#include "script.h"

namespace gptoss::test {

// One context a member, each of which is to get its tokens.
class Batch::Contexts {
  public:
    explicit Contexts(const Batch& batch) : members_(batch.members_) {
        for (const Member& m : members_) {
            Entry& e = entries_.emplace_back();
            must(gptoss_context_create(batch.model_, 1000, 16, &e.context), "create");
            must(gptoss_context_append_tokens(e.context, m.prompt.size(), m.prompt.data()), "append");
            must(gptoss_sampler_create(&e.sampler), "sampler");
            must(gptoss_sampler_set_seed(e.sampler, m.seed), "sampler");
            if (m.seed % 2) must(gptoss_sampler_set_repetition_penalty(e.sampler, 1.3f), "sampler");
        }
        for (Entry& e : entries_) e.all = this;  // where it stays
    }
    ~Contexts() {
        for (const Entry& e : entries_) {
            in_library([&] { return gptoss_context_release(e.context); });
            gptoss_sampler_release(e.sampler);
        }
    }
    Contexts(const Contexts&) = delete;

    // Generates what is missing of each.
    gptoss_status generate() {
        static const uint32_t none = 0;
        generations_.clear();
        running_.clear();
        for (size_t i = 0; i < entries_.size(); i++) {
            Entry& e = entries_[i];
            const Member& m = members_[i];
            e.begin = tokens_of(e.context).size();
            e.received.clear();
            const size_t done = e.begin - m.prompt.size();
            if (done >= m.max_tokens) continue;
            e.options = {.struct_size = sizeof e.options,
                         .max_tokens = m.max_tokens - done,
                         .stop_tokens = &none,
                         .callback = m.has_callback ? on_token : nullptr,
                         .user_data = &e};
            running_.push_back(i);
            generations_.push_back({.struct_size = sizeof(gptoss_generation),
                                    .context = e.context,
                                    .sampler = e.sampler,
                                    .options = &e.options});
        }
        return in_library([&] { return gptoss_generate_together(generations_.data(), generations_.size()); });
    }

    // Takes back cancels that came once their context had all of its tokens.
    void clear_cancels() const {
        for (const Entry& e : entries_) must(gptoss_context_clear_cancel(e.context), "clear_cancel");
    }

    std::vector<uint32_t> tokens(size_t i) const { return tokens_of(entries_[i].context); }
    std::vector<float> logits(size_t i) const {
        std::vector<float> logits(kVocabulary);
        size_t n = 0;
        must(gptoss_context_get_logits(entries_[i].context, logits.data(), logits.size(), &n), "get_logits");
        return logits;
    }

    // The outcomes of the last call, by the indices of their members.
    const std::vector<size_t>& running() const { return running_; }
    const std::vector<gptoss_generation>& generations() const { return generations_; }
    const std::vector<uint32_t>& received(size_t i) const { return entries_[i].received; }
    size_t begin(size_t i) const { return entries_[i].begin; }

    uint64_t calls = 0;  // of callbacks
    Deed deed = Deed::None;
    uint64_t at = 0;

  private:
    struct Entry {
        Contexts* all = nullptr;
        gptoss_context_t context = nullptr;
        gptoss_sampler_t sampler = nullptr;
        gptoss_generate_options options = {};
        size_t begin = 0;  // tokens that it had before the call
        std::vector<uint32_t> received = {};
    };

    static int on_token(void* data, uint32_t token) {
        const inject::InTest scope;
        Entry& e = *static_cast<Entry*>(data);
        e.received.push_back(token);
        if (++e.all->calls != e.all->at) return 0;
        const size_t i = static_cast<size_t>(&e - e.all->entries_.data());
        if (e.all->deed == Deed::Throw) throw std::runtime_error("the callback's own");
        if (e.all->deed == Deed::CancelAnother)
            gptoss_context_cancel(e.all->entries_[(i + 1) % e.all->entries_.size()].context);
        return 0;
    }

    const std::vector<Member>& members_;
    std::vector<Entry> entries_;
    std::vector<gptoss_generation> generations_;
    std::vector<size_t> running_;
};

Batch::Batch(gptoss_model_t model, uint64_t seed, inject::Kind counted) : model_(model) {
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t n) { return random() % n; };
    members_.resize(2 + below(kMost - 1));
    for (size_t i = 0; i < members_.size(); i++) {
        Member& m = members_[i];
        m.prompt.resize(1 + below(below(2) ? 70 : 8));
        for (uint32_t& token : m.prompt) token = static_cast<uint32_t>(below(kVocabulary));
        m.seed = random();
        m.max_tokens = 1 + below(8);
        m.has_callback = i == 0 || below(2);
    }
    for (;;) {
        const int64_t live = inject::live_objects();
        inject::arm(counted, 0);
        {
            Contexts contexts(*this);
            must(contexts.generate(), "generate_together");
            opportunities_ = inject::disarm();
            callbacks_ = contexts.calls;
            for (size_t i = 0; i < members_.size(); i++) {
                members_[i].tokens = contexts.tokens(i);
                members_[i].logits = contexts.logits(i);
            }
        }
        // once more if the model built kernels, which it keeps: the next run has fewer opportunities
        if (inject::live_objects() == live) return;
    }
}

void Batch::run(Row& r, const std::function<bool()>& fired, const std::function<bool(gptoss_status)>& may_fail,
                Deed deed, uint64_t at) const {
    const int64_t live = inject::live_objects();
    {
        Contexts contexts(*this);
        contexts.deed = deed;
        contexts.at = at;
        const gptoss_status status = contexts.generate();
        const bool came = deed == Deed::None ? fired() : contexts.calls >= at;
        inject::disarm();
        contexts.deed = Deed::None;
        contexts.clear_cancels();
        r.injected++;
        if (!came) wrong(r, Wrong::Other, "the fault did not come");
        if (status == gptoss_status_success)
            r.absorbed++;
        else
            count_status(r, status);
        gptoss_status first = gptoss_status_success;
        for (size_t k = 0; k < contexts.running().size(); k++) {
            const size_t i = contexts.running()[k];
            const gptoss_generation& g = contexts.generations()[k];
            const auto tokens = contexts.tokens(i);
            const Member& m = members_[i];
            if (first == gptoss_status_success) first = g.status;
            if (g.status != gptoss_status_success && !may_fail(g.status))
                wrong(r, Wrong::Other, std::string("a generation's ") + gptoss_status_string(g.status));
            if (tokens.size() != contexts.begin(i) + g.num_tokens)
                wrong(r, Wrong::Tokens, "num_tokens is not what was generated");
            if (m.has_callback && contexts.received(i).size() != g.num_tokens)
                wrong(r, Wrong::Tokens, "the context does not hold what was handed over");
            if (tokens.size() > m.tokens.size() || !std::equal(tokens.begin(), tokens.end(), m.tokens.begin()))
                wrong(r, Wrong::Tokens, "other tokens until the fault");
            if (g.status == gptoss_status_success && tokens != m.tokens) wrong(r, Wrong::Tokens, "too few tokens");
            if ((g.stop_reason == gptoss_stop_reason_none) != (g.status != gptoss_status_success))
                wrong(r, Wrong::Other, "a stop reason that does not go with the status");
        }
        if (status != first) wrong(r, Wrong::Other, "the call's status is not that of the first that failed");
        if (contexts.generate() != gptoss_status_success) {
            wrong(r, Wrong::Tokens, std::string("failed again: ") + gptoss_last_error());
            return;
        }
        for (size_t i = 0; i < members_.size(); i++) {
            if (contexts.tokens(i) != members_[i].tokens) wrong(r, Wrong::Tokens, "other tokens after the fault");
            if (std::memcmp(contexts.logits(i).data(), members_[i].logits.data(), kVocabulary * sizeof(float)) != 0)
                wrong(r, Wrong::Tokens, "other logits after the fault");
        }
    }
    if (inject::live_objects() != live) wrong(r, Wrong::Leak, "left behind: " + inject::live_objects_text());
}

}  // namespace gptoss::test
