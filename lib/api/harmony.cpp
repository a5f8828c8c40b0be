#include "text/harmony/harmony.h"

#include <algorithm>

#include "api/tokenizer.h"

using namespace gptoss;
using namespace gptoss::api;

struct gptoss_harmony_parser : Handle<gptoss_harmony_parser> {
    explicit gptoss_harmony_parser(std::shared_ptr<const text::Tokenizer> tokenizer) : parser(std::move(tokenizer)) {}

    static constexpr bool kOnDevice = false;

    text::HarmonyParser parser;
    Turn::Owner turn{};
};

namespace {

// A parser that a call uses, while no other does.
class Use {
  public:
    explicit Use(gptoss_harmony_parser_t handle) : held_(handle, "parser"), turn_(handle->turn) {}

    text::HarmonyParser* operator->() const { return &held_->parser; }

  private:
    const Held<gptoss_harmony_parser> held_;
    const Turn turn_;
};

gptoss_status get_text(gptoss_harmony_parser_t parser, const std::string& (text::HarmonyParser::*property)() const,
                       const char** text_out, size_t* size_out) noexcept {
    return guard([&] {
        require(text_out, "text_out");
        *text_out = "";
        if (size_out) *size_out = 0;
        const Use use(parser);
        const std::string& text = (use.operator->()->*property)();
        *text_out = text.c_str();
        if (size_out) *size_out = text.size();
    });
}

}  // namespace

enum gptoss_status gptoss_harmony_render(gptoss_tokenizer_t tokenizer, const char* conversation_json, size_t length,
                                         uint32_t* tokens_out, size_t max_tokens, size_t* num_tokens_out) {
    return guard([&] {
        require(num_tokens_out, "num_tokens_out");
        *num_tokens_out = 0;
        const Held held(tokenizer, "tokenizer");
        require(conversation_json, "conversation_json");
        if (max_tokens > 0) require(tokens_out, "tokens_out");
        std::vector<uint32_t> tokens = text::render_conversation(*held->tokenizer, {conversation_json, length});
        std::copy_n(tokens.begin(), std::min(tokens.size(), max_tokens), tokens_out);
        *num_tokens_out = tokens.size();
    });
}

enum gptoss_status gptoss_harmony_parser_create(gptoss_tokenizer_t tokenizer, gptoss_harmony_parser_t* parser_out) {
    return guard([&] {
        require(parser_out, "parser_out");
        *parser_out = nullptr;
        *parser_out = new gptoss_harmony_parser(Held(tokenizer, "tokenizer")->tokenizer);
    });
}

enum gptoss_status gptoss_harmony_parser_process(gptoss_harmony_parser_t parser, uint32_t token) {
    return guard([&] {
        const Use use(parser);
        use->process(token);
    });
}

enum gptoss_status gptoss_harmony_parser_reset(gptoss_harmony_parser_t parser) {
    return guard([&] {
        const Use use(parser);
        use->reset();
    });
}

enum gptoss_status gptoss_harmony_parser_get_role(gptoss_harmony_parser_t parser, const char** text_out,
                                                  size_t* size_out) {
    return get_text(parser, &text::HarmonyParser::role, text_out, size_out);
}

enum gptoss_status gptoss_harmony_parser_get_channel(gptoss_harmony_parser_t parser, const char** text_out,
                                                     size_t* size_out) {
    return get_text(parser, &text::HarmonyParser::channel, text_out, size_out);
}

enum gptoss_status gptoss_harmony_parser_get_recipient(gptoss_harmony_parser_t parser, const char** text_out,
                                                       size_t* size_out) {
    return get_text(parser, &text::HarmonyParser::recipient, text_out, size_out);
}

enum gptoss_status gptoss_harmony_parser_get_content_type(gptoss_harmony_parser_t parser, const char** text_out,
                                                          size_t* size_out) {
    return get_text(parser, &text::HarmonyParser::content_type, text_out, size_out);
}

enum gptoss_status gptoss_harmony_parser_get_delta(gptoss_harmony_parser_t parser, const char** text_out,
                                                   size_t* size_out) {
    return get_text(parser, &text::HarmonyParser::delta, text_out, size_out);
}

enum gptoss_status gptoss_harmony_parser_get_state(gptoss_harmony_parser_t parser,
                                                   enum gptoss_harmony_state* state_out) {
    using State = text::HarmonyParser::State;
    static_assert(static_cast<int>(State::ExpectStart) == gptoss_harmony_state_expect_start);
    static_assert(static_cast<int>(State::Header) == gptoss_harmony_state_header);
    static_assert(static_cast<int>(State::Content) == gptoss_harmony_state_content);
    return guard([&] {
        require(state_out, "state_out");
        *state_out = gptoss_harmony_state_expect_start;
        const Use use(parser);
        *state_out = static_cast<enum gptoss_harmony_state>(use->state());
    });
}

enum gptoss_status gptoss_harmony_parser_is_malformed(gptoss_harmony_parser_t parser, int* malformed_out) {
    return guard([&] {
        require(malformed_out, "malformed_out");
        *malformed_out = 0;
        const Use use(parser);
        *malformed_out = use->is_malformed();
    });
}

enum gptoss_status gptoss_harmony_parser_get_messages(gptoss_harmony_parser_t parser, char* json_out, size_t max_size,
                                                      size_t* size_out) {
    return guard([&] {
        require(size_out, "size_out");
        *size_out = 0;
        const Use use(parser);
        if (max_size > 0) require(json_out, "json_out");
        const std::string json = use->messages_json();
        json.copy(json_out, max_size);
        *size_out = json.size();
    });
}

enum gptoss_status gptoss_harmony_parser_retain(gptoss_harmony_parser_t parser) {
    return gptoss_harmony_parser::retain(parser);
}
enum gptoss_status gptoss_harmony_parser_release(gptoss_harmony_parser_t parser) {
    return gptoss_harmony_parser::release(parser);
}
