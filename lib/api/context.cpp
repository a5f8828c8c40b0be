#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <vector>

#include "api/common.h"
#include "api/model.h"
#include "api/sampler.h"
#include "engine/engine.h"

using namespace gptoss;
using namespace gptoss::api;

struct gptoss_context : Handle<gptoss_context> {
    gptoss_context(const gptoss_model& of, size_t context_length, size_t max_batch_tokens)
        : tokenizer(of.tokenizer), sequence(of.model, context_length, max_batch_tokens) {}

    gptoss_context(gptoss_context& forked) : tokenizer(forked.tokenizer), sequence(forked.sequence) {}

    static constexpr bool kOnDevice = true;

    const std::shared_ptr<const text::Tokenizer> tokenizer;
    model::Sequence sequence;
    Turn::Owner turn{};
};

static_assert(static_cast<int>(model::StopReason::ContextFull) == gptoss_stop_reason_context_full);
static_assert(static_cast<int>(model::PromptLookup::Always) == gptoss_prompt_lookup_always);

namespace {

// A context that a call uses, while no other does.
class Use {
  public:
    explicit Use(gptoss_context_t handle, Turn::Kind kind = Turn::Kind::Changes)
        : held_(handle, "context"), turn_(handle->turn, kind) {}

    model::Sequence* operator->() const { return &held_->sequence; }

  private:
    const Held<gptoss_context> held_;
    const Turn turn_;
};

// Of a sampler, or greedy ones where there is none.
model::SamplerSettings settings_of(gptoss_sampler_t sampler) {
    if (sampler) return Held(sampler, "sampler")->settings;
    model::SamplerSettings greedy;
    greedy.temperature = 0;
    return greedy;
}

model::GenerateRequest request_of(gptoss_context_t context, gptoss_sampler_t sampler,
                                  const gptoss_generate_options* options) {
    const gptoss_generate_options in = read_struct(options, "options");
    model::GenerateRequest request;
    request.settings = settings_of(sampler);
    request.max_tokens = in.max_tokens;
    if (in.num_stop_tokens) require(in.stop_tokens, "options.stop_tokens");
    if (in.stop_tokens) {
        request.stop_tokens.assign(in.stop_tokens, in.stop_tokens + in.num_stop_tokens);
    } else {
        for (const char* name : {"<|return|>", "<|call|>", "<|endoftext|>"})
            if (const auto token = context->tokenizer->find_special(name)) request.stop_tokens.push_back(*token);
        const auto& eos = context->sequence.model().config.eos_tokens;
        request.stop_tokens.insert(request.stop_tokens.end(), eos.begin(), eos.end());
    }
    if (enum_value(in.prompt_lookup) > gptoss_prompt_lookup_always)
        throw Error(Status::InvalidArgument,
                    "options.prompt_lookup is " + std::to_string(enum_value(in.prompt_lookup)));
    request.lookup = static_cast<model::PromptLookup>(in.prompt_lookup);
    if (in.callback)
        request.on_token = [callback = in.callback, user_data = in.user_data](uint32_t token) {
            return call_back(callback, user_data, token) != 0;
        };
    return request;
}

}  // namespace

gptoss_status gptoss_context_create(gptoss_model_t model, size_t context_length, size_t max_batch_tokens,
                                    gptoss_context_t* context_out) {
    if (context_out) *context_out = nullptr;
    return guard([&] {
        const Held held(model, "model");
        require(context_out, "context_out");
        *context_out = new gptoss_context(*held, context_length, max_batch_tokens);
    });
}

gptoss_status gptoss_context_get_num_tokens(gptoss_context_t context, size_t* num_tokens_out) {
    if (num_tokens_out) *num_tokens_out = 0;
    return guard([&] {
        const Use use(context, Turn::Kind::Reads);
        require(num_tokens_out, "num_tokens_out");
        *num_tokens_out = use->tokens().size();
    });
}

gptoss_status gptoss_context_get_max_tokens(gptoss_context_t context, size_t* max_tokens_out) {
    if (max_tokens_out) *max_tokens_out = 0;
    return guard([&] {
        const Held held(context, "context");
        require(max_tokens_out, "max_tokens_out");
        *max_tokens_out = held->sequence.max_tokens();
    });
}

gptoss_status gptoss_context_get_tokens(gptoss_context_t context, uint32_t* tokens_out, size_t max_tokens,
                                        size_t* num_tokens_out) {
    if (num_tokens_out) *num_tokens_out = 0;
    return guard([&] {
        const Use use(context, Turn::Kind::Reads);
        require(num_tokens_out, "num_tokens_out");
        if (max_tokens) require(tokens_out, "tokens_out");
        const auto& tokens = use->tokens();
        std::copy_n(tokens.begin(), std::min(max_tokens, tokens.size()), tokens_out);
        *num_tokens_out = tokens.size();
    });
}

gptoss_status gptoss_context_append_chars(gptoss_context_t context, const char* text, size_t text_length,
                                          size_t* num_tokens_out) {
    if (num_tokens_out) *num_tokens_out = 0;
    return guard([&] {
        const Use use(context);
        if (text_length) require(text, "text");
        const auto tokens = context->tokenizer->encode({text, text_length}, true);
        use->append(tokens);
        if (num_tokens_out) *num_tokens_out = tokens.size();
    });
}

gptoss_status gptoss_context_append_tokens(gptoss_context_t context, size_t num_tokens, const uint32_t* tokens) {
    return guard([&] {
        const Use use(context);
        if (num_tokens) require(tokens, "tokens");
        use->append({tokens, num_tokens});
    });
}

gptoss_status gptoss_context_reset(gptoss_context_t context) { return gptoss_context_truncate(context, 0); }

gptoss_status gptoss_context_truncate(gptoss_context_t context, size_t num_tokens) {
    return guard([&] {
        const Use use(context);
        use->truncate(num_tokens);
    });
}

gptoss_status gptoss_context_process(gptoss_context_t context) {
    return guard([&] {
        const Use use(context);
        if (!use->tokens().empty()) use->process();
    });
}

gptoss_status gptoss_context_get_logits(gptoss_context_t context, float* logits_out, size_t max_logits,
                                        size_t* num_logits_out) {
    if (num_logits_out) *num_logits_out = 0;
    return guard([&] {
        const Use use(context);
        require(num_logits_out, "num_logits_out");
        if (max_logits) require(logits_out, "logits_out");
        const size_t vocab = use->model().config.vocab;
        use->read_logits({logits_out, std::min(max_logits, vocab)});
        *num_logits_out = vocab;
    });
}

gptoss_status gptoss_context_sample(gptoss_context_t context, float temperature, uint64_t seed, size_t max_tokens,
                                    uint32_t* tokens_out, size_t* num_tokens_out) {
    if (num_tokens_out) *num_tokens_out = 0;
    return guard([&] {
        const Use use(context);
        require(num_tokens_out, "num_tokens_out");
        if (!std::isfinite(temperature) || temperature < 0)
            throw Error(Status::InvalidArgument,
                        "temperature must be finite and not negative, not " + std::to_string(temperature));
        if (max_tokens == 0) return;
        require(tokens_out, "tokens_out");
        model::GenerateRequest request;
        request.settings.temperature = temperature;
        request.settings.seed = seed;
        request.max_tokens = max_tokens;
        const size_t before = use->tokens().size();
        uint64_t n = 0;
        const auto store = [&] {
            std::copy(use->tokens().begin() + static_cast<ptrdiff_t>(before), use->tokens().end(), tokens_out);
            *num_tokens_out = n;
        };
        try {
            use->generate(request, &n);
        } catch (...) {
            store();
            throw;
        }
        store();
    });
}

gptoss_status gptoss_context_generate(gptoss_context_t context, gptoss_sampler_t sampler,
                                      const gptoss_generate_options* options, size_t* num_tokens_out,
                                      gptoss_stop_reason* stop_reason_out) {
    if (num_tokens_out) *num_tokens_out = 0;
    if (stop_reason_out) *stop_reason_out = gptoss_stop_reason_none;
    uint64_t n = 0;
    const gptoss_status status = guard([&] {
        const Use use(context);
        const model::GenerateRequest request = request_of(context, sampler, options);
        const model::StopReason reason = use->generate(request, &n);
        if (stop_reason_out) *stop_reason_out = static_cast<gptoss_stop_reason>(reason);
    });
    if (num_tokens_out) *num_tokens_out = n;
    return status;
}

gptoss_status gptoss_generate_together(gptoss_generation* generations, size_t num_generations) {
    gptoss_status status = gptoss_status_success;
    const gptoss_status refused = guard([&] {
        if (num_generations == 0) return;
        require(generations, "generations");
        const size_t size = generations->struct_size;
        const auto at = [&](size_t i) {
            return reinterpret_cast<gptoss_generation*>(reinterpret_cast<char*>(generations) + i * size);
        };
        std::vector<gptoss_context_t> contexts;
        for (size_t i = 0; i < num_generations; i++) {
            const std::string name = "generations[" + std::to_string(i) + "]";
            if (size < kFirstSize<gptoss_generation> || at(i)->struct_size != size)
                throw Error(Status::InvalidArgument, name + ".struct_size is " + std::to_string(at(i)->struct_size) +
                                                         ": set it to sizeof of the struct in all of them");
            require(at(i)->context, (name + ".context").c_str());
            if (std::find(contexts.begin(), contexts.end(), at(i)->context) != contexts.end())
                throw Error(Status::InvalidArgument, name + ".context is the context of another one as well");
            if (&at(i)->context->sequence.model() != &at(0)->context->sequence.model())
                throw Error(Status::InvalidArgument, name + ".context is of another model than generations[0].context");
            contexts.push_back(at(i)->context);
        }
        std::deque<Use> uses;
        std::vector<model::GenerateRequest> requests;
        std::vector<model::Generation> all;
        for (size_t i = 0; i < num_generations; i++) {
            uses.emplace_back(contexts[i]);
            requests.push_back(request_of(contexts[i], at(i)->sampler, at(i)->options));
        }
        for (size_t i = 0; i < num_generations; i++) all.push_back({&contexts[i]->sequence, &requests[i]});
        generate_together(all);
        for (size_t i = num_generations; i-- > 0;) {
            const auto outcome = guard([&] {
                if (all[i].error) throw Error(*all[i].error);
            });
            if (outcome != gptoss_status_success) status = outcome;
            at(i)->num_tokens = all[i].n_tokens;
            at(i)->stop_reason = static_cast<gptoss_stop_reason>(all[i].reason);
            at(i)->status = outcome;
        }
    });
    return refused != gptoss_status_success ? refused : status;
}

gptoss_status gptoss_context_cancel(gptoss_context_t context) {
    return guard([&] { Held(context, "context")->sequence.cancel(); });
}

gptoss_status gptoss_context_clear_cancel(gptoss_context_t context) {
    return guard([&] { Held(context, "context")->sequence.clear_cancel(); });
}

gptoss_status gptoss_context_fork(gptoss_context_t context, gptoss_context_t* context_out) {
    if (context_out) *context_out = nullptr;
    return guard([&] {
        const Use use(context);
        require(context_out, "context_out");
        *context_out = new gptoss_context(*context);
    });
}

gptoss_status gptoss_context_save(gptoss_context_t context, void* state_out, size_t max_size, size_t* size_out) {
    if (size_out) *size_out = 0;
    return guard([&] {
        const Use use(context);
        require(size_out, "size_out");
        if (max_size) require(state_out, "state_out");
        *size_out = use->save({static_cast<std::byte*>(state_out), max_size});
    });
}

gptoss_status gptoss_context_restore(gptoss_context_t context, const void* state, size_t size) {
    return guard([&] {
        const Use use(context);
        if (size) require(state, "state");
        use->restore({static_cast<const std::byte*>(state), size});
    });
}

gptoss_status gptoss_context_get_stats(gptoss_context_t context, gptoss_context_stats* stats_out) {
    return guard([&] {
        write_struct(gptoss_context_stats{}, stats_out, "stats_out");
        const Use use(context, Turn::Kind::Reads);
        const model::Sequence::Stats now = use->stats();
        gptoss_context_stats stats{};
        stats.cache_bytes = now.page_bytes;
        stats.activation_bytes = use->model().engine->working_bytes();
        stats.cache_bytes_per_token = now.bytes_per_token;
        stats.step_dispatches = now.step_dispatches;
        stats.step_barriers = now.step_barriers;
        stats.prompt_tokens_computed = now.prompt_tokens_computed;
        stats.decode_steps = now.decode_steps;
        write_struct(stats, stats_out, "stats_out");
    });
}

gptoss_status gptoss_context_profile(gptoss_context_t context, size_t num_tokens, gptoss_sampler_t sampler,
                                     gptoss_kernel_time* times_out, size_t max_times, size_t* num_times_out) {
    if (num_times_out) *num_times_out = 0;
    return guard([&] {
        const Use use(context);
        require(num_times_out, "num_times_out");
        if (max_times) require(times_out, "times_out");
        const auto times =
            use->profile(static_cast<uint32_t>(std::min<size_t>(num_tokens, UINT32_MAX)), settings_of(sampler));
        for (size_t i = 0; i < std::min(max_times, times.size()); i++) {
            std::snprintf(times_out[i].name, sizeof times_out[i].name, "%s", times[i].name.c_str());
            times_out[i].microseconds = times[i].microseconds;
            times_out[i].dispatches = times[i].dispatches;
        }
        *num_times_out = times.size();
    });
}

gptoss_status gptoss_context_retain(gptoss_context_t context) { return gptoss_context::retain(context); }
gptoss_status gptoss_context_release(gptoss_context_t context) { return gptoss_context::release(context); }
