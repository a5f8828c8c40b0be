#include "api/tokenizer.h"

#include <algorithm>

using namespace gptoss;
using namespace gptoss::api;

namespace {

// The tokenizer behind a handle, which may be released while a call uses it.
std::shared_ptr<const text::Tokenizer> get(gptoss_tokenizer_t tokenizer) {
    return Held(tokenizer, "tokenizer")->tokenizer;
}

}  // namespace

enum gptoss_status gptoss_tokenizer_create(const char* path, gptoss_tokenizer_t* tokenizer_out) {
    return guard([&] {
        require(tokenizer_out, "tokenizer_out");
        *tokenizer_out = nullptr;
        *tokenizer_out =
            new gptoss_tokenizer(path ? text::Tokenizer::from_path(path) : text::Tokenizer::o200k_harmony());
    });
}

enum gptoss_status gptoss_tokenizer_encode(gptoss_tokenizer_t tokenizer, const char* text, size_t text_length,
                                           int allow_special, uint32_t* tokens_out, size_t max_tokens,
                                           size_t* num_tokens_out) {
    return guard([&] {
        require(num_tokens_out, "num_tokens_out");
        *num_tokens_out = 0;
        if (text_length > 0) require(text, "text");
        if (max_tokens > 0) require(tokens_out, "tokens_out");
        std::vector<uint32_t> tokens = get(tokenizer)->encode({text, text_length}, allow_special != 0);
        std::copy_n(tokens.begin(), std::min(tokens.size(), max_tokens), tokens_out);
        *num_tokens_out = tokens.size();
    });
}

enum gptoss_status gptoss_tokenizer_decode(gptoss_tokenizer_t tokenizer, uint32_t token, const void** token_ptr_out,
                                           size_t* token_size_out) {
    return guard([&] {
        require(token_ptr_out, "token_ptr_out");
        require(token_size_out, "token_size_out");
        *token_ptr_out = nullptr;
        *token_size_out = 0;
        std::string_view bytes = get(tokenizer)->text_token(token);
        if (bytes.empty())
            throw Error(Status::InvalidArgument, "token " + std::to_string(token) + " is not a text token");
        *token_ptr_out = bytes.data();
        *token_size_out = bytes.size();
    });
}

enum gptoss_status gptoss_tokenizer_decode_tokens(gptoss_tokenizer_t tokenizer, const uint32_t* tokens,
                                                  size_t num_tokens, char* text_out, size_t max_size,
                                                  size_t* size_out) {
    return guard([&] {
        require(size_out, "size_out");
        *size_out = 0;
        if (num_tokens > 0) require(tokens, "tokens");
        if (max_size > 0) require(text_out, "text_out");
        const auto text = get(tokenizer);
        size_t size = 0;
        for (size_t i = 0; i < num_tokens; ++i) size += text->decode(tokens[i]).size();
        size_t filled = 0;
        for (size_t i = 0; i < num_tokens && filled < max_size; ++i)
            filled += text->decode(tokens[i]).copy(text_out + filled, max_size - filled);
        *size_out = size;
    });
}

enum gptoss_status gptoss_tokenizer_get_special_token_id(gptoss_tokenizer_t tokenizer,
                                                         enum gptoss_special_token token_type, uint32_t* token_id_out) {
    return guard([&] {
        require(token_id_out, "token_id_out");
        *token_id_out = 0;
        std::string_view name = text::special_name(static_cast<text::Special>(enum_value(token_type)));
        std::optional<text::Token> token = get(tokenizer)->find_special(name);
        if (!token) throw Error(Status::InvalidArgument, "the vocabulary has no " + std::string(name));
        *token_id_out = *token;
    });
}

enum gptoss_status gptoss_tokenizer_find_special_token(gptoss_tokenizer_t tokenizer, const char* name,
                                                       uint32_t* token_id_out) {
    return guard([&] {
        require(token_id_out, "token_id_out");
        *token_id_out = 0;
        require(name, "name");
        std::optional<text::Token> token = get(tokenizer)->find_special(name);
        if (!token) throw Error(Status::InvalidArgument, "the vocabulary has no special token " + std::string(name));
        *token_id_out = *token;
    });
}

enum gptoss_status gptoss_tokenizer_get_special_token_name(gptoss_tokenizer_t tokenizer, uint32_t token,
                                                           const char** name_out) {
    return guard([&] {
        require(name_out, "name_out");
        *name_out = nullptr;
        const std::string* name = get(tokenizer)->special_token_name(token);
        if (!name) throw Error(Status::InvalidArgument, "token " + std::to_string(token) + " is not a special token");
        *name_out = name->c_str();
    });
}

enum gptoss_status gptoss_tokenizer_get_num_text_tokens(gptoss_tokenizer_t tokenizer, uint32_t* num_text_tokens_out) {
    return guard([&] {
        require(num_text_tokens_out, "num_text_tokens_out");
        *num_text_tokens_out = 0;
        *num_text_tokens_out = get(tokenizer)->num_text_tokens();
    });
}

enum gptoss_status gptoss_tokenizer_get_num_special_tokens(gptoss_tokenizer_t tokenizer,
                                                           uint32_t* num_special_tokens_out) {
    return guard([&] {
        require(num_special_tokens_out, "num_special_tokens_out");
        *num_special_tokens_out = 0;
        *num_special_tokens_out = get(tokenizer)->num_special_tokens();
    });
}

enum gptoss_status gptoss_tokenizer_get_num_tokens(gptoss_tokenizer_t tokenizer, uint32_t* num_tokens_out) {
    return guard([&] {
        require(num_tokens_out, "num_tokens_out");
        *num_tokens_out = 0;
        *num_tokens_out = get(tokenizer)->num_text_tokens() + get(tokenizer)->num_special_tokens();
    });
}

enum gptoss_status gptoss_tokenizer_retain(gptoss_tokenizer_t tokenizer) { return gptoss_tokenizer::retain(tokenizer); }
enum gptoss_status gptoss_tokenizer_release(gptoss_tokenizer_t tokenizer) {
    return gptoss_tokenizer::release(tokenizer);
}
