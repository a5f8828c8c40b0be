#include "script.h"

#include <cstdio>
#include <cstdlib>
#include <random>
#include <stdexcept>

#include "table.h"

namespace gptoss::test {

Callback callback;
const char* const call_names[] = {"create",   "append", "process", "logits", "sample", "generate",
                                  "truncate", "save",   "restore", "fork",   "profile"};

void must(gptoss_status status, const char* what) {
    if (status == gptoss_status_success) return;
    std::printf("%s: %s: %s: %s\n", current.c_str(), what, gptoss_status_string(status), gptoss_last_error());
    std::exit(1);
}

std::vector<uint32_t> tokens_of(gptoss_context_t context) {
    size_t n = 0;
    if (!context) return {};
    must(gptoss_context_get_num_tokens(context, &n), "get_num_tokens");
    std::vector<uint32_t> tokens(n);
    must(gptoss_context_get_tokens(context, tokens.data(), n, &n), "get_tokens");
    return tokens;
}

namespace {

// All that a callback may do with its context and others, and what it may not.
void call_back(uint32_t token) {
    const gptoss_context_t context = callback.context;
    const auto gives = [](const char* call, gptoss_status expected, gptoss_status status) {
        if (status != expected) callback.complaint = std::string(call) + ": " + gptoss_status_string(status);
    };
    const std::vector<uint32_t> tokens = tokens_of(context);
    if (tokens.empty() || tokens.back() != token) callback.complaint = "the token was not appended";
    size_t n = 0;
    gptoss_context_stats stats{};
    stats.struct_size = sizeof stats;
    gives("get_stats", gptoss_status_success, gptoss_context_get_stats(context, &stats));
    gives("get_max_tokens", gptoss_status_success, gptoss_context_get_max_tokens(context, &n));
    float logit;
    gptoss_context_t fork = nullptr;
    for (const auto& [call, status] : {std::pair("append", gptoss_context_append_tokens(context, 1, &token)),
                                       {"truncate", gptoss_context_truncate(context, 1)},
                                       {"process", gptoss_context_process(context)},
                                       {"get_logits", gptoss_context_get_logits(context, &logit, 1, &n)},
                                       {"generate", gptoss_context_generate(context, nullptr, nullptr, &n, nullptr)},
                                       {"save", gptoss_context_save(context, nullptr, 0, &n)},
                                       {"restore", gptoss_context_restore(context, &token, sizeof token)},
                                       {"fork", gptoss_context_fork(context, &fork)}})
        gives(call, gptoss_status_invalid_state, status);
    gives("retain", gptoss_status_success, gptoss_context_retain(context));
    gives("release", gptoss_status_success, gptoss_context_release(context));
    gives("cancel", gptoss_status_success, gptoss_context_cancel(context));
    gives("clear_cancel", gptoss_status_success, gptoss_context_clear_cancel(context));
    uint32_t count = 0, sampled = 0;
    gives("device_count", gptoss_status_success, gptoss_device_count(&count));
    size_t held = 0;
    gives("another context", gptoss_status_success, gptoss_context_get_num_tokens(callback.other, &held));
    gives("another context", gptoss_status_success, gptoss_context_sample(callback.other, 0, 0, 1, &sampled, &n));
    gives("another context", gptoss_status_success, gptoss_context_truncate(callback.other, held));
}

int on_token(void*, uint32_t token) {
    const inject::InTest scope;
    callback.tokens.push_back(token);
    if (++callback.calls != callback.at) return 0;
    if (callback.deed == Callback::Throw) throw std::runtime_error("the callback's own");
    if (callback.deed == Callback::ThrowNumber) throw 42;
    if (callback.deed == Callback::Cancel) gptoss_context_cancel(callback.context);
    if (callback.deed == Callback::CallBack) call_back(token);
    return 0;
}

std::vector<Step> make_script(uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    std::vector<Step> script = {{Call::Create},
                                {Call::Append, 1 + below(90), random()},
                                {Call::Process},
                                {Call::Generate, 1 + below(5), random()}};
    for (int i = 0; i < 7; i++) {
        const auto call = static_cast<Call>(1 + below(10));
        const Step step{call, 1 + below(call == Call::Append ? 60 : 6), random()};
        script.push_back(step);
        if (call == Call::Truncate) script.push_back({Call::Append, 1 + below(40), random()});
    }
    script.push_back({Call::Append, 1, random()});
    script.push_back({Call::Generate, 4, random()});
    return script;
}

void release(gptoss_context_t context) {
    in_library([&] { return gptoss_context_release(context); });
}

}  // namespace

Run::~Run() { release(context_); }

gptoss_status Run::call(const Step& step, std::vector<float>& extra) {
    size_t n = 0;
    switch (step.call) {
        case Call::Create:
            return in_library([&] { return gptoss_context_create(model_, 1000, 16, &context_); });
        case Call::Append: {
            std::mt19937_64 random(step.seed);
            std::vector<uint32_t> tokens(step.count);
            for (uint32_t& t : tokens) t = static_cast<uint32_t>(random() % kVocabulary);
            return in_library([&] { return gptoss_context_append_tokens(context_, tokens.size(), tokens.data()); });
        }
        case Call::Process:
            return in_library([&] { return gptoss_context_process(context_); });
        case Call::Logits:
            extra.resize(kVocabulary);
            return in_library([&] { return gptoss_context_get_logits(context_, extra.data(), extra.size(), &n); });
        case Call::Sample: {
            uint32_t tokens[8];
            return in_library([&] { return gptoss_context_sample(context_, 1, step.seed, step.count, tokens, &n); });
        }
        case Call::Generate:
            return generate(step);
        case Call::Truncate: {
            const size_t held = tokens_of(context_).size();
            return in_library([&] { return gptoss_context_truncate(context_, 1 + step.seed % held); });
        }
        case Call::Save:
            return save();
        case Call::Restore:
            if (state_.empty()) return gptoss_status_success;
            return in_library([&] { return gptoss_context_restore(context_, state_.data(), state_.size()); });
        case Call::Fork:
            return fork();
        case Call::Profile:
            return in_library([&] { return gptoss_context_profile(context_, 1, nullptr, nullptr, 0, &n); });
    }
    return gptoss_status_internal_error;
}

gptoss_status Run::generate(const Step& step) {
    gptoss_sampler_t sampler = nullptr;
    must(gptoss_sampler_create(&sampler), "sampler");
    must(gptoss_sampler_set_seed(sampler, step.seed), "sampler");
    if (step.seed % 2) must(gptoss_sampler_set_repetition_penalty(sampler, 1.3f), "sampler");
    gptoss_generate_options options{};
    const uint32_t none = UINT32_MAX;
    options.struct_size = sizeof options;
    options.max_tokens = step.count;
    options.stop_tokens = &none;
    options.num_stop_tokens = 1;
    options.callback = on_token;
    callback.context = context_;
    callback.tokens.clear();
    size_t n = 0;
    const gptoss_status status =
        in_library([&] { return gptoss_context_generate(context_, sampler, &options, &n, nullptr); });
    if (n != callback.tokens.size()) must(gptoss_status_internal_error, "num_tokens_out");
    gptoss_sampler_release(sampler);
    return status;
}

gptoss_status Run::save() {
    size_t size = 0;
    gptoss_status status = in_library([&] { return gptoss_context_save(context_, nullptr, 0, &size); });
    if (status != gptoss_status_success) return status;
    std::vector<unsigned char> bytes(size);
    status = in_library([&] { return gptoss_context_save(context_, bytes.data(), size, &size); });
    if (status == gptoss_status_success) state_ = bytes;
    return status;
}

// The fork takes the place of the context.
gptoss_status Run::fork() {
    gptoss_context_t fork = nullptr;
    const gptoss_status status = in_library([&] { return gptoss_context_fork(context_, &fork); });
    if (status != gptoss_status_success) return status;
    release(context_);
    context_ = fork;
    return status;
}

Expected run_without_fault(gptoss_model_t model, uint64_t seed, inject::Kind counted) {
    for (;;) {
        Expected e;
        e.script = make_script(seed);
        callback = {};
        const int64_t live = inject::live_objects();
        inject::arm(counted, 0);
        {
            Run run(model);
            for (const Step& step : e.script) {
                std::vector<float> extra;
                must(run.call(step, extra), call_names[static_cast<int>(step.call)]);
                e.tokens.push_back(tokens_of(run.context()));
                e.extra.push_back(extra);
            }
        }
        e.opportunities = inject::disarm();
        e.callbacks = callback.calls;
        // once more if the model built kernels, which it keeps: the next run has fewer opportunities
        if (inject::live_objects() == live) return e;
    }
}

}  // namespace gptoss::test
