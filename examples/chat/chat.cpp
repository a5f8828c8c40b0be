#include "chat.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
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

// The rest of what a load logs stands only until there is progress to show.
void on_log(void* view, gptoss_log_level level, const char* message) {
    if (level <= gptoss_log_level_warning)
        static_cast<View*>(view)->note(message);
    else
        static_cast<View*>(view)->loading(message);
}

gptoss::Model load_model(const Options& options, View& view) {
    gptoss_model_options load{};
    load.device = options.device.empty() ? nullptr : options.device.c_str();
    load.weights = options.weights;
    load.tier = options.tier;
    load.memory_budget = static_cast<uint64_t>(options.memory * 1e9);
    load.context_length = options.context_length;
    load.progress = on_progress;
    load.log = on_log;
    load.progress_user_data = load.log_user_data = &view;
    view.loading("loading " + options.model);
    gptoss::Model model(options.model, load);
    view.end_progress();
    const gptoss_model_info info = model.info();
    if (info.host_weight_bytes > 0) {
        char note[100];
        std::snprintf(note, sizeof note, "%.1f MB of the weights stay in host memory, which is slower",
                      static_cast<double>(info.host_weight_bytes) / 1e6);
        view.note(note);
    }
    return model;
}

// A chat needs the tokens that mark who speaks.
void require_harmony(const gptoss::Tokenizer& tokenizer, const gptoss::Model& model) {
    for (const char* name : {"<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"}) {
        uint32_t token;
        if (gptoss_tokenizer_find_special_token(tokenizer.get(), name, &token) != gptoss_status_success ||
            token >= model.info().vocabulary_size)
            throw gptoss::Error(
                gptoss_status_unsupported_argument,
                std::string("the model's vocabulary has no ") + name + ": it was not made for chats in Harmony");
    }
}

std::string read_file(const std::string& path) {
    std::ifstream file{std::filesystem::path(path)};
    if (!file) throw std::runtime_error(path + ": " + std::strerror(errno));
    return {std::istreambuf_iterator<char>(file), {}};
}

Json parse_file(const std::string& path) {
    const std::string text = read_file(path);
    try {
        return Json::parse(text);
    } catch (const std::exception& e) {
        throw std::runtime_error(path + ": " + e.what());
    }
}

bool is_answer(const Json& message) {
    const std::string channel = message.value("channel", "");
    return !message.contains("recipient") && (channel == "final" || channel.empty());
}

// Makes the grammar of a file, whose name an error gets.
void check_grammar(const std::string& path, gptoss::Grammar make(const gptoss::Tokenizer&, std::string_view),
                   const gptoss::Tokenizer& tokenizer, const std::string& text) {
    try {
        make(tokenizer, text);
    } catch (const gptoss::Error& error) {
        throw std::runtime_error(path + ": " + error.what());
    }
}

}  // namespace

Chat::Chat(const Options& options, View& view)
    : settings(options.settings),
      view_(view),
      model_(load_model(options, view)),
      tokenizer_(model_.tokenizer()),
      context_((require_harmony(tokenizer_, model_), gptoss::Context(model_, options.context_length))),
      parser_(tokenizer_),
      name_(std::filesystem::path(options.model).lexically_normal().filename().string()),
      context_length_(context_.max_tokens()) {
    if (!settings.seed) settings.seed = std::random_device()();
    if (!options.schema.empty()) {
        turn_["response_format"] = parse_file(options.schema);
        check_grammar(options.schema, gptoss::Grammar::json_schema, tokenizer_, turn_["response_format"].dump());
    }
    if (!options.grammar.empty()) {
        turn_["response_grammar"] = read_file(options.grammar);
        check_grammar(options.grammar, gptoss::Grammar::gbnf, tokenizer_, turn_["response_grammar"]);
    }
    conversation.reasoning = options.reasoning;
    conversation.instructions = options.instructions;
}

std::string Chat::title() const { return name_ + " on " + gptoss::devices().at(model_.info().device).name; }

// A call can then be of none but the tools, with the arguments that they take, and an answer is what was asked for.
gptoss::Grammar Chat::turn_grammar() {
    Json turn = turn_;
    if (!conversation.tools.empty()) turn["tools"] = conversation.tools.definitions().at("tools");
    for (Json& tool : turn["tools"]) {
        if (!tool.contains("parameters") || tool["parameters"].is_null()) continue;
        try {
            gptoss::Grammar::json_schema(tokenizer_, tool["parameters"].dump());
        } catch (const gptoss::Error& error) {
            view_.note("calls of " + tool["name"].get<std::string>() +
                       " are not held to its parameters: " + error.what());
            tool.erase("parameters");
        }
    }
    return gptoss::Grammar::harmony(tokenizer_, turn.dump());
}

gptoss::Sampler Chat::sampler() {
    if (!grammar_ && (!turn_.empty() || !conversation.tools.empty())) grammar_ = turn_grammar();
    gptoss::Sampler sampler;
    if (grammar_) sampler.grammar(*grammar_);
    sampler.temperature(static_cast<float>(settings.temperature.value_or(1)))
        .top_p(static_cast<float>(settings.top_p.value_or(1)))
        .top_k(static_cast<uint32_t>(settings.top_k.value_or(0)))
        .min_p(static_cast<float>(settings.min_p.value_or(0)))
        .presence_penalty(static_cast<float>(settings.presence_penalty.value_or(0)))
        .frequency_penalty(static_cast<float>(settings.frequency_penalty.value_or(0)))
        .repetition_penalty(static_cast<float>(settings.repetition_penalty.value_or(1)))
        .seed(*settings.seed + retries_);
    return sampler;
}

// Drops the oldest turns until there is room for an answer.
std::vector<uint32_t> Chat::render_what_fits() {
    const size_t usual = std::min<size_t>(context_length_ / 4, 4096);
    const size_t room = std::min<size_t>(settings.max_tokens.value_or(usual), context_length_ / 2);
    int dropped = 0;
    std::vector<uint32_t> tokens = tokenizer_.render(conversation.json());
    while (tokens.size() + room > context_length_ && conversation.drop_oldest_turn()) {
        tokens = tokenizer_.render(conversation.json());
        ++dropped;
    }
    if (tokens.size() >= context_length_)
        throw gptoss::Error(gptoss_status_context_overflow, "this turn alone takes " + std::to_string(tokens.size()) +
                                                                " tokens, and the context holds " +
                                                                std::to_string(context_length_));
    if (dropped > 0)
        view_.note("the conversation outgrew the context of " + std::to_string(context_length_) +
                   " tokens: its oldest " + (dropped == 1 ? "turn is" : std::to_string(dropped) + " turns are") +
                   " forgotten");
    return tokens;
}

bool Chat::on_token(uint32_t token) {
    reply_tokens_.push_back(token);
    parser_.process(token);
    view_.add(parser_.channel(), parser_.recipient(), parser_.delta());
    return interrupted();
}

Chat::Reply Chat::generate() {
    const std::vector<uint32_t> prompt = render_what_fits();
    reply_tokens_.clear();
    parser_.reset();
    context_.reset();
    context_.append(prompt);

    Reply reply;
    const gptoss::Sampler drawn_by = sampler();
    gptoss::GenerateOptions options;
    options.sampler = &drawn_by;
    options.max_tokens = settings.max_tokens.value_or(0);
    const uint64_t computed_before = context_.stats().prompt_tokens_computed;
    const auto start = std::chrono::steady_clock::now();
    double prompt_seconds = 0;
    {
        const CancelOnInterrupt cancel(context_);
        reply.interrupted = interrupted();
        try {
            if (!reply.interrupted) {
                context_.process();
                prompt_seconds = seconds_since(start);
                reply.stop = context_.generate([&](uint32_t token) { return on_token(token); }, options).stop_reason;
            }
        } catch (const gptoss::Error& error) {
            if (error.status() != gptoss_status_cancelled) throw;
            reply.interrupted = true;
        }
    }
    const double seconds = seconds_since(start) - prompt_seconds;
    reply.interrupted = reply.interrupted || interrupted();
    reply.messages = Json::parse(parser_.messages());

    const auto computed = static_cast<double>(context_.stats().prompt_tokens_computed - computed_before);
    char speed[200];
    std::snprintf(speed, sizeof speed,
                  "%zu tokens, %.1f tokens/s; prompt: %zu tokens, %.0f of them computed, %.1f tokens/s",
                  reply_tokens_.size(), static_cast<double>(reply_tokens_.size()) / std::max(seconds, 1e-9),
                  prompt.size(), computed, computed / std::max(prompt_seconds, 1e-9));
    view_.note(speed);
    return reply;
}

// A turn that broke the format, or that was still in a header when its tokens were used up, as it came.
void Chat::show_malformed(const Reply& reply) const {
    const bool cut = !reply.interrupted && !reply.messages.empty() && reply.messages.back().contains("raw_tokens");
    if (!parser_.is_malformed() && !cut) return;
    const std::string text = tokenizer_.decode(gptoss::span<const uint32_t>(reply_tokens_));
    view_.note("the model broke Harmony's format; word for word it said: " + text);
}

Chat::Outcome Chat::answer(const std::string& text) {
    clear_interrupt();
    unanswered_ = text;
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
        view_.note("stopped after " + std::to_string(*settings.max_tokens) + " tokens: --max-tokens");
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
        unanswered_.clear();
    } else {
        conversation.forget_turn();
        view_.note("there was no answer, so this turn is forgotten");
    }
    if (reply.interrupted) return Outcome::Stopped;
    return answered && reply.stop == gptoss_stop_reason_stop_token ? Outcome::Answered : Outcome::Failed;
}

Chat::Outcome Chat::retry() {
    std::optional<Json> earlier;
    std::string question = unanswered_;
    if (question.empty() && conversation.empty())
        throw gptoss::Error(gptoss_status_invalid_state, "there is no question yet that could be asked again");
    if (question.empty()) {
        earlier = conversation.take_turn();
        question = earlier->at(0).at("content");
    }
    ++retries_;
    Outcome outcome = Outcome::Failed;
    try {
        outcome = answer(question);
    } catch (const gptoss::Error&) {
        if (earlier) conversation.put_turn(std::move(*earlier));
        throw;
    }
    if (earlier && !unanswered_.empty()) {
        conversation.put_turn(std::move(*earlier));
        unanswered_.clear();
        view_.note("the earlier answer stays");
    }
    return outcome;
}

void Chat::reset() {
    conversation.clear();
    unanswered_.clear();
}

void Chat::load(const std::string& file) {
    conversation.load(file);
    unanswered_.clear();
}

}  // namespace chat
