// C++ over gptoss.h: owning handles, exceptions, spans. Header only; C++17, with std::span from C++20 on.
//
//     gptoss::Model model("gpt-oss-20b");
//     gptoss::Context context(model);
//     context.append("The capital of France is");
//     context.generate([&](uint32_t token) { std::cout << model.tokenizer().decode(token); });
//
// Model, Tokenizer, Grammar and Adapter may be copied, which shares them, and used from any number of threads. Context,
// Sampler and HarmonyParser move only, and belong to one thread at a time; Context::cancel may come from any. A handle
// that was moved from throws Error, invalid_argument, when it is used.
//
// Nothing here allocates between the tokens of a generation.
//
// In a program that is compiled without exceptions an error ends the program by std::abort; where errors are to be
// handled, gptoss.h returns them.
#ifndef GPTOSS_HPP
#define GPTOSS_HPP

#include <gptoss.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if __cplusplus >= 202002L
#include <span>
#endif

namespace gptoss {

#if __cplusplus >= 202002L
using std::span;
#else
// As much of std::span as this header needs.
template <typename T>
class span {
  public:
    constexpr span() = default;
    constexpr span(T* data, std::size_t size) : data_(data), size_(size) {}
    template <std::size_t N>
    constexpr span(T (&array)[N]) : data_(array), size_(N) {}
    template <typename C, typename = decltype(static_cast<T*>(std::declval<C&>().data()))>
    constexpr span(C&& container) : data_(container.data()), size_(container.size()) {}

    constexpr T* data() const { return data_; }
    constexpr std::size_t size() const { return size_; }
    constexpr T* begin() const { return data_; }
    constexpr T* end() const { return data_ + size_; }

  private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

// What the library reports: what() is its message.
class Error : public std::runtime_error {
  public:
    Error(gptoss_status status, const std::string& message) : std::runtime_error(message), status_(status) {}

    gptoss_status status() const noexcept { return status_; }

  private:
    gptoss_status status_;
};

inline void check(gptoss_status status) {
    if (status == gptoss_status_success) return;
#if defined(__cpp_exceptions)
    const char* message = gptoss_last_error();
    throw Error(status, *message ? message : gptoss_status_string(status));
#else
    std::abort();
#endif
}

inline std::vector<gptoss_device_info> devices() {
    uint32_t count = 0;
    check(gptoss_device_count(&count));
    std::vector<gptoss_device_info> devices(count);
    for (uint32_t i = 0; i < count; i++) {
        devices[i].struct_size = sizeof(gptoss_device_info);
        check(gptoss_device_get_info(i, &devices[i]));
    }
    return devices;
}

// How fast a device copies its own memory, in bytes read and written a second; takes about a second.
inline double measure_bandwidth(uint32_t device) {
    double bytes_per_second = 0;
    check(gptoss_device_measure_bandwidth(device, &bytes_per_second));
    return bytes_per_second;
}

// Owns one reference.
template <typename T, gptoss_status (*Retain)(T), gptoss_status (*Release)(T)>
class Handle {
  public:
    Handle() = default;
    // Takes over a reference that the caller holds.
    explicit Handle(T handle) : handle_(handle) {}
    Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle(const Handle& other) : handle_(other.handle_) {
        if (handle_) Retain(handle_);
    }
    Handle& operator=(Handle other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Handle() { Release(handle_); }

    // For calls of the C interface; stays owned.
    T get() const noexcept { return handle_; }
    explicit operator bool() const noexcept { return handle_ != nullptr; }

  private:
    T handle_ = nullptr;
};

class Tokenizer {
  public:
    // The built-in o200k_harmony.
    Tokenizer() { create(nullptr); }
    // A tokenizer.json, .tiktoken or .gguf file, or a directory that holds one.
    explicit Tokenizer(const std::string& path) { create(path.c_str()); }
    explicit Tokenizer(gptoss_tokenizer_t handle) : handle_(handle) {}

    // allow_special: "<|start|>" and the like become special tokens.
    std::vector<uint32_t> encode(std::string_view text, bool allow_special = false) const {
        std::vector<uint32_t> tokens(text.size());  // no token is shorter than a byte
        std::size_t n = 0;
        check(
            gptoss_tokenizer_encode(get(), text.data(), text.size(), allow_special, tokens.data(), tokens.size(), &n));
        tokens.resize(n);
        return tokens;
    }
    // The bytes of one text token, which live as long as the tokenizer; part of a character is normal.
    std::string_view decode(uint32_t token) const {
        const void* bytes = nullptr;
        std::size_t size = 0;
        check(gptoss_tokenizer_decode(get(), token, &bytes, &size));
        return {static_cast<const char*>(bytes), size};
    }
    // Special tokens by name.
    std::string decode(span<const uint32_t> tokens) const {
        std::size_t size = 0;
        check(gptoss_tokenizer_decode_tokens(get(), tokens.data(), tokens.size(), nullptr, 0, &size));
        std::string text(size, '\0');
        check(gptoss_tokenizer_decode_tokens(get(), tokens.data(), tokens.size(), text.data(), size, &size));
        return text;
    }
    uint32_t special_token(gptoss_special_token type) const {
        uint32_t token = 0;
        check(gptoss_tokenizer_get_special_token_id(get(), type, &token));
        return token;
    }
    uint32_t special_token(const std::string& name) const {
        uint32_t token = 0;
        check(gptoss_tokenizer_find_special_token(get(), name.c_str(), &token));
        return token;
    }
    std::string_view special_token_name(uint32_t token) const {
        const char* name = nullptr;
        check(gptoss_tokenizer_get_special_token_name(get(), token, &name));
        return name;
    }
    uint32_t num_text_tokens() const { return count(gptoss_tokenizer_get_num_text_tokens); }
    uint32_t num_special_tokens() const { return count(gptoss_tokenizer_get_num_special_tokens); }
    uint32_t num_tokens() const { return count(gptoss_tokenizer_get_num_tokens); }

    // The tokens of a Harmony conversation in JSON, ready for the assistant's turn.
    std::vector<uint32_t> render(std::string_view conversation_json) const {
        std::vector<uint32_t> tokens;
        std::size_t n = 0;
        do {
            tokens.resize(n);
            check(gptoss_harmony_render(get(), conversation_json.data(), conversation_json.size(), tokens.data(),
                                        tokens.size(), &n));
        } while (n > tokens.size());
        return tokens;
    }

    gptoss_tokenizer_t get() const noexcept { return handle_.get(); }

  private:
    void create(const char* path) {
        gptoss_tokenizer_t handle = nullptr;
        check(gptoss_tokenizer_create(path, &handle));
        handle_ = decltype(handle_)(handle);
    }
    uint32_t count(gptoss_status (*getter)(gptoss_tokenizer_t, uint32_t*)) const {
        uint32_t n = 0;
        check(getter(get(), &n));
        return n;
    }

    Handle<gptoss_tokenizer_t, gptoss_tokenizer_retain, gptoss_tokenizer_release> handle_;
};

class Model {
  public:
    explicit Model(const std::string& path) { create(path, nullptr); }
    Model(const std::string& path, gptoss_model_options options) {
        options.struct_size = sizeof(options);
        create(path, &options);
    }

    // What a model so loaded and a context of it would take; loads nothing.
    static gptoss_memory_estimate estimate_memory(const std::string& path, gptoss_model_options options = {},
                                                  std::size_t context_length = 0, std::size_t max_batch_tokens = 0) {
        gptoss_memory_estimate estimate{};
        estimate.struct_size = sizeof(estimate);
        options.struct_size = sizeof(options);
        check(gptoss_model_estimate_memory(path.c_str(), &options, context_length, max_batch_tokens, &estimate));
        return estimate;
    }

    gptoss_model_info info() const {
        gptoss_model_info info{};
        info.struct_size = sizeof(info);
        check(gptoss_model_get_info(get(), &info));
        return info;
    }
    Tokenizer tokenizer() const {
        gptoss_tokenizer_t tokenizer = nullptr;
        check(gptoss_model_get_tokenizer(get(), &tokenizer));
        return Tokenizer(tokenizer);
    }
    std::size_t max_context_length() const {
        std::size_t n = 0;
        check(gptoss_model_get_max_context_length(get(), &n));
        return n;
    }

    // A vector for each text, of its tokens: (texts, hidden_size). gptoss.h says what it is good for.
    std::vector<float> embed(span<const std::vector<uint32_t>> texts, gptoss_pooling pooling = gptoss_pooling_last,
                             bool normalize = true) const {
        std::vector<uint32_t> tokens;
        std::vector<std::size_t> sizes;
        for (const std::vector<uint32_t>& text : texts) {
            tokens.insert(tokens.end(), text.begin(), text.end());
            sizes.push_back(text.size());
        }
        tokens.push_back(0);  // so that there is an address where all texts are empty
        gptoss_embedding_options options{};
        options.struct_size = sizeof(options);
        options.pooling = pooling;
        options.unnormalized = normalize ? 0 : 1;
        std::vector<float> embeddings(texts.size() * info().hidden_size);
        check(gptoss_model_embed(get(), texts.size(), tokens.data(), sizes.data(), &options, embeddings.data()));
        return embeddings;
    }

    // The logits of residual states, (states, hidden_size): (states, vocabulary_size).
    std::vector<float> unembed(span<const float> states) const {
        const gptoss_model_info of = info();
        const std::size_t n = states.size() / of.hidden_size;
        std::vector<float> logits(n * of.vocabulary_size);
        check(gptoss_model_unembed(get(), n, states.data(), logits.data()));
        return logits;
    }

    gptoss_model_t get() const noexcept { return handle_.get(); }

  private:
    void create(const std::string& path, const gptoss_model_options* options) {
        gptoss_model_t handle = nullptr;
        check(gptoss_model_create(path.c_str(), options, &handle));
        handle_ = decltype(handle_)(handle);
    }

    Handle<gptoss_model_t, gptoss_model_retain, gptoss_model_release> handle_;
};

// A LoRA adapter of a model, for Context::adapter.
class Adapter {
  public:
    // path: a directory of PEFT's, or a GGUF file.
    Adapter(const Model& model, const std::string& path) {
        gptoss_adapter_t handle = nullptr;
        check(gptoss_adapter_create(model.get(), path.c_str(), &handle));
        handle_ = decltype(handle_)(handle);
    }

    gptoss_adapter_info info() const {
        gptoss_adapter_info info{};
        info.struct_size = sizeof(info);
        check(gptoss_adapter_get_info(get(), &info));
        return info;
    }

    gptoss_adapter_t get() const noexcept { return handle_.get(); }

  private:
    Handle<gptoss_adapter_t, gptoss_adapter_retain, gptoss_adapter_release> handle_;
};

// Which texts an answer may be; made with the model's own tokenizer. gptoss.h says more of each kind.
class Grammar {
  public:
    static Grammar json_schema(const Tokenizer& tokenizer, std::string_view schema) {
        return make(gptoss_grammar_create_from_json_schema, tokenizer, schema);
    }
    static Grammar regex(const Tokenizer& tokenizer, std::string_view regex) {
        return make(gptoss_grammar_create_from_regex, tokenizer, regex);
    }
    static Grammar gbnf(const Tokenizer& tokenizer, std::string_view gbnf) {
        return make(gptoss_grammar_create_from_gbnf, tokenizer, gbnf);
    }
    // Of the assistant's whole turn: tools, tool_choice, response_format, reasoning as JSON.
    static Grammar harmony(const Tokenizer& tokenizer, std::string_view options_json) {
        return make(gptoss_grammar_create_from_harmony, tokenizer, options_json);
    }

    gptoss_grammar_t get() const noexcept { return handle_.get(); }

  private:
    using Create = gptoss_status (*)(gptoss_tokenizer_t, const char*, std::size_t, gptoss_grammar_t*);
    static Grammar make(Create create, const Tokenizer& tokenizer, std::string_view text) {
        Grammar grammar;
        gptoss_grammar_t handle = nullptr;
        check(create(tokenizer.get(), text.data() ? text.data() : "", text.size(), &handle));
        grammar.handle_ = decltype(handle_)(handle);
        return grammar;
    }
    Grammar() = default;

    Handle<gptoss_grammar_t, gptoss_grammar_retain, gptoss_grammar_release> handle_;
};

class Sampler {
  public:
    Sampler() {
        gptoss_sampler_t handle = nullptr;
        check(gptoss_sampler_create(&handle));
        handle_ = decltype(handle_)(handle);
    }
    Sampler(Sampler&&) = default;
    Sampler& operator=(Sampler&&) = default;

    // Each returns the sampler: sampler.temperature(0.7f).top_p(0.9f).
    Sampler& temperature(float value) { return set(gptoss_sampler_set_temperature, value); }
    Sampler& top_k(uint32_t value) { return set(gptoss_sampler_set_top_k, value); }
    Sampler& top_p(float value) { return set(gptoss_sampler_set_top_p, value); }
    Sampler& min_p(float value) { return set(gptoss_sampler_set_min_p, value); }
    Sampler& presence_penalty(float value) { return set(gptoss_sampler_set_presence_penalty, value); }
    Sampler& frequency_penalty(float value) { return set(gptoss_sampler_set_frequency_penalty, value); }
    Sampler& repetition_penalty(float value) { return set(gptoss_sampler_set_repetition_penalty, value); }
    Sampler& seed(uint64_t value) { return set(gptoss_sampler_set_seed, value); }
    // Adds each bias to the logit of the token in the same place, instead of those set before.
    Sampler& logit_bias(span<const uint32_t> tokens, span<const float> biases) {
        if (tokens.size() != biases.size()) {
#if defined(__cpp_exceptions)
            throw Error(gptoss_status_invalid_argument, "logit_bias: as many biases as tokens are needed");
#else
            std::abort();
#endif
        }
        check(gptoss_sampler_set_logit_bias(get(), tokens.size(), tokens.data(), biases.data()));
        return *this;
    }
    // The answer follows the grammar.
    Sampler& grammar(const Grammar& grammar) { return set(gptoss_sampler_set_grammar, grammar.get()); }
    Sampler& no_grammar() { return set(gptoss_sampler_set_grammar, gptoss_grammar_t{nullptr}); }

    gptoss_sampler_t get() const noexcept { return handle_.get(); }

  private:
    template <typename V>
    Sampler& set(gptoss_status (*setter)(gptoss_sampler_t, V), V value) {
        check(setter(get(), value));
        return *this;
    }

    Handle<gptoss_sampler_t, gptoss_sampler_retain, gptoss_sampler_release> handle_;
};

struct GenerateOptions {
    const Sampler* sampler = nullptr;  // greedy without one
    std::size_t max_tokens = 0;        // 0: until a stop token or until the context is full
    // By default <|return|>, <|call|> and <|endoftext|>; with an empty span nothing but the length stops.
    std::optional<span<const uint32_t>> stop_tokens;
    gptoss_prompt_lookup prompt_lookup = gptoss_prompt_lookup_default;
    // Texts that end the answer, and that no output's text holds; NUL-terminated.
    span<const char* const> stop_strings{};
    gptoss_logprobs logprobs = gptoss_logprobs_none;
    uint32_t num_top_logprobs = 0;

    // For calls of the C interface, without its callbacks.
    gptoss_generate_options c_options(gptoss_usage* usage) const {
        static constexpr uint32_t none = 0;
        gptoss_generate_options out{};
        out.struct_size = sizeof(out);
        out.max_tokens = max_tokens;
        out.prompt_lookup = prompt_lookup;
        if (stop_tokens) {
            out.stop_tokens = stop_tokens->size() ? stop_tokens->data() : &none;
            out.num_stop_tokens = stop_tokens->size();
        }
        out.stop_strings = stop_strings.data();
        out.num_stop_strings = stop_strings.size();
        out.logprobs = logprobs;
        out.num_top_logprobs = num_top_logprobs;
        usage->struct_size = sizeof(*usage);
        out.usage_out = usage;
        return out;
    }
};

struct Generated {
    std::size_t num_tokens = 0;
    gptoss_stop_reason stop_reason = gptoss_stop_reason_none;
    gptoss_usage usage{};
};

// A token with its text and log-probabilities, until the callback returns.
struct Output {
    uint32_t token;
    std::string_view text;
    float logprob;
    span<const gptoss_logprob> top_logprobs;

    explicit Output(const gptoss_output& out)
        : token(out.token),
          text(out.text, out.text_size),
          logprob(out.logprob),
          top_logprobs(out.top_logprobs, out.num_top_logprobs) {}
};

// What a tap hands over, until the callback returns; gptoss.h has the kinds and their shapes.
struct Tap {
    gptoss_tap_kind kind;
    uint32_t layer;
    std::size_t position;
    std::size_t num_rows, num_columns;
    span<const float> values;  // (num_rows, num_columns)

    explicit Tap(const gptoss_tap& tap)
        : kind(tap.kind),
          layer(tap.layer),
          position(tap.position),
          num_rows(tap.num_rows),
          num_columns(tap.num_columns),
          values(tap.values, tap.num_rows * tap.num_columns) {}
};

struct TapOptions {
    uint32_t kinds = 0;                                // gptoss_tap_kind_…, any of them together
    std::optional<std::vector<uint32_t>> layers{};     // all if there is none
    std::optional<std::vector<uint32_t>> positions{};  // likewise
    std::size_t first_position = 0;
};

// Log-probabilities of tokens of a context.
struct Logprobs {
    std::vector<float> logprobs;
    std::vector<gptoss_logprob> top;  // (tokens, num_top)
};

class Context {
  public:
    explicit Context(const Model& model, std::size_t context_length = 0, std::size_t max_batch_tokens = 0) {
        gptoss_context_t handle = nullptr;
        check(gptoss_context_create(model.get(), context_length, max_batch_tokens, &handle));
        handle_ = decltype(handle_)(handle);
    }
    Context(Context&&) = default;
    Context& operator=(Context&&) = default;

    std::size_t num_tokens() const {
        std::size_t n = 0;
        check(gptoss_context_get_num_tokens(get(), &n));
        return n;
    }
    std::size_t max_tokens() const {
        std::size_t n = 0;
        check(gptoss_context_get_max_tokens(get(), &n));
        return n;
    }
    std::vector<uint32_t> tokens() const {
        std::vector<uint32_t> tokens(num_tokens());
        std::size_t n = 0;
        check(gptoss_context_get_tokens(get(), tokens.data(), tokens.size(), &n));
        return tokens;
    }

    // Special tokens in the text count as such. Returns the number of tokens appended.
    std::size_t append(std::string_view text) {
        std::size_t n = 0;
        check(gptoss_context_append_chars(get(), text.data(), text.size(), &n));
        return n;
    }
    void append(span<const uint32_t> tokens) {
        check(gptoss_context_append_tokens(get(), tokens.size(), tokens.data()));
    }
    void append(uint32_t token) { check(gptoss_context_append_tokens(get(), 1, &token)); }
    // What was computed stays cached for tokens that come again.
    void reset() { check(gptoss_context_reset(get())); }
    void truncate(std::size_t num_tokens) { check(gptoss_context_truncate(get(), num_tokens)); }
    // Computes what was appended; everything below does it too.
    void process() { check_tapped(gptoss_context_process(get())); }

    // Fills logits with those of the token that would follow, as many as fit; returns the size of the vocabulary.
    std::size_t logits(span<float> logits) {
        std::size_t n = 0;
        check_tapped(gptoss_context_get_logits(get(), logits.data(), logits.size(), &n));
        return n;
    }

    // Samples as many tokens as the span holds, or until the context is full, and appends them; returns how many.
    std::size_t sample(span<uint32_t> tokens, float temperature = 1, uint64_t seed = 0) {
        std::size_t n = 0;
        check_tapped(gptoss_context_sample(get(), temperature, seed, tokens.size(), tokens.data(), &n));
        return n;
    }

    // Generates, and hands each token to on_token(uint32_t), or each output to on_token(const Output&), which may
    // return true to stop, or throw.
    template <typename F>
    Generated generate(F&& on_token, const GenerateOptions& options = {}) {
        using Callee = std::remove_reference_t<F>;
        constexpr bool tokens = std::is_invocable_v<Callee&, uint32_t>;
        using What = std::conditional_t<tokens, uint32_t, Output>;
        struct State {
            Callee* on_token;
            std::exception_ptr thrown;

            int call(const What& what) {
                if constexpr (std::is_void_v<std::invoke_result_t<Callee&, const What&>>) {
                    (*on_token)(what);
                    return 0;
                } else {
                    return (*on_token)(what) ? 1 : 0;
                }
            }
            // An exception must not cross the C code: it waits in the state until the call has returned.
            static int guarded(void* user_data, const What& what) {
                State& in_call = *static_cast<State*>(user_data);
#if defined(__cpp_exceptions)
                try {
                    return in_call.call(what);
                } catch (...) {
                    in_call.thrown = std::current_exception();
                    return 1;
                }
#else
                return in_call.call(what);
#endif
            }
        } state{&on_token, nullptr};
        Generated out;
        gptoss_generate_options in = options.c_options(&out.usage);
        in.user_data = &state;
        if constexpr (tokens)
            in.callback = [](void* user_data, uint32_t token) { return State::guarded(user_data, token); };
        else
            in.output_callback = [](void* user_data, const gptoss_output* output) {
                return State::guarded(user_data, Output(*output));
            };
        const gptoss_status status = gptoss_context_generate(get(), options.sampler ? options.sampler->get() : nullptr,
                                                             &in, &out.num_tokens, &out.stop_reason);
        if (state.thrown) std::rethrow_exception(state.thrown);
        check_tapped(status);
        return out;
    }

    // Log-probabilities of num_tokens tokens from number `first` on, each after those before it, and of the num_top
    // likeliest in the place of each.
    Logprobs logprobs(std::size_t first, std::size_t num_tokens, std::size_t num_top = 0) {
        Logprobs out{std::vector<float>(num_tokens), std::vector<gptoss_logprob>(num_tokens * num_top)};
        check(gptoss_context_get_logprobs(get(), first, num_tokens, num_top, out.logprobs.data(), out.top.data()));
        return out;
    }

    // From now on, calls that compute hand on_tap(const Tap&) what is wanted of each token. What it throws comes out of
    // that call.
    void set_tap(std::function<void(const Tap&)> on_tap, const TapOptions& options) {
        auto tap = std::make_unique<TapState>();
        tap->on_tap = std::move(on_tap);
        static const uint32_t none = 0;
        const auto data = [](const auto& list) { return !list ? nullptr : list->empty() ? &none : list->data(); };
        gptoss_tap_options in{};
        in.struct_size = sizeof(in);
        in.kinds = options.kinds;
        in.layers = data(options.layers);
        in.num_layers = options.layers ? options.layers->size() : 0;
        in.positions = data(options.positions);
        in.num_positions = options.positions ? options.positions->size() : 0;
        in.first_position = options.first_position;
        in.user_data = tap.get();
        in.callback = [](void* user_data, const gptoss_tap* tapped) {
            auto& state = *static_cast<TapState*>(user_data);
#if defined(__cpp_exceptions)
            try {
                state.on_tap(Tap(*tapped));
            } catch (...) {
                state.thrown = std::current_exception();
                return 1;
            }
#else
            state.on_tap(Tap(*tapped));
#endif
            return 0;
        };
        check(gptoss_context_set_tap(get(), &in));
        tap_ = std::move(tap);
    }
    void remove_tap() {
        check(gptoss_context_set_tap(get(), nullptr));
        tap_.reset();
    }

    // Makes the call that runs on this context, or the next one that computes, throw Error, cancelled. From any thread.
    void cancel() const { check(gptoss_context_cancel(get())); }
    // Takes back a cancel that came too late for what it was meant to stop.
    void clear_cancel() const { check(gptoss_context_clear_cancel(get())); }

    // Another context that begins as this one, and shares what is computed.
    Context fork() const {
        gptoss_context_t handle = nullptr;
        check(gptoss_context_fork(get(), &handle));
        return Context(handle);
    }
    // From now on the context computes with the adapter, multiplied by scale; the tokens stay.
    void adapter(const Adapter& adapter, float scale = 1) {
        check(gptoss_context_set_adapter(get(), adapter.get(), scale));
    }
    void no_adapter() { check(gptoss_context_set_adapter(get(), nullptr, 1)); }

    // The context as bytes, with all that is computed.
    std::vector<unsigned char> save() const {
        std::size_t size = 0;
        check(gptoss_context_save(get(), nullptr, 0, &size));
        std::vector<unsigned char> state(size);
        check(gptoss_context_save(get(), state.data(), size, &size));
        return state;
    }
    // Makes this context what the saved one was; it stays as it is if this throws.
    void restore(span<const unsigned char> state) { check(gptoss_context_restore(get(), state.data(), state.size())); }

    gptoss_context_stats stats() const {
        gptoss_context_stats stats{};
        stats.struct_size = sizeof(stats);
        check(gptoss_context_get_stats(get(), &stats));
        return stats;
    }
    // What each kernel takes to compute the last tokens again in one batch and to draw a token, greedily without a
    // sampler; empty where the device has no time stamps.
    std::vector<gptoss_kernel_time> profile(std::size_t num_tokens = 1, const Sampler* sampler = nullptr) {
        std::vector<gptoss_kernel_time> times;
        std::size_t n = 64;
        do {
            times.resize(n);
            check(gptoss_context_profile(get(), num_tokens, sampler ? sampler->get() : nullptr, times.data(),
                                         times.size(), &n));
        } while (n > times.size());
        times.resize(n);
        return times;
    }

    gptoss_context_t get() const noexcept { return handle_.get(); }

  private:
    struct TapState {
        std::function<void(const Tap&)> on_tap;
        std::exception_ptr thrown{};
    };
    template <typename Generations>
    friend void generate_together(Generations&& generations);

    explicit Context(gptoss_context_t handle) : handle_(handle) {}

    // What the tap threw is what the call that it ended throws.
    std::exception_ptr take_thrown() { return tap_ ? std::exchange(tap_->thrown, nullptr) : nullptr; }
    void check_tapped(gptoss_status status) {
        if (std::exception_ptr thrown = take_thrown()) std::rethrow_exception(thrown);
        check(status);
    }

    std::unique_ptr<TapState> tap_;
    Handle<gptoss_context_t, gptoss_context_retain, gptoss_context_release> handle_;
};

// One of the generations of generate_together(), and what came of it.
struct Generation {
    Context* context = nullptr;                // another one in each
    std::function<bool(uint32_t)> on_token{};  // gets each token, and may return true to stop, or throw; may be empty
    GenerateOptions options{};
    Generated result{};
    std::exception_ptr error{};                      // an Error, or what on_token threw; NULL if it succeeded
    std::function<bool(const Output&)> on_output{};  // the same with outputs

    // Calls one of both; what it throws waits in error.
    template <typename F, typename T>
    int guarded(F& callee, const T& what) {
        try {
            return callee(what) ? 1 : 0;
        } catch (...) {
            error = std::current_exception();
            return 1;
        }
    }
};

// Generates in several contexts of one model at once, which takes little longer than for one of them. Each has its own
// error; one that keeps all of them from running, such as a context that is there twice, is the error of each.
// generations: a vector, an array or a span of Generation.
template <typename Generations>
void generate_together(Generations&& generations) {
    std::vector<gptoss_generate_options> options(generations.size());
    std::vector<gptoss_generation> all(generations.size());
    for (std::size_t i = 0; i < generations.size(); i++) {
        Generation& g = generations[i];
        options[i] = g.options.c_options(&g.result.usage);
        options[i].user_data = &g;
        g.error = nullptr;
        if (g.on_token)
            options[i].callback = [](void* user_data, uint32_t token) {
                Generation& in_call = *static_cast<Generation*>(user_data);
                return in_call.guarded(in_call.on_token, token);
            };
        if (g.on_output)
            options[i].output_callback = [](void* user_data, const gptoss_output* output) {
                Generation& in_call = *static_cast<Generation*>(user_data);
                return in_call.guarded(in_call.on_output, Output(*output));
            };
        all[i].struct_size = sizeof(all[i]);
        all[i].context = g.context ? g.context->get() : nullptr;
        all[i].sampler = g.options.sampler ? g.options.sampler->get() : nullptr;
        all[i].options = &options[i];
    }
    const gptoss_status status = gptoss_generate_together(all.data(), all.size());
    for (std::size_t i = 0; i < generations.size(); i++) {
        Generation& g = generations[i];
        g.result.num_tokens = all[i].num_tokens;
        g.result.stop_reason = all[i].stop_reason;
        if (!g.error && g.context) g.error = g.context->take_thrown();
        if (!g.error && all[i].status != gptoss_status_success)
            g.error = std::make_exception_ptr(Error(
                all[i].status, all[i].status == status ? gptoss_last_error() : gptoss_status_string(all[i].status)));
    }
}

// What the assistant generates after Tokenizer::render, as messages.
class HarmonyParser {
  public:
    explicit HarmonyParser(const Tokenizer& tokenizer) {
        gptoss_harmony_parser_t handle = nullptr;
        check(gptoss_harmony_parser_create(tokenizer.get(), &handle));
        handle_ = decltype(handle_)(handle);
    }
    HarmonyParser(HarmonyParser&&) = default;
    HarmonyParser& operator=(HarmonyParser&&) = default;

    void process(uint32_t token) { check(gptoss_harmony_parser_process(get(), token)); }
    void reset() { check(gptoss_harmony_parser_reset(get())); }

    // Of the message being generated; valid until the next process() or reset().
    std::string_view role() const { return text(gptoss_harmony_parser_get_role); }
    std::string_view channel() const { return text(gptoss_harmony_parser_get_channel); }
    std::string_view recipient() const { return text(gptoss_harmony_parser_get_recipient); }
    std::string_view content_type() const { return text(gptoss_harmony_parser_get_content_type); }
    std::string_view delta() const { return text(gptoss_harmony_parser_get_delta); }
    gptoss_harmony_state state() const {
        gptoss_harmony_state state = gptoss_harmony_state_expect_start;
        check(gptoss_harmony_parser_get_state(get(), &state));
        return state;
    }

    bool is_malformed() const {
        int malformed = 0;
        check(gptoss_harmony_parser_is_malformed(get(), &malformed));
        return malformed != 0;
    }
    // A JSON array, an unfinished message last.
    std::string messages() const {
        std::size_t size = 0;
        check(gptoss_harmony_parser_get_messages(get(), nullptr, 0, &size));
        std::string json(size, '\0');
        check(gptoss_harmony_parser_get_messages(get(), json.data(), size, &size));
        return json;
    }

    gptoss_harmony_parser_t get() const noexcept { return handle_.get(); }

  private:
    using Getter = gptoss_status (*)(gptoss_harmony_parser_t, const char**, std::size_t*);
    std::string_view text(Getter getter) const {
        const char* text = nullptr;
        std::size_t size = 0;
        check(getter(get(), &text, &size));
        return {text, size};
    }

    Handle<gptoss_harmony_parser_t, gptoss_harmony_parser_retain, gptoss_harmony_parser_release> handle_;
};

}  // namespace gptoss

#endif  // GPTOSS_HPP
