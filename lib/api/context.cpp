#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <vector>

#include "api/adapter.h"
#include "api/context.h"
#include "api/sampler.h"
#include "engine/engine.h"
#include "text/tokenizer/text_stream.h"

using namespace gptoss;
using namespace gptoss::api;

static_assert(static_cast<int>(model::PromptLookup::Always) == gptoss_prompt_lookup_always);
static_assert(static_cast<int>(model::StopReason::StopString) == gptoss_stop_reason_stop_string);
static_assert(static_cast<int>(model::Logprobs::Drawn) == gptoss_logprobs_drawn);
static_assert(sizeof(gptoss_logprob) == sizeof(model::TokenLogprob));

namespace {

// Of a sampler, or greedy ones where there is none.
model::SamplerSettings settings_of(gptoss_sampler_t sampler) {
    if (sampler) return Held(sampler, "sampler")->settings;
    model::SamplerSettings greedy;
    greedy.temperature = 0;
    return greedy;
}

constexpr uint32_t kMostTop = 256;  // log-probabilities of a token

// What a sampler says beyond its settings.
void take_sampler(model::GenerateRequest& request, gptoss_context_t context, gptoss_sampler_t sampler) {
    request.settings = settings_of(sampler);
    if (!sampler) return;
    const Held held(sampler, "sampler");
    const uint32_t vocab = context->sequence.model().config.vocab;
    for (const auto& [token, value] : held->bias)
        if (token >= vocab)
            throw Error(Status::InvalidArgument, "the sampler has a bias of token " + std::to_string(token) +
                                                     ", outside the vocabulary of " + std::to_string(vocab));
    request.bias = held->bias;
    request.grammar = held->grammar;
    if (request.grammar && request.grammar->table().tokenizer() != context->tokenizer)
        throw Error(Status::InvalidArgument,
                    "the sampler's grammar is of another tokenizer than the model's: make it with that of "
                    "gptoss_model_get_tokenizer");
}

// Hands outputs to the callbacks of a generation.
class Receiver {
  public:
    Receiver(std::shared_ptr<const text::Tokenizer> tokenizer, const gptoss_generate_options& options)
        : options_(options), text_(std::move(tokenizer), stop_strings(options)) {}

    model::StopReason operator()(const model::Drawn& drawn, bool last) {
        if (options_.callback && call_back(options_.callback, options_.user_data, drawn.token) != 0)
            return model::StopReason::Callback;
        const std::string text = text_.add(drawn.token, last);
        if (options_.output_callback) {
            top_.clear();
            for (const auto& [token, logprob] : drawn.logprobs.top) top_.push_back({token, logprob});
            const gptoss_output output{sizeof output, drawn.token, drawn.logprobs.logprob, text.c_str(), text.size(),
                                       top_.data(),   top_.size()};
            if (call_back(options_.output_callback, options_.user_data, &output) != 0)
                return model::StopReason::Callback;
        }
        return text_.stopped() ? model::StopReason::StopString : model::StopReason::None;
    }

  private:
    static std::vector<std::string> stop_strings(const gptoss_generate_options& options) {
        if (options.num_stop_strings) require(options.stop_strings, "options.stop_strings");
        std::vector<std::string> strings;
        for (size_t i = 0; i < options.num_stop_strings; i++) {
            require(options.stop_strings[i], ("options.stop_strings[" + std::to_string(i) + "]").c_str());
            strings.emplace_back(options.stop_strings[i]);
        }
        return strings;
    }

    const gptoss_generate_options options_;
    text::TextStream text_;
    std::vector<gptoss_logprob> top_;
};

model::GenerateRequest request_of(gptoss_context_t context, gptoss_sampler_t sampler,
                                  const gptoss_generate_options* options) {
    const gptoss_generate_options in = read_struct(options, "options");
    model::GenerateRequest request;
    take_sampler(request, context, sampler);
    request.max_tokens = in.max_tokens;
    if (const int logprobs = enum_value(in.logprobs); logprobs < 0 || logprobs > gptoss_logprobs_drawn)
        throw Error(Status::InvalidArgument,
                    "options.logprobs is " + std::to_string(logprobs) + ", which is no value of enum gptoss_logprobs");
    request.logprobs = static_cast<model::Logprobs>(in.logprobs);
    if (in.num_top_logprobs > kMostTop)
        throw Error(Status::InvalidArgument, "options.num_top_logprobs is " + std::to_string(in.num_top_logprobs) +
                                                 ": at most " + std::to_string(kMostTop));
    request.n_top = in.num_top_logprobs;
    if (in.usage_out) check_struct_size<gptoss_usage>(in.usage_out->struct_size, "options.usage_out->");
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
    if (in.callback || in.output_callback || in.num_stop_strings)
        request.on_token = [receiver = std::make_shared<Receiver>(context->tokenizer, in)](
                               const model::Drawn& drawn, bool last) { return (*receiver)(drawn, last); };
    return request;
}

// The struct_size of all of them.
size_t checked_size(const gptoss_generation* generations, size_t n) {
    const size_t size = generations->struct_size;
    for (size_t i = 0; i < n; i++) {
        size_t its;
        std::memcpy(&its, reinterpret_cast<const char*>(generations) + i * size, sizeof its);
        if (size < kFirstSize<gptoss_generation> || its != size)
            throw Error(Status::InvalidArgument, "generations[" + std::to_string(i) + "].struct_size is " +
                                                     std::to_string(its) +
                                                     ": set it to sizeof of the struct in all of them");
    }
    return size;
}

// Stores what a generation counted where its options want it.
void store_usage(const gptoss_generate_options* options, const model::Generation& generation) {
    gptoss_usage* out = read_struct(options, "options").usage_out;
    if (!out) return;
    gptoss_usage usage{};
    usage.prompt_tokens = generation.n_prompt;
    usage.cached_tokens = generation.n_cached;
    usage.generated_tokens = generation.n_tokens;
    usage.forced_tokens = generation.n_forced;
    write_struct(usage, out, "options.usage_out");
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
        model::Generation generation{&context->sequence, &request};
        model::generate_together({&generation, 1});
        n = generation.n_tokens;
        store_usage(options, generation);
        if (generation.error) throw Error(*generation.error);
        if (stop_reason_out) *stop_reason_out = static_cast<gptoss_stop_reason>(generation.reason);
    });
    if (num_tokens_out) *num_tokens_out = n;
    return status;
}

gptoss_status gptoss_generate_together(gptoss_generation* generations, size_t num_generations) {
    gptoss_status status = gptoss_status_success;
    size_t size = 0;  // of each; 0 until it is known where they lie
    const auto at = [&](size_t i) {
        return reinterpret_cast<gptoss_generation*>(reinterpret_cast<char*>(generations) + i * size);
    };
    const auto set_outcome = [&](size_t i, uint64_t num_tokens, model::StopReason reason, gptoss_status outcome) {
        at(i)->num_tokens = num_tokens;
        at(i)->stop_reason = static_cast<gptoss_stop_reason>(reason);
        at(i)->status = outcome;
    };
    const gptoss_status refused = guard([&] {
        if (num_generations == 0) return;
        require(generations, "generations");
        size = checked_size(generations, num_generations);
        std::vector<gptoss_context_t> contexts;
        for (size_t i = 0; i < num_generations; i++) {
            const std::string name = "generations[" + std::to_string(i) + "].context";
            require(at(i)->context, name.c_str());
            if (std::find(contexts.begin(), contexts.end(), at(i)->context) != contexts.end())
                throw Error(Status::InvalidArgument, name + " is the context of another one as well");
            if (&at(i)->context->sequence.model() != &at(0)->context->sequence.model())
                throw Error(Status::InvalidArgument, name + " is of another model than generations[0].context");
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
            set_outcome(i, all[i].n_tokens, all[i].reason, outcome);
            store_usage(at(i)->options, all[i]);
        }
    });
    if (refused == gptoss_status_success) return status;
    for (size_t i = 0; size > 0 && i < num_generations; i++) set_outcome(i, 0, model::StopReason::None, refused);
    return refused;
}

gptoss_status gptoss_context_get_logprobs(gptoss_context_t context, size_t first, size_t num_tokens, size_t num_top,
                                          float* logprobs_out, gptoss_logprob* top_out) {
    return guard([&] {
        const Use use(context);
        if (num_tokens) require(logprobs_out, "logprobs_out");
        if (num_tokens && num_top) require(top_out, "top_out");
        if (num_top > std::min<size_t>(kMostTop, use->model().config.vocab))
            throw Error(Status::InvalidArgument, "num_top is " + std::to_string(num_top) + ": at most " +
                                                     std::to_string(std::min(kMostTop, use->model().config.vocab)));
        const size_t end = num_tokens > SIZE_MAX - first ? SIZE_MAX : first + num_tokens;
        std::fill_n(logprobs_out, num_tokens, 0.0f);
        const auto all = use->logprobs(first, end, static_cast<uint32_t>(num_top));
        for (size_t i = 0; i < all.size(); i++) {
            logprobs_out[i] = all[i].logprob;
            for (size_t t = 0; t < num_top; t++)
                top_out[i * num_top + t] = t < all[i].top.size()
                                               ? gptoss_logprob{all[i].top[t].token, all[i].top[t].logprob}
                                               : gptoss_logprob{0, -INFINITY};
        }
    });
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

gptoss_status gptoss_context_set_adapter(gptoss_context_t context, gptoss_adapter_t adapter, float scale) {
    return guard([&] {
        const Use use(context);
        model::Attachment attachment{nullptr, scale};
        if (adapter) attachment.adapter = Held(adapter, "adapter")->adapter;
        use->set_adapter(std::move(attachment));
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
