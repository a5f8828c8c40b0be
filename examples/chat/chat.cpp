#include "chat.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>

#include "interrupt.h"

namespace chat {

namespace {

constexpr int max_calls = 20;  // of functions in one turn

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int on_progress(void* view, uint64_t done, uint64_t total) {
    static_cast<View*>(view)->progress(done, total);
    return interrupted();
}

void on_log(void* view, gptoss_log_level level, const char* message) {
    if (level <= gptoss_log_level_warning) static_cast<View*>(view)->note(message);
}

Model load(const Options& options, View& view) {
    gptoss_model_options load = {.struct_size = sizeof load};
    load.device = options.device.empty() ? nullptr : options.device.c_str();
    load.weights = options.weights;
    load.tier = options.tier;
    load.memory_budget = static_cast<uint64_t>(options.memory * 1e9);
    load.context_length = options.context_length;
    load.progress = on_progress;
    load.log = on_log;
    load.progress_user_data = load.log_user_data = &view;
    Model model = make<Model>(gptoss_model_create, options.model.c_str(), &load);
    view.end_progress();
    gptoss_model_info info = {.struct_size = sizeof info};
    check(gptoss_model_get_info(model.get(), &info));
    if (info.host_weight_bytes > 0) {
        char note[100];
        std::snprintf(note, sizeof note, "%.1f MB of the weights stay in host memory, which is slower",
                      static_cast<double>(info.host_weight_bytes) / 1e6);
        view.note(note);
    }
    return model;
}

// A chat needs the tokens that mark who speaks.
void require_harmony(gptoss_tokenizer_t tokenizer, gptoss_model_t model) {
    gptoss_model_info info = {.struct_size = sizeof info};
    check(gptoss_model_get_info(model, &info));
    for (const char* name : {"<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"}) {
        uint32_t token;
        if (gptoss_tokenizer_find_special_token(tokenizer, name, &token) != gptoss_status_success ||
            token >= info.vocabulary_size)
            throw Failure(gptoss_status_unsupported_argument, std::string("the model's vocabulary has no ") + name +
                                                                  ": it was not made for chats in Harmony");
    }
}

Sampler make_sampler(const Options& options) {
    Sampler sampler = make<Sampler>(gptoss_sampler_create);
    gptoss_sampler_t s = sampler.get();
    check(gptoss_sampler_set_temperature(s, options.temperature.value_or(1)));
    check(gptoss_sampler_set_top_p(s, options.top_p.value_or(1)));
    check(gptoss_sampler_set_top_k(s, options.top_k.value_or(0)));
    check(gptoss_sampler_set_min_p(s, options.min_p));
    check(gptoss_sampler_set_presence_penalty(s, options.presence_penalty));
    check(gptoss_sampler_set_frequency_penalty(s, options.frequency_penalty));
    check(gptoss_sampler_set_repetition_penalty(s, options.repetition_penalty));
    check(gptoss_sampler_set_seed(s, options.seed ? *options.seed : std::random_device()()));
    return sampler;
}

bool is_answer(const Json& message) {
    const std::string channel = message.value("channel", "");
    return !message.contains("recipient") && (channel == "final" || channel.empty());
}

}  // namespace

Chat::Chat(const Options& options, View& view)
    : view_(view),
      model_(load(options, view)),
      tokenizer_(make<Tokenizer>(gptoss_model_get_tokenizer, model_.get())),
      name_(std::filesystem::path(options.model).lexically_normal().filename().string()),
      max_tokens_(options.max_tokens) {
    require_harmony(tokenizer_.get(), model_.get());
    context_ = make<Context>(gptoss_context_create, model_.get(), options.context_length, 0);
    check(gptoss_context_get_max_tokens(context_.get(), &context_length_));
    sampler_ = make_sampler(options);
    parser_ = make<Parser>(gptoss_harmony_parser_create, tokenizer_.get());
    conversation.reasoning = options.reasoning;
    conversation.instructions = options.instructions;
}

std::string Chat::title() const {
    gptoss_model_info model = {.struct_size = sizeof model};
    gptoss_device_info device = {.struct_size = sizeof device};
    check(gptoss_model_get_info(model_.get(), &model));
    check(gptoss_device_get_info(model.device, &device));
    return name_ + " on " + device.name;
}

std::vector<uint32_t> Chat::render() const {
    const std::string json = conversation.json();
    size_t count;
    check(gptoss_harmony_render(tokenizer_.get(), json.data(), json.size(), nullptr, 0, &count));
    std::vector<uint32_t> tokens(count);
    check(gptoss_harmony_render(tokenizer_.get(), json.data(), json.size(), tokens.data(), count, &count));
    return tokens;
}

// Drops the oldest turns until there is room for an answer.
std::vector<uint32_t> Chat::render_what_fits() {
    const size_t usual = std::min<size_t>(context_length_ / 4, 4096);
    const size_t room = max_tokens_ ? std::min(max_tokens_, context_length_ / 2) : usual;
    int dropped = 0;
    std::vector<uint32_t> tokens = render();
    while (tokens.size() + room > context_length_ && conversation.drop_oldest_turn()) {
        tokens = render();
        ++dropped;
    }
    if (tokens.size() >= context_length_)
        throw Failure(gptoss_status_context_overflow, "this turn alone takes " + std::to_string(tokens.size()) +
                                                          " tokens, and the context holds " +
                                                          std::to_string(context_length_));
    if (dropped > 0)
        view_.note("the conversation outgrew the context of " + std::to_string(context_length_) +
                   " tokens: its oldest " + (dropped == 1 ? "turn is" : std::to_string(dropped) + " turns are") +
                   " forgotten");
    return tokens;
}

int Chat::on_token(void* self, uint32_t token) {
    Chat& chat = *static_cast<Chat*>(self);
    gptoss_harmony_parser_t parser = chat.parser_.get();
    const char *channel, *recipient, *text;
    chat.reply_tokens_.push_back(token);
    if (gptoss_harmony_parser_process(parser, token) != gptoss_status_success ||
        gptoss_harmony_parser_get_channel(parser, &channel, nullptr) != gptoss_status_success ||
        gptoss_harmony_parser_get_recipient(parser, &recipient, nullptr) != gptoss_status_success ||
        gptoss_harmony_parser_get_delta(parser, &text, nullptr) != gptoss_status_success)
        return 1;
    chat.view_.add(channel, recipient, text);
    return interrupted();
}

Chat::Reply Chat::generate() {
    const std::vector<uint32_t> prompt = render_what_fits();
    reply_tokens_.clear();
    check(gptoss_harmony_parser_reset(parser_.get()));
    check(gptoss_context_reset(context_.get()));
    check(gptoss_context_append_tokens(context_.get(), prompt.size(), prompt.data()));

    Reply reply;
    const CancelOnInterrupt cancel(context_.get());
    const auto start = std::chrono::steady_clock::now();
    gptoss_status status = interrupted() ? gptoss_status_cancelled : gptoss_context_process(context_.get());
    const double prompt_seconds = seconds_since(start);
    if (status == gptoss_status_success) {
        gptoss_generate_options options = {.struct_size = sizeof options};
        options.max_tokens = max_tokens_;
        options.callback = on_token;
        options.user_data = this;
        status = gptoss_context_generate(context_.get(), sampler_.get(), &options, nullptr, &reply.stop);
    }
    const double seconds = seconds_since(start) - prompt_seconds;
    if (status != gptoss_status_success && status != gptoss_status_cancelled) check(status);
    reply.interrupted = status == gptoss_status_cancelled || interrupted();
    reply.messages = messages();

    char speed[160];
    std::snprintf(speed, sizeof speed, "%zu tokens, %.1f tokens/s; prompt: %zu tokens in %.2f s", reply_tokens_.size(),
                  static_cast<double>(reply_tokens_.size()) / std::max(seconds, 1e-9), prompt.size(), prompt_seconds);
    view_.note(speed);
    return reply;
}

Json Chat::messages() const {
    size_t size;
    check(gptoss_harmony_parser_get_messages(parser_.get(), nullptr, 0, &size));
    std::string json(size, '\0');
    check(gptoss_harmony_parser_get_messages(parser_.get(), json.data(), size, &size));
    return Json::parse(json);
}

// A turn that broke the format, or that was still in a header when its tokens were used up, as it came.
void Chat::show_malformed(const Reply& reply) const {
    int malformed;
    check(gptoss_harmony_parser_is_malformed(parser_.get(), &malformed));
    const bool cut = !reply.interrupted && !reply.messages.empty() && reply.messages.back().contains("raw_tokens");
    if (!malformed && !cut) return;
    size_t size;
    check(gptoss_tokenizer_decode_tokens(tokenizer_.get(), reply_tokens_.data(), reply_tokens_.size(), nullptr, 0,
                                         &size));
    std::string text(size, '\0');
    check(gptoss_tokenizer_decode_tokens(tokenizer_.get(), reply_tokens_.data(), reply_tokens_.size(), text.data(),
                                         size, &size));
    view_.note("the model broke Harmony's format; word for word it said: " + text);
}

Chat::Outcome Chat::answer(const std::string& text) {
    clear_interrupt();
    conversation.begin_turn(text);
    try {
        for (int calls = 0;; ++calls) {
            const Reply reply = generate();
            show_malformed(reply);
            const bool stopped = reply.interrupted || reply.stop != gptoss_stop_reason_stop_token;
            const Json* const last = reply.messages.empty() ? nullptr : &reply.messages.back();
            if (stopped || !last || last->contains("raw_tokens") || !last->contains("recipient")) return finish(reply);
            if (calls == max_calls) {
                view_.note("no more than " + std::to_string(max_calls) + " calls in one turn");
                return finish(reply);
            }
            const std::string function = last->at("recipient");
            const std::string result = conversation.tools.call(function, last->at("content"));
            view_.note("result: " + result);
            for (const Json& message : reply.messages)
                if (!message.contains("raw_tokens")) conversation.add(message);
            conversation.add({{"role", "tool"},
                              {"name", function},
                              {"recipient", "assistant"},
                              {"channel", "commentary"},
                              {"content", result}});
        }
    } catch (...) {
        view_.end_message();
        conversation.forget_turn();
        throw;
    }
}

// Keeps what there is of the answer; forgets a turn that has none.
Chat::Outcome Chat::finish(const Reply& reply) {
    if (reply.interrupted)
        view_.note("stopped");
    else if (reply.stop == gptoss_stop_reason_max_tokens)
        view_.note("stopped after " + std::to_string(max_tokens_) + " tokens: --max-tokens");
    else if (reply.stop == gptoss_stop_reason_context_full)
        view_.note("the context of " + std::to_string(context_length_) + " tokens is full");

    bool answered = false;
    for (const Json& message : reply.messages) {
        if (message.contains("raw_tokens") || message.contains("recipient")) continue;
        conversation.add(message);
        answered = answered || is_answer(message);
    }
    if (answered) {
        conversation.finish_turn();
    } else {
        conversation.forget_turn();
        view_.note("there was no answer, so this turn is forgotten");
    }
    if (reply.interrupted) return Outcome::Stopped;
    return answered && reply.stop == gptoss_stop_reason_stop_token ? Outcome::Answered : Outcome::Failed;
}

}  // namespace chat
