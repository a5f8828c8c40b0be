#include "turn.h"

#include <cstdio>
#include <deque>

namespace server {

namespace {

double seconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

gptoss::Sampler make_sampler(const Turn& turn, int choice) {
    const Sampling& sampling = turn.sampling;
    gptoss::Sampler sampler;
    sampler.temperature(sampling.temperature)
        .top_p(sampling.top_p)
        .top_k(sampling.top_k)
        .min_p(sampling.min_p)
        .presence_penalty(sampling.presence_penalty)
        .frequency_penalty(sampling.frequency_penalty)
        .repetition_penalty(sampling.repetition_penalty)
        .logit_bias(sampling.biased, sampling.biases)
        .seed(sampling.seed + static_cast<uint64_t>(choice));
    if (turn.grammar) sampler.grammar(*turn.grammar);
    return sampler;
}

const char* special_name(const gptoss::Tokenizer& tokenizer, uint32_t token) {
    const char* name = nullptr;
    return gptoss_tokenizer_get_special_token_name(tokenizer.get(), token, &name) ? nullptr : name;
}

// A special token's name, and nothing for a number that the vocabulary leaves out: a model has logits of both.
std::string_view text_of(const gptoss::Tokenizer& tokenizer, uint32_t token) {
    if (const char* name = special_name(tokenizer, token)) return name;
    const char* text = nullptr;
    size_t size = 0;
    if (gptoss_tokenizer_decode(tokenizer.get(), token, reinterpret_cast<const void**>(&text), &size)) return {};
    return {text, size};
}

Json logprob_json(const gptoss::Tokenizer& tokenizer, uint32_t token, float logprob) {
    const std::string_view bytes = text_of(tokenizer, token);
    Json numbers = Json::array();
    for (const char byte : bytes) numbers.push_back(static_cast<unsigned char>(byte));
    // JSON has no infinity: clients know this number for what cannot be
    return {{"token", bytes}, {"logprob", std::max(logprob, -9999.0f)}, {"bytes", std::move(numbers)}};
}

// Log-probabilities of tokens whose text waits until it is known whether it is shown.
class WaitingLogprobs {
  public:
    void add(Json logprobs, size_t text_size) {
        waiting_.push_back({end_, std::move(logprobs)});
        end_ += text_size;
    }
    // Those of the tokens that begin in the next so many bytes of text.
    Json take(size_t text_size) {
        shown_ += text_size;
        Json taken = Json::array();
        for (; !waiting_.empty() && waiting_.front().begin < shown_; waiting_.pop_front())
            taken.push_back(std::move(waiting_.front().logprobs));
        return taken;
    }

  private:
    struct Token {
        size_t begin;
        Json logprobs;
    };
    std::deque<Token> waiting_;
    size_t end_ = 0, shown_ = 0;  // bytes: of all tokens, and of those that are shown
};

}  // namespace

// Turns tokens into pieces: what Harmony makes of them, or plain text.
class Generation::Parser {
  public:
    Parser(Generation& generation, int choice)
        : generation_(generation),
          tokenizer_(generation.service_.tokenizer),
          choice_(choice),
          stop_(generation.turn_.stop),
          message_(generation.turn_.harmony ? tokenizer_.special_token(gptoss_special_token_message) : 0) {
        if (generation.turn_.harmony) harmony_.emplace(tokenizer_);
    }

    // Returns true once a stop string has come.
    bool add(const gptoss::Output& output) {
        if (harmony_)
            add_harmony(output);
        else
            add_plain(output);
        return stop_.stopped();
    }

    Piece::End finish(gptoss_stop_reason reason) {
        if (reason == gptoss_stop_reason_stop_token) {
            special_.clear();  // the stop token is no part of the text
            if (harmony_ && !answered_) add_malformed();
        }
        if (!special_.empty()) show(Piece::Kind::text, std::exchange(special_, {}));
        if (!bytes_.empty()) show(Piece::Kind::text, "\xEF\xBF\xBD");  // half a character
        flush();
        if (stop_.stopped()) return Piece::End::stop;
        if (reason == gptoss_stop_reason_max_tokens || reason == gptoss_stop_reason_context_full)
            return Piece::End::length;
        return called_ ? Piece::End::call : Piece::End::stop;
    }

  private:
    void add_harmony(const gptoss::Output& output) {
        const uint32_t token = output.token;
        harmony_->process(token);
        const std::string_view delta = harmony_->delta();
        const bool reasons = harmony_->channel() == "analysis" && harmony_->recipient().empty();
        if (reasons) ++generation_.usage_.reasoning;
        if (special_name(tokenizer_, token))
            in_content_ = false;
        else if (in_content_ && kind_ == Piece::Kind::text && generation_.turn_.top_logprobs)
            add_logprobs(output);
        if (token == message_ && delta.empty()) begin(reasons, std::string(harmony_->recipient()));
        if (!delta.empty()) show(kind_, std::string(delta));
    }

    // A message begins. One that calls a function when none was offered is text.
    void begin(bool reasons, std::string recipient) {
        flush();
        begun_ = false;
        in_content_ = true;
        logprobs_ = {};
        if (recipient.starts_with("functions.")) recipient.erase(0, 10);
        const bool calls = !recipient.empty() && recipient != "all" && recipient != "user" &&
                           recipient != "assistant" && !generation_.turn_.tools.empty();
        kind_ = calls ? Piece::Kind::call : reasons ? Piece::Kind::reasoning : Piece::Kind::text;
        if (calls) {
            called_ = answered_ = begun_ = true;
            generation_.push({choice_, kind_, true, std::move(recipient)});
        }
    }

    void add_logprobs(const gptoss::Output& output) {
        Json logprobs = logprob_json(tokenizer_, output.token, output.logprob);
        Json& top = logprobs["top_logprobs"] = Json::array();
        for (const gptoss_logprob& likely : output.top_logprobs)
            top.push_back(logprob_json(tokenizer_, likely.token, likely.logprob));
        logprobs_.add(std::move(logprobs), text_of(tokenizer_, output.token).size());
    }

    void show(Piece::Kind kind, std::string text) {
        if (kind == Piece::Kind::text) {
            answered_ = true;
            if (stop_.stopped()) return;
            text = stop_.add(text);
        }
        emit(kind, std::move(text));
    }

    void emit(Piece::Kind kind, std::string text) {
        if (text.empty()) return;
        if (!begun_) generation_.push({choice_, kind, true, {}});
        begun_ = true;
        Json logprobs = kind == Piece::Kind::text ? logprobs_.take(text.size()) : Json::array();
        generation_.push({choice_, kind, false, std::move(text), Piece::End::none, std::move(logprobs)});
    }

    void flush() {
        if (!stop_.stopped() && kind_ == Piece::Kind::text) emit(Piece::Kind::text, stop_.finish());
    }

    // A turn that broke the format and has no answer: the text that it has in place of one.
    void add_malformed() {
        if (!harmony_->is_malformed()) return;
        for (const Json& message : Json::parse(harmony_->messages())) {
            if (message.value("channel", "") == "analysis" || !message.contains("raw_tokens")) continue;
            kind_ = Piece::Kind::text;
            begun_ = false;
            show(kind_, message.value("content", ""));
        }
    }

    // Special tokens by name, except the one that ends the text.
    void add_plain(const gptoss::Output& output) {
        if (!special_.empty()) show(Piece::Kind::text, std::exchange(special_, {}));
        if (generation_.turn_.top_logprobs) add_logprobs(output);
        if (const char* name = special_name(tokenizer_, output.token)) {
            special_ = name;
            return;
        }
        bytes_ += text_of(tokenizer_, output.token);
        show(Piece::Kind::text, take_characters());
    }

    // Whole characters; the beginning of one waits for its rest.
    std::string take_characters() {
        size_t end = bytes_.size(), back = 0;
        while (back < 4 && back < end && (static_cast<unsigned char>(bytes_[end - 1 - back]) & 0xC0) == 0x80) ++back;
        if (back < end) {
            const auto lead = static_cast<unsigned char>(bytes_[end - 1 - back]);
            const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
            if (back + 1 < size) end -= back + 1;
        }
        std::string out = bytes_.substr(0, end);
        bytes_.erase(0, end);
        return out;
    }

    Generation& generation_;
    const gptoss::Tokenizer& tokenizer_;
    const int choice_;
    StopStrings stop_;
    const uint32_t message_;
    std::optional<gptoss::HarmonyParser> harmony_;
    Piece::Kind kind_ = Piece::Kind::text;
    WaitingLogprobs logprobs_;
    bool begun_ = false, in_content_ = false, answered_ = false, called_ = false;
    std::string bytes_, special_;
};

Generation::Generation(Service& service, Turn turn, std::function<bool()> gone, Clock::time_point arrival)
    : service_(service), turn_(std::move(turn)), gone_(std::move(gone)), arrival_(arrival) {
    lease_ = service_.contexts.acquire(turn_.prompt, [this] { check(); });
    usage_.prompt = turn_.prompt.size();
    thread_ = std::thread([this] { run(); });
}

Generation::~Generation() {
    if (!thread_.joinable()) return;
    cancel();
    thread_.join();
}

void Generation::cancel() {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (lease_) gptoss_context_cancel(lease_->context.get());
}

void Generation::check() const { check_wanted(service_, gone_, arrival_); }

void check_wanted(const Service& service, const std::function<bool()>& gone, Clock::time_point arrival) {
    if (gone()) throw ClientGone();
    if (service.stopping) throw ApiError(503, "server_error", "stopping", "", "The server is being stopped.");
    const std::chrono::duration<double> limit(service.options.timeout);
    if (Clock::now() - arrival >= limit) {
        char seconds[32];
        std::snprintf(seconds, sizeof seconds, "%g", limit.count());
        throw ApiError(504, "server_error", "timeout", "",
                       std::string("The request took longer than the server's limit of ") + seconds + " seconds.");
    }
}

std::vector<Piece> Generation::next() {
    std::unique_lock lock(mutex_);
    while (pieces_.empty() && !done_) {
        changed_.wait_for(lock, std::chrono::milliseconds(100));
        check();
    }
    if (pieces_.empty() && error_) std::rethrow_exception(error_);
    return std::exchange(pieces_, {});
}

void Generation::push(Piece piece) {
    std::lock_guard lock(mutex_);
    pieces_.push_back(std::move(piece));
    changed_.notify_one();
}

void Generation::run_choice(gptoss::Context& context, int choice) {
    Parser parser(*this, choice);
    const gptoss::Sampler sampler = make_sampler(turn_, choice);
    context.reset();
    context.append(gptoss::span<const uint32_t>(turn_.prompt));
    gptoss::GenerateOptions options;
    options.sampler = &sampler;
    options.max_tokens = turn_.max_tokens;
    if (turn_.top_logprobs) {
        options.logprobs = gptoss_logprobs_model;
        options.num_top_logprobs = *turn_.top_logprobs;
    }
    const uint64_t computed_before = context.stats().prompt_tokens_computed;
    Clock::time_point first;
    size_t count = 0;
    const gptoss::Generated generated = context.generate(
        [&](const gptoss::Output& output) {
            if (count++ == 0) {
                first = Clock::now();
                if (choice == 0) service_.metrics.time_to_first_token(seconds_between(arrival_, first));
            }
            ++usage_.generated;
            return parser.add(output) || cancelled_;
        },
        options);
    if (choice == 0) usage_.cached = usage_.prompt - (context.stats().prompt_tokens_computed - computed_before);
    if (count > 1)
        service_.metrics.time_per_token(seconds_between(first, Clock::now()) / static_cast<double>(count - 1));
    push({choice, Piece::Kind::end, false, {}, parser.finish(generated.stop_reason)});
}

void Generation::run() noexcept {
    gptoss::Context& context = lease_->context;
    try {
        for (int choice = 0; choice < turn_.choices && !cancelled_; ++choice) run_choice(context, choice);
    } catch (const gptoss::Error& e) {
        if (e.status() == gptoss_status_device_lost) service_.device_lost = true;
        if (e.status() != gptoss_status_cancelled) std::fprintf(stderr, "gptoss-server: %s\n", e.what());
        error_ = std::make_exception_ptr(api_error(e));
    } catch (...) {
        error_ = std::current_exception();
    }
    service_.metrics.count_tokens(usage_.prompt, usage_.cached, usage_.generated);
    std::lock_guard lock(mutex_);
    done_ = true;
    gptoss_context_clear_cancel(context.get());
    try {
        lease_->tokens = context.tokens();
    } catch (...) {
        lease_->tokens.clear();
    }
    lease_.reset();
    changed_.notify_one();
}

ApiError api_error(const gptoss::Error& error) {
    switch (error.status()) {
        case gptoss_status_context_overflow:
            return {400, "invalid_request_error", "context_length_exceeded", "messages", error.what()};
        case gptoss_status_insufficient_memory:
        case gptoss_status_insufficient_resources:
            return {503, "server_error", "insufficient_memory", "", error.what()};
        default:
            return {500, "server_error", "internal_error", "", error.what()};
    }
}

}  // namespace server
