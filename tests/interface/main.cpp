// test_interface [SECONDS [SEED [ROUNDS [THREADS]]]]: fuzzes the C interface. Random bytes become a sequence of calls
// on a few contexts, samplers and parsers, some from callbacks, some beside a call that runs on another thread. A
// simple model knows what every call must return and what every handle must hold; calls that race have a set of allowed
// statuses. What a sequence leaves is the next one's; a round of them ends with the release of everything. Rounds run
// on several threads, whose contexts share two models. The last line is "N passed, N failed", of sequences. Built with
// a sanitizer, it is what that watches.
#include <gptoss.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "model/synthetic.h"

namespace {

using Tokens = std::vector<uint32_t>;

constexpr uint32_t kVocabulary = 96;
constexpr size_t kMostTokens = 24;  // of a context
constexpr int kSequences = 64;      // of a round

// A model, and what greedy draws have given with it: the token that follows others.
class Model {
  public:
    // Prints what failed where it cannot be made.
    explicit Model(const gptoss::test::Shape& shape) : checkpoint_(shape, 1) {
        gptoss_model_options options{};
        options.struct_size = sizeof options;
        options.device = std::getenv("GPTOSS_TEST_DEVICE");
        if (gptoss_model_create(checkpoint_.path().c_str(), &options, &handle) != gptoss_status_success)
            std::printf("%s\n", gptoss_last_error());
    }
    ~Model() { gptoss_model_release(handle); }

    // Whether the token is the one that was drawn there before, if any was.
    bool draws(const Tokens& after, uint32_t token) {
        const std::lock_guard lock(mutex_);
        if (greedy_.size() > 100000) greedy_.clear();
        return greedy_.emplace(after, token).first->second == token;
    }

    gptoss_model_t handle = nullptr;

  private:
    const gptoss::test::SyntheticCheckpoint checkpoint_;
    std::mutex mutex_;
    std::map<Tokens, uint32_t> greedy_;
};

// The bytes of a sequence; zeros once they are used up.
class Bytes {
  public:
    Bytes() = default;
    Bytes(std::mt19937_64& random, size_t n) : bytes_(n) {
        for (uint8_t& byte : bytes_) byte = static_cast<uint8_t>(random());
    }
    bool left() const { return at_ < bytes_.size(); }
    uint8_t next() { return left() ? bytes_[at_++] : 0; }
    uint32_t below(uint32_t n) { return next() % n; }

  private:
    std::vector<uint8_t> bytes_;
    size_t at_ = 0;
};

// A thread that runs one function beside its owner's, and then another.
class Beside {
  public:
    ~Beside() {
        run(nullptr);
        thread_.join();
    }
    // Begins to run it; NULL ends the thread.
    void run(std::function<void()> function) {
        const std::lock_guard lock(mutex_);
        function_ = std::move(function);
        running_ = true;
        changed_.notify_all();
    }
    void wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return !running_; });
    }

  private:
    void loop() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [&] { return running_; });
            if (!function_) return;
            lock.unlock();
            function_();
            lock.lock();
            running_ = false;
            changed_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::function<void()> function_;
    bool running_ = false;
    std::thread thread_{[this] { loop(); }};
};

class Round {
  public:
    Round(std::span<Model> models, gptoss_tokenizer_t tokenizer) : models_(models), tokenizer_(tokenizer) {}

    // Whether everything was as it must be.
    bool run(Bytes bytes) {
        bytes_ = std::move(bytes);
        create(contexts_[0]);
        if (contexts_[0].tokens.empty()) append(contexts_[0]);
        while (bytes_.left() && ok_) step();
        return ok_;
    }
    bool end() {
        for (Context& c : contexts_)
            for (; c.references > 0; c.references--) expect(gptoss_context_release(c.handle), {}, "release");
        for (gptoss_sampler_t sampler : samplers_) expect(gptoss_sampler_release(sampler), {}, "release");
        for (gptoss_harmony_parser_t parser : parsers_) expect(gptoss_harmony_parser_release(parser), {}, "release");
        return ok_;
    }
    uint64_t calls() const { return calls_; }
    uint64_t drawn() const { return drawn_; }  // greedy tokens that were held against each other

  private:
    struct Context {
        gptoss_context_t handle = nullptr;
        Model* model = nullptr;
        size_t references = 0;  // 0: the slot is empty
        size_t capacity = 0;
        Tokens tokens;
        bool cancelled = false;  // the next call that computes returns so
    };
    // What a callback does, and to whom.
    struct Callback {
        Round* round;
        Context* context;
        uint32_t action;
        gptoss_sampler_t sampler;
        uint32_t calls = 0;
        bool gone = false;  // it released the last reference
    };

    void wrong(const std::string& what) {
        ok_ = false;
        std::printf("WRONG: %s (last error: %s)\n", what.c_str(), gptoss_last_error());
    }
    // says_why: whether the thread that called has a message, if it was another one than this.
    void expect(gptoss_status got, std::initializer_list<gptoss_status> allowed, const char* call,
                std::optional<bool> says_why = std::nullopt) {
        calls_++;
        const bool fine = allowed.size() == 0 ? got == gptoss_status_success
                                              : std::find(allowed.begin(), allowed.end(), got) != allowed.end();
        if (!fine) wrong(std::string(call) + " returned " + gptoss_status_string(got));
        if (got != gptoss_status_success && !says_why.value_or(*gptoss_last_error()))
            wrong(std::string(call) + " failed without a message");
    }
    // The status of a call that computes: cancelled if a cancel waits for it, which is then over.
    void expect_computed(Context& c, gptoss_status got, const char* call) {
        expect(got, {c.cancelled ? gptoss_status_cancelled : gptoss_status_success}, call);
        c.cancelled = false;
    }

    // Of a call: mostly one, and now and then more than are in flight at once.
    uint32_t number_of_draws() {
        static constexpr uint32_t kNumbers[] = {1, 1, 1, 1, 2, 2, 3, 5};
        return kNumbers[bytes_.below(std::size(kNumbers))];
    }

    Context& context() { return contexts_[bytes_.below(contexts_.size())]; }
    gptoss_sampler_t& sampler() { return samplers_[bytes_.below(samplers_.size())]; }

    void step() {
        Context& c = context();
        switch (bytes_.below(21)) {
            case 0:
                return create(c);
            case 1:
                return fork(c);
            case 2:
            case 3:
                return append(c);
            case 4:
                return truncate(c);
            case 5:
                return release_or_retain(c);
            case 6:
                return check(c);
            case 7:
            case 8:
                return sample(c);
            case 9:
            case 10:
            case 11:
                return generate(c);
            case 12:
                return cancel(c);
            case 13:
                return process(c);
            case 14:
                return save_and_restore(c);
            case 15:
                return set_sampler();
            case 16:
                return parse();
            case 17:
                return generate_together();
            case 18:
                return encode();
            default:
                return beside_a_thread(c);
        }
    }

    void create(Context& c) {
        if (c.references > 0) return;
        const size_t length = bytes_.below(kMostTokens + 2), batch = bytes_.below(8);
        const bool fine = batch <= (length ? length : 4096);
        Model& model = models_[bytes_.below(static_cast<uint32_t>(models_.size()))];
        expect(gptoss_context_create(model.handle, length, batch, &c.handle),
               {fine ? gptoss_status_success : gptoss_status_invalid_argument}, "create");
        if (!c.handle) return;
        c = {c.handle, &model, 1, length ? length : 4096, {}, false};
    }

    void fork(Context& c) {
        Context& to = context();
        if (c.references == 0 || to.references > 0) return;
        expect(gptoss_context_fork(c.handle, &to.handle), {}, "fork");
        to = {to.handle, c.model, 1, c.capacity, c.tokens, false};
    }

    void append(Context& c) {
        Tokens tokens(bytes_.below(6));
        bool valid = true;
        for (uint32_t& token : tokens) {
            token = bytes_.below(kVocabulary + 1);
            valid &= token < kVocabulary;
        }
        const gptoss_status status = gptoss_context_append_tokens(c.handle, tokens.size(), tokens.data());
        if (c.references == 0) return expect(status, {gptoss_status_invalid_argument}, "append to NULL");
        const bool fits = tokens.size() <= c.capacity - c.tokens.size();
        if (fits && valid) {
            expect(status, {}, "append");
            c.tokens.insert(c.tokens.end(), tokens.begin(), tokens.end());
        } else {
            expect(status, {fits ? gptoss_status_invalid_argument : gptoss_status_context_overflow}, "append");
        }
    }

    void truncate(Context& c) {
        const size_t n = bytes_.below(kMostTokens + 2);
        const gptoss_status status = gptoss_context_truncate(c.handle, n);
        const bool fine = c.references > 0 && n <= c.tokens.size();
        expect(status, {fine ? gptoss_status_success : gptoss_status_invalid_argument}, "truncate");
        if (fine) c.tokens.resize(n);
    }

    void release_or_retain(Context& c) {
        if (c.references == 0) return expect(gptoss_context_release(nullptr), {}, "release of NULL");
        if (bytes_.below(2)) {
            expect(gptoss_context_retain(c.handle), {}, "retain");
            c.references++;
            return;
        }
        expect(gptoss_context_release(c.handle), {}, "release");
        if (--c.references == 0) c = {};
    }

    void check(Context& c) {
        if (c.references == 0) return;
        Tokens held(c.tokens.size() + 1);
        size_t n = 0;
        expect(gptoss_context_get_tokens(c.handle, held.data(), held.size(), &n), {}, "get_tokens");
        held.resize(std::min(n, held.size()));
        if (held != c.tokens) wrong("a context holds other tokens");
    }

    void process(Context& c) {
        if (c.references == 0) return;
        const gptoss_status status = gptoss_context_process(c.handle);
        if (c.tokens.empty()) return expect(status, {}, "process of nothing");
        expect_computed(c, status, "process");
    }

    // Greedy tokens follow from those before, whatever else the engine does: they are held against each other.
    void took(Context& c, uint32_t token) {
        drawn_++;
        if (!c.model->draws(c.tokens, token)) wrong("a greedy token differs from the one drawn there before");
        c.tokens.push_back(token);
    }

    void sample(Context& c) {
        if (c.references == 0) return;
        static constexpr float kBad[] = {-1, std::numeric_limits<float>::quiet_NaN(),
                                         std::numeric_limits<float>::infinity()};
        const uint32_t most = number_of_draws();
        std::array<uint32_t, 5> tokens{};
        size_t n = 0;
        if (bytes_.below(8) == 0) {
            const gptoss_status status =
                gptoss_context_sample(c.handle, kBad[bytes_.below(3)], 0, most, tokens.data(), &n);
            return expect(status, {gptoss_status_invalid_argument}, "sample at a bad temperature");
        }
        const gptoss_status status = gptoss_context_sample(c.handle, 0, 0, most, tokens.data(), &n);
        if (c.tokens.empty() && !c.cancelled) return expect(status, {gptoss_status_invalid_state}, "sample of nothing");
        if (c.tokens.empty()) {
            expect(status, {gptoss_status_invalid_state, gptoss_status_cancelled}, "sample of nothing");
            c.cancelled = status != gptoss_status_cancelled;
            return;
        }
        const bool full = c.tokens.size() == c.capacity;
        if (full && c.cancelled) {  // nothing to compute: the cancel may wait on
            expect(status, {gptoss_status_success, gptoss_status_cancelled}, "sample when full");
            c.cancelled = status != gptoss_status_cancelled;
            return;
        }
        const bool was_cancelled = c.cancelled;
        expect_computed(c, status, "sample");
        if (!was_cancelled && n != std::min<size_t>(most, c.capacity - c.tokens.size()))
            wrong("sample drew " + std::to_string(n) + " tokens");
        for (size_t i = 0; i < n; i++) took(c, tokens[i]);
    }

    static int on_token(void* user_data, uint32_t token) {
        auto& call = *static_cast<Callback*>(user_data);
        Round& s = *call.round;
        Context& c = *call.context;
        if (call.sampler)
            c.tokens.push_back(token);
        else
            s.took(c, token);
        call.calls++;
        size_t n = 0;
        switch (call.action) {
            case 1:
                return 1;
            case 2:
                s.expect(gptoss_context_cancel(c.handle), {}, "cancel in a callback");
                break;
            case 3:
                s.expect(gptoss_context_append_tokens(c.handle, 1, &token), {gptoss_status_invalid_state},
                         "append in a callback");
                break;
            case 4:
                s.expect(gptoss_context_get_num_tokens(c.handle, &n), {}, "get_num_tokens in a callback");
                if (n != c.tokens.size()) s.wrong("a callback sees another number of tokens");
                break;
            case 5:  // the call holds the context still
                if (call.calls > 1) break;
                s.expect(gptoss_context_release(c.handle), {}, "release in a callback");
                call.gone = --c.references == 0;
                return call.gone;
            case 6:
                s.expect(gptoss_context_sample(c.handle, 0, 0, 1, &token, &n), {gptoss_status_invalid_state},
                         "sample in a callback");
                break;
            case 7: {  // another context of the model
                gptoss_context_t other = nullptr;
                s.expect(gptoss_context_create(c.model->handle, 8, 0, &other), {}, "create in a callback");
                s.expect(gptoss_context_append_tokens(other, 1, &token), {}, "append in a callback");
                s.expect(gptoss_context_sample(other, 0, 0, 1, &token, &n), {}, "sample of another in a callback");
                s.expect(gptoss_context_release(other), {}, "release of another in a callback");
                break;
            }
        }
        return 0;
    }

    gptoss_generate_options options_of(Callback& call) {
        gptoss_generate_options options{};
        options.struct_size = sizeof options;
        options.max_tokens = number_of_draws();
        static constexpr uint32_t kNever = 1000;
        options.stop_tokens = &kNever;
        options.num_stop_tokens = 1;
        options.callback = on_token;
        options.user_data = &call;
        return options;
    }

    void generate(Context& c) {
        if (c.references == 0) return;
        Callback call{this, &c, bytes_.below(8), bytes_.below(2) ? sampler() : nullptr};
        const gptoss_generate_options options = options_of(call);
        const size_t room = c.capacity - c.tokens.size();
        const bool empty = c.tokens.empty(), waits = c.cancelled;
        size_t n = 0;
        gptoss_stop_reason reason{};
        const gptoss_status status = gptoss_context_generate(c.handle, call.sampler, &options, &n, &reason);
        if (n != call.calls) wrong("generate counts " + std::to_string(n) + " tokens of " + std::to_string(call.calls));
        if (empty || (room == 0 && waits)) {
            expect(status, {gptoss_status_success, gptoss_status_invalid_state, gptoss_status_cancelled}, "generate");
            c.cancelled = waits && status != gptoss_status_cancelled;
        } else if (waits) {
            expect_computed(c, status, "generate");
        } else if (call.action == 2 && call.calls > 0) {  // its cancel may come after the last token
            expect(status, {gptoss_status_success, gptoss_status_cancelled}, "generate");
            if (status == gptoss_status_success) expect(gptoss_context_clear_cancel(c.handle), {}, "clear_cancel");
        } else {
            expect(status, {}, "generate");
            if (call.action != 1 && !call.gone && n != std::min(options.max_tokens, room))
                wrong("generate drew " + std::to_string(n) + " tokens");
        }
        if (call.gone) c = {};
    }

    void generate_together() {
        std::array<Callback, 3> calls;
        std::array<gptoss_generate_options, 3> options;
        std::array<gptoss_generation, 3> generations{};
        size_t n = 0;
        for (Context& c : contexts_) {
            if (n == calls.size() || c.references == 0 || c.tokens.empty() || c.cancelled) continue;
            calls[n] = {this, &c, bytes_.below(2) * 4, nullptr};
            options[n] = options_of(calls[n]);
            generations[n] = {sizeof(gptoss_generation), c.handle, nullptr, &options[n], 0, {}, {}};
            n++;
        }
        const bool mixed = std::any_of(calls.begin(), calls.begin() + n,
                                       [&](auto& c) { return c.context->model != calls[0].context->model; });
        std::array<size_t, 3> rooms{};
        for (size_t i = 0; i < n; i++) rooms[i] = calls[i].context->capacity - calls[i].context->tokens.size();
        expect(gptoss_generate_together(generations.data(), n),
               {mixed ? gptoss_status_invalid_argument : gptoss_status_success}, "generate_together");
        if (mixed) return;
        for (size_t i = 0; i < n; i++)
            if (generations[i].num_tokens != std::min(options[i].max_tokens, rooms[i]) ||
                generations[i].num_tokens != calls[i].calls)
                wrong("generate_together drew " + std::to_string(generations[i].num_tokens) + " tokens");
    }

    void cancel(Context& c) {
        if (c.references == 0) return;
        const bool take_back = bytes_.below(2);
        expect(take_back ? gptoss_context_clear_cancel(c.handle) : gptoss_context_cancel(c.handle), {}, "cancel");
        c.cancelled = !take_back;
    }

    void save_and_restore(Context& c) {
        Context& to = context();
        if (c.references == 0 || to.references == 0) return;
        size_t size = 0;
        expect(gptoss_context_save(c.handle, nullptr, 0, &size), {}, "save");
        std::vector<char> state(size);
        expect(gptoss_context_save(c.handle, state.data(), size, &size), {}, "save");
        const bool damaged = bytes_.below(4) == 0;
        if (damaged) state[bytes_.next() % state.size()] ^= static_cast<char>(1 + bytes_.below(255));
        const gptoss_status status = gptoss_context_restore(to.handle, state.data(), state.size());
        const bool fits = c.tokens.size() <= to.capacity;
        if (damaged || c.model != to.model)
            return expect(
                status,
                {gptoss_status_invalid_argument, gptoss_status_unsupported_argument, gptoss_status_context_overflow},
                "restore of damage, or of another model's");
        if (!fits) return expect(status, {gptoss_status_context_overflow}, "restore");
        // what it computed before it was cut short may be more than the other holds
        expect(status, {gptoss_status_success, gptoss_status_context_overflow}, "restore");
        if (status == gptoss_status_success) to.tokens = c.tokens;
    }

    void set_sampler() {
        gptoss_sampler_t& s = sampler();
        if (!s) return expect(gptoss_sampler_create(&s), {}, "sampler_create");
        static constexpr float kValues[] = {0, 1e-40f, 0.5f, 1, 2, -1, std::numeric_limits<float>::quiet_NaN()};
        const float value = kValues[bytes_.below(std::size(kValues))];
        switch (bytes_.below(4)) {
            case 0:
                return expect(gptoss_sampler_set_temperature(s, value),
                              {value >= 0 ? gptoss_status_success : gptoss_status_invalid_argument}, "temperature");
            case 1:
                return expect(gptoss_sampler_set_top_p(s, value),
                              {value > 0 && value <= 1 ? gptoss_status_success : gptoss_status_invalid_argument},
                              "top_p");
            case 2:
                return expect(gptoss_sampler_set_frequency_penalty(s, value),
                              {std::abs(value) <= 2 ? gptoss_status_success : gptoss_status_invalid_argument},
                              "frequency_penalty");
            default:
                expect(gptoss_sampler_release(s), {}, "sampler_release");
                s = nullptr;
        }
    }

    void parse() {
        gptoss_harmony_parser_t& p = parsers_[bytes_.below(parsers_.size())];
        if (!p) return expect(gptoss_harmony_parser_create(tokenizer_, &p), {}, "parser_create");
        for (uint32_t n = bytes_.below(6); n > 0; n--) {
            const uint32_t token = bytes_.below(2) ? 200000 + bytes_.below(20) : bytes_.next();
            expect(gptoss_harmony_parser_process(p, token), {}, "parser_process");
        }
        size_t size = 0;
        expect(gptoss_harmony_parser_get_messages(p, nullptr, 0, &size), {}, "get_messages");
        std::string json(size, ' ');
        expect(gptoss_harmony_parser_get_messages(p, json.data(), size, &size), {}, "get_messages");
        if (json.size() < 2 || json.front() != '[' || json.back() != ']') wrong("the messages are no array");
        if (bytes_.below(4) > 0) return;
        expect(gptoss_harmony_parser_release(p), {}, "parser_release");
        p = nullptr;
    }

    // Text-only calls: any bytes come back from their tokens.
    void encode() {
        std::string text(bytes_.below(12), ' ');
        for (char& c : text) c = static_cast<char>(bytes_.next());
        std::array<uint32_t, 12> tokens{};
        size_t n = 0, size = 0;
        expect(gptoss_tokenizer_encode(tokenizer_, text.data(), text.size(), bytes_.below(2), tokens.data(),
                                       tokens.size(), &n),
               {}, "encode");
        std::string back(text.size() + 1, ' ');
        expect(gptoss_tokenizer_decode_tokens(tokenizer_, tokens.data(), n, back.data(), back.size(), &size), {},
               "decode_tokens");
        back.resize(std::min(size, back.size()));
        if (back != text) wrong("encoded text does not come back");
    }

    // Another thread generates on the context, which this one uses, cancels and releases meanwhile.
    void beside_a_thread(Context& c) {
        if (c.references == 0 || c.tokens.empty()) return;
        const gptoss_context_t handle = c.handle;
        gptoss_status status{};
        bool says_why = false;
        size_t n = 0;
        std::array<uint32_t, 4> drawn{};
        expect(gptoss_context_retain(handle), {}, "retain");
        beside_.run([&] {
            status = gptoss_context_sample(handle, 0, 0, drawn.size(), drawn.data(), &n);
            says_why = *gptoss_last_error();
        });
        bool changed = false;
        for (uint32_t calls = bytes_.below(4); calls > 0; calls--) {
            size_t count = 0;
            switch (bytes_.below(3)) {
                case 0:
                    expect(gptoss_context_cancel(handle), {}, "cancel beside");
                    c.cancelled = true;
                    break;
                case 1:
                    expect(gptoss_context_get_num_tokens(handle, &count),
                           {gptoss_status_success, gptoss_status_invalid_state}, "get_num_tokens beside");
                    break;
                default: {
                    const gptoss_status cut = gptoss_context_truncate(handle, 0);
                    expect(cut, {gptoss_status_success, gptoss_status_invalid_state}, "truncate beside");
                    changed |= cut == gptoss_status_success;
                }
            }
        }
        const bool release = bytes_.below(3) == 0;
        if (release) expect(gptoss_context_release(handle), {}, "release beside");
        beside_.wait();
        expect(status, {gptoss_status_success, gptoss_status_cancelled, gptoss_status_invalid_state}, "sample beside",
               says_why);
        // a cancel may have come before or after the call; what it drew, and whether it was cut before or after, is
        // told
        Tokens held(4096);
        expect(gptoss_context_clear_cancel(handle), {}, "clear_cancel");
        expect(gptoss_context_get_tokens(handle, held.data(), held.size(), &n), {}, "get_tokens");
        held.resize(n);
        if (!changed && !std::equal(c.tokens.begin(), c.tokens.end(), held.begin(),
                                    held.begin() + std::min(held.size(), c.tokens.size())))
            wrong("a thread's call changed what the context held");
        c.tokens = held;
        c.cancelled = false;
        expect(gptoss_context_release(handle), {}, "release");
        if (release && --c.references == 0) c = {};
    }

    const std::span<Model> models_;
    const gptoss_tokenizer_t tokenizer_;
    Bytes bytes_;
    Beside beside_;
    std::array<Context, 4> contexts_;
    std::array<gptoss_sampler_t, 2> samplers_{};
    std::array<gptoss_harmony_parser_t, 2> parsers_{};
    uint64_t calls_ = 0, drawn_ = 0;
    bool ok_ = true;
};

}  // namespace

int main(int argc, char** argv) {
    const auto number = [&](int i, uint64_t otherwise) {
        return argc > i ? std::strtoull(argv[i], nullptr, 10) : otherwise;
    };
    const double seconds = argc > 1 ? std::atof(argv[1]) : 30;
    const uint64_t seed = number(2, std::random_device{}()), rounds = number(3, UINT64_MAX), threads = number(4, 4);
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    // the threads of a software device would wait for each other more than they compute
    setenv("LP_NUM_THREADS", "0", 0);
    // as small as they may be, and each with one of both kinds of caches
    gptoss::test::Shape shape{.hidden = 32, .intermediate = 32, .heads = 2, .kv_heads = 1, .experts = 2, .active = 1};
    shape.vocab = kVocabulary;
    shape.sliding = {true};
    gptoss::test::Shape other = shape;
    other.sliding = {false};
    std::array<Model, 2> models{Model(shape), Model(other)};
    gptoss_tokenizer_t tokenizer = nullptr;
    if (!models[0].handle || !models[1].handle ||
        gptoss_tokenizer_create(nullptr, &tokenizer) != gptoss_status_success) {
        std::printf("0 passed, 1 failed\n");
        return 1;
    }
    std::atomic<uint64_t> begun{0}, passed{0}, failed{0}, calls{0}, drawn{0};
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    const auto run = [&] {
        for (uint64_t i = begun++; i < rounds && failed < 10 && std::chrono::steady_clock::now() < end; i = begun++) {
            std::mt19937_64 random(seed + i);
            Round round(models, tokenizer);
            bool ok = true;
            for (int n = 0; n < kSequences && ok; n++) {
                ok = round.run(Bytes(random, 8 + random() % 48));
                passed += ok;
            }
            if (!round.end() || !ok) {
                failed++;
                std::printf("^ round: test_interface %g %llu 1\n", seconds, static_cast<unsigned long long>(seed + i));
            }
            calls += round.calls();
            drawn += round.drawn();
        }
    };
    std::vector<std::thread> others;
    for (uint64_t i = 1; i < threads; i++) others.emplace_back(run);
    run();
    for (std::thread& thread : others) thread.join();
    gptoss_tokenizer_release(tokenizer);
    std::printf("%llu calls, %llu greedy tokens compared\n%llu passed, %llu failed\n",
                static_cast<unsigned long long>(calls), static_cast<unsigned long long>(drawn),
                static_cast<unsigned long long>(passed), static_cast<unsigned long long>(failed));
    return failed > 0;
}
