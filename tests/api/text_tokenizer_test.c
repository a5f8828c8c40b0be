#include <string.h>

#include "check.h"

static void check_encoding(gptoss_tokenizer_t tokenizer) {
    static const uint32_t expected[] = {13225, 11, 2375, 0};
    uint32_t tokens[4] = {0};
    size_t n = 0;
    CHECK_OK(gptoss_tokenizer_encode(tokenizer, "Hello, world!", 13, 0, tokens, 4, &n));
    CHECK(n == 4 && memcmp(tokens, expected, sizeof expected) == 0);
    /* The count of all, whatever there is room for. */
    tokens[1] = 7;
    CHECK_OK(gptoss_tokenizer_encode(tokenizer, "Hello, world!", 13, 0, tokens, 1, &n));
    CHECK(n == 4 && tokens[0] == 13225 && tokens[1] == 7);
    CHECK_OK(gptoss_tokenizer_encode(tokenizer, "Hello, world!", 13, 0, NULL, 0, &n));
    CHECK(n == 4);
    CHECK_OK(gptoss_tokenizer_encode(tokenizer, NULL, 0, 0, NULL, 0, &n));
    CHECK(n == 0);
    CHECK_OK(gptoss_tokenizer_encode(tokenizer, "<|start|>", 9, 1, tokens, 4, &n));
    CHECK(n == 1 && tokens[0] == 200006);
    CHECK_OK(gptoss_tokenizer_encode(tokenizer, "<|start|>", 9, 0, NULL, 0, &n));
    CHECK(n > 1);

    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_encode(NULL, "x", 1, 0, tokens, 4, &n));
    CHECK(n == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_encode(tokenizer, NULL, 1, 0, tokens, 4, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_encode(tokenizer, "x", 1, 0, NULL, 4, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_encode(tokenizer, "x", 1, 0, tokens, 4, NULL));
}

static void check_decoding(gptoss_tokenizer_t tokenizer) {
    const void* bytes = NULL;
    size_t size = 0;
    CHECK_OK(gptoss_tokenizer_decode(tokenizer, 2375, &bytes, &size));
    CHECK(size == 6 && memcmp(bytes, " world", 6) == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_decode(tokenizer, 200006, &bytes, &size));
    CHECK(bytes == NULL && size == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_decode(tokenizer, 4000000000u, &bytes, &size));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_decode(NULL, 1, &bytes, &size));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_decode(tokenizer, 1, NULL, &size));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_decode(tokenizer, 1, &bytes, NULL));

    const uint32_t tokens[] = {200006, 13225, 200007};
    char text[32] = {0};
    CHECK_OK(gptoss_tokenizer_decode_tokens(tokenizer, tokens, 3, text, sizeof text, &size));
    CHECK(size == 21 && strcmp(text, "<|start|>Hello<|end|>") == 0);
    memset(text, '.', sizeof text);
    CHECK_OK(gptoss_tokenizer_decode_tokens(tokenizer, tokens, 3, text, 11, &size));
    CHECK(size == 21 && memcmp(text, "<|start|>He.", 12) == 0);
    CHECK_OK(gptoss_tokenizer_decode_tokens(tokenizer, NULL, 0, NULL, 0, &size));
    CHECK(size == 0);
    const uint32_t unknown = 201088;
    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_tokenizer_decode_tokens(tokenizer, &unknown, 1, text, sizeof text, &size));
    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_tokenizer_decode_tokens(NULL, tokens, 3, text, sizeof text, &size));
    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_tokenizer_decode_tokens(tokenizer, NULL, 3, text, sizeof text, &size));
    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_tokenizer_decode_tokens(tokenizer, tokens, 3, NULL, 9, &size));
    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_tokenizer_decode_tokens(tokenizer, tokens, 3, text, sizeof text, NULL));
}

static void check_special_tokens(gptoss_tokenizer_t tokenizer) {
    static const struct {
        enum gptoss_special_token type;
        const char* name;
        uint32_t token;
    } specials[] = {
        {gptoss_special_token_return, "<|return|>", 200002},
        {gptoss_special_token_constrain, "<|constrain|>", 200003},
        {gptoss_special_token_channel, "<|channel|>", 200005},
        {gptoss_special_token_start, "<|start|>", 200006},
        {gptoss_special_token_end, "<|end|>", 200007},
        {gptoss_special_token_message, "<|message|>", 200008},
        {gptoss_special_token_call, "<|call|>", 200012},
    };
    uint32_t token = 0;
    const char* name = NULL;
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; ++i) {
        CHECK_OK(gptoss_tokenizer_get_special_token_id(tokenizer, specials[i].type, &token));
        CHECK(token == specials[i].token);
        CHECK_OK(gptoss_tokenizer_find_special_token(tokenizer, specials[i].name, &token));
        CHECK(token == specials[i].token);
        CHECK_OK(gptoss_tokenizer_get_special_token_name(tokenizer, token, &name));
        CHECK(strcmp(name, specials[i].name) == 0);
    }
    CHECK_OK(gptoss_tokenizer_get_special_token_name(tokenizer, 201087, &name));
    CHECK(strcmp(name, "<|reserved_201087|>") == 0);

    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_tokenizer_get_special_token_id(tokenizer, gptoss_special_token_refusal, &token));
    CHECK(token == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_tokenizer_get_special_token_id(tokenizer, gptoss_special_token_invalid, &token));
    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_tokenizer_get_special_token_id(tokenizer, gptoss_special_token_max, &token));
    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_tokenizer_get_special_token_id(NULL, gptoss_special_token_end, &token));
    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_tokenizer_get_special_token_id(tokenizer, gptoss_special_token_end, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "<|no|>",
                gptoss_tokenizer_find_special_token(tokenizer, "<|no|>", &token));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_find_special_token(NULL, "<|end|>", &token));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_find_special_token(tokenizer, NULL, &token));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_find_special_token(tokenizer, "<|end|>", NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_get_special_token_name(tokenizer, 13225, &name));
    CHECK(name == NULL);
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_get_special_token_name(NULL, 200006, &name));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_get_special_token_name(tokenizer, 200006, NULL));
}

/* decode(encode(x)) is x, whatever the bytes. */
static void check_round_trip(gptoss_tokenizer_t tokenizer) {
    static char text[20000], back[20000];
    static uint32_t tokens[20000];
    uint32_t random = 1;
    for (int round = 0; round < 50; ++round) {
        for (size_t i = 0; i < sizeof text; ++i) text[i] = (char)((random = random * 1664525 + 1013904223) >> 24);
        size_t n = 0, size = 0;
        CHECK_OK(gptoss_tokenizer_encode(tokenizer, text, sizeof text, round % 2, tokens, sizeof text, &n));
        CHECK(n > 0 && n <= sizeof text);
        CHECK_OK(gptoss_tokenizer_decode_tokens(tokenizer, tokens, n, back, sizeof back, &size));
        CHECK(size == sizeof text && memcmp(text, back, sizeof text) == 0);
    }
}

TEST(text_tokenizer) {
    gptoss_tokenizer_t tokenizer = NULL;
    CHECK_OK(gptoss_tokenizer_create(NULL, &tokenizer));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_create(NULL, NULL));
    uint32_t text = 0, special = 0, all = 0;
    CHECK_OK(gptoss_tokenizer_get_num_text_tokens(tokenizer, &text));
    CHECK_OK(gptoss_tokenizer_get_num_special_tokens(tokenizer, &special));
    CHECK_OK(gptoss_tokenizer_get_num_tokens(tokenizer, &all));
    CHECK(text == 199998 && special == 1090 && all == 201088);
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_get_num_text_tokens(NULL, &text));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_get_num_text_tokens(tokenizer, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_get_num_special_tokens(NULL, &text));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_get_num_special_tokens(tokenizer, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_get_num_tokens(NULL, &text));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_get_num_tokens(tokenizer, NULL));
    check_encoding(tokenizer);
    check_decoding(tokenizer);
    check_special_tokens(tokenizer);
    check_round_trip(tokenizer);
    CHECK_OK(gptoss_tokenizer_retain(tokenizer));
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
    CHECK_OK(gptoss_tokenizer_get_num_tokens(tokenizer, &all));
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_tokenizer_retain(NULL));
    CHECK_OK(gptoss_tokenizer_release(NULL));
}

TEST(text_vocabulary_files) {
    static const char* const files[] = {
        GPTOSS_SOURCE_DIR "/tests/fuzz/corpus/text_tokenizer_json/sequence.json",
        GPTOSS_SOURCE_DIR "/tests/fuzz/corpus/text_tokenizer_json/byte_level.json",
        GPTOSS_SOURCE_DIR "/tests/fuzz/corpus/text_tiktoken/words.tiktoken",
        GPTOSS_SOURCE_DIR "/tests/fuzz/corpus/text_tiktoken", /* a directory: the first by name */
        GPTOSS_SOURCE_DIR "/tests/fuzz/corpus/text_gguf/words.gguf",
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; ++i) {
        gptoss_tokenizer_t tokenizer = NULL;
        CHECK_OK(gptoss_tokenizer_create(files[i], &tokenizer));
        uint32_t tokens[8];
        char text[8] = {0};
        size_t n = 0, size = 0;
        CHECK_OK(gptoss_tokenizer_encode(tokenizer, "abab<|end|>", 11, 1, tokens, 8, &n));
        CHECK(n >= 2 && n <= 5);
        CHECK_OK(gptoss_tokenizer_decode_tokens(tokenizer, tokens, n - 1, text, sizeof text, &size));
        CHECK(size == 4 && strcmp(text, "abab") == 0);
        const char* name = "";
        CHECK_OK(gptoss_tokenizer_get_special_token_name(tokenizer, tokens[n - 1], &name));
        CHECK(strcmp(name, "<|end|>") == 0);
        CHECK_OK(gptoss_tokenizer_release(tokenizer));
    }
    gptoss_tokenizer_t tokenizer = (gptoss_tokenizer_t)files;
    CHECK_FAILS(gptoss_status_io_error, "/no/such/tokenizer.json",
                gptoss_tokenizer_create("/no/such/tokenizer.json", &tokenizer));
    CHECK(tokenizer == NULL);
    CHECK_FAILS(gptoss_status_io_error, "", gptoss_tokenizer_create(GPTOSS_SOURCE_DIR "/lib", &tokenizer));
    CHECK_FAILS(gptoss_status_io_error, "",
                gptoss_tokenizer_create(GPTOSS_SOURCE_DIR "/tests/golden/tiny/config.json", &tokenizer));
}
