#include <pthread.h>
#include <string.h>

#include "check.h"

TEST(text_harmony_render) {
    gptoss_tokenizer_t tokenizer = NULL;
    CHECK_OK(gptoss_tokenizer_create(NULL, &tokenizer));
    static const char conversation[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}";
    static const uint32_t expected[] = {200006, 1428, 200008, 12194, 200007, 200006, 173781};
    uint32_t tokens[16] = {0};
    size_t n = 0;
    CHECK_OK(gptoss_harmony_render(tokenizer, conversation, sizeof conversation - 1, tokens, 16, &n));
    CHECK(n == 7 && memcmp(tokens, expected, sizeof expected) == 0);
    tokens[2] = 9;
    CHECK_OK(gptoss_harmony_render(tokenizer, conversation, sizeof conversation - 1, tokens, 2, &n));
    CHECK(n == 7 && tokens[2] == 9);
    CHECK_OK(gptoss_harmony_render(tokenizer, conversation, sizeof conversation - 1, NULL, 0, &n));
    CHECK(n == 7);

    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_render(tokenizer, "{", 1, tokens, 16, &n));
    CHECK(n == 0);
    static const char wrong[] = "{\"messages\": [{\"role\": \"user\", \"content\": 5}]}";
    CHECK_FAILS(gptoss_status_invalid_argument, "messages[0].content",
                gptoss_harmony_render(tokenizer, wrong, sizeof wrong - 1, tokens, 16, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_render(NULL, conversation, 5, tokens, 16, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_render(tokenizer, NULL, 5, tokens, 16, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_render(tokenizer, conversation, 5, NULL, 16, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "",
                gptoss_harmony_render(tokenizer, conversation, 5, tokens, 16, NULL));
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
}

typedef enum gptoss_status (*getter)(gptoss_harmony_parser_t, const char**, size_t*);

static int is(gptoss_harmony_parser_t parser, getter get, const char* expected) {
    const char* text = NULL;
    size_t size = 0;
    return get(parser, &text, &size) == gptoss_status_success && size == strlen(expected) &&
           strcmp(text, expected) == 0;
}

/* A call with half an emoji a token, then its JSON. */
static void check_call(gptoss_harmony_parser_t parser) {
    static const uint32_t header[] = {200005, 12606, 815, 316, 28, 44580, 1196, 220, 200003, 4108};
    CHECK(is(parser, gptoss_harmony_parser_get_role, "assistant"));
    for (size_t i = 0; i < sizeof header / sizeof header[0]; ++i) {
        CHECK_OK(gptoss_harmony_parser_process(parser, header[i]));
        CHECK(is(parser, gptoss_harmony_parser_get_channel, ""));
    }
    CHECK_OK(gptoss_harmony_parser_process(parser, 200008));
    CHECK(is(parser, gptoss_harmony_parser_get_role, "assistant"));
    CHECK(is(parser, gptoss_harmony_parser_get_channel, "commentary"));
    CHECK(is(parser, gptoss_harmony_parser_get_recipient, "functions.f"));
    CHECK(is(parser, gptoss_harmony_parser_get_content_type, "<|constrain|>json"));
    CHECK(is(parser, gptoss_harmony_parser_get_delta, ""));
    CHECK_OK(gptoss_harmony_parser_process(parser, 28823));
    CHECK(is(parser, gptoss_harmony_parser_get_delta, ""));
    CHECK_OK(gptoss_harmony_parser_process(parser, 233));
    CHECK(is(parser, gptoss_harmony_parser_get_delta, "\xF0\x9F\x91\x8B"));
    CHECK_OK(gptoss_harmony_parser_process(parser, 200012));
    CHECK(is(parser, gptoss_harmony_parser_get_channel, ""));

    static const char expected[] =
        "[{\"role\":\"assistant\",\"recipient\":\"functions.f\",\"content\":\"\xF0\x9F\x91\x8B\","
        "\"channel\":\"commentary\",\"content_type\":\"<|constrain|>json\"}]";
    char json[256];
    size_t size = 0;
    CHECK_OK(gptoss_harmony_parser_get_messages(parser, json, sizeof json, &size));
    CHECK(size == sizeof expected - 1 && memcmp(json, expected, size) == 0);
    memset(json, '.', sizeof json);
    CHECK_OK(gptoss_harmony_parser_get_messages(parser, json, 5, &size));
    CHECK(size == sizeof expected - 1 && memcmp(json, "[{\"ro.", 6) == 0);
    CHECK_OK(gptoss_harmony_parser_get_messages(parser, NULL, 0, &size));
    int malformed = 1;
    CHECK_OK(gptoss_harmony_parser_is_malformed(parser, &malformed));
    CHECK(malformed == 0);
}

/* Text without a header is kept, with its tokens. */
static void check_malformed(gptoss_harmony_parser_t parser) {
    CHECK_OK(gptoss_harmony_parser_reset(parser));
    CHECK_OK(gptoss_harmony_parser_process(parser, 13225));
    CHECK_OK(gptoss_harmony_parser_process(parser, 200002));
    int malformed = 0;
    CHECK_OK(gptoss_harmony_parser_is_malformed(parser, &malformed));
    CHECK(malformed == 1);
    static const char expected[] = "[{\"role\":\"assistant\",\"content\":\"Hello\",\"raw_tokens\":[13225,200002]}]";
    char json[256];
    size_t size = 0;
    CHECK_OK(gptoss_harmony_parser_get_messages(parser, json, sizeof json, &size));
    CHECK(size == sizeof expected - 1 && memcmp(json, expected, size) == 0);
}

TEST(text_harmony_parser) {
    gptoss_tokenizer_t tokenizer = NULL;
    gptoss_harmony_parser_t parser = NULL;
    CHECK_OK(gptoss_tokenizer_create(NULL, &tokenizer));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_parser_create(NULL, &parser));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_parser_create(tokenizer, NULL));
    CHECK_OK(gptoss_harmony_parser_create(tokenizer, &parser));
    CHECK_OK(gptoss_tokenizer_release(tokenizer)); /* the parser keeps what it needs */
    check_call(parser);
    check_malformed(parser);

    static const getter getters[] = {gptoss_harmony_parser_get_role, gptoss_harmony_parser_get_channel,
                                     gptoss_harmony_parser_get_recipient, gptoss_harmony_parser_get_content_type,
                                     gptoss_harmony_parser_get_delta};
    for (size_t i = 0; i < sizeof getters / sizeof getters[0]; ++i) {
        const char* text = NULL;
        CHECK_OK(getters[i](parser, &text, NULL));
        CHECK_FAILS(gptoss_status_invalid_argument, "", getters[i](parser, NULL, NULL));
        CHECK_FAILS(gptoss_status_invalid_argument, "", getters[i](NULL, &text, NULL));
        CHECK(strcmp(text, "") == 0);
    }
    int malformed = 0;
    size_t size = 0;
    char json[8];
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_parser_process(NULL, 1));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_parser_reset(NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_parser_is_malformed(NULL, &malformed));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_parser_is_malformed(parser, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_parser_get_messages(NULL, json, 8, &size));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_parser_get_messages(parser, NULL, 8, &size));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_parser_get_messages(parser, json, 8, NULL));
    CHECK_OK(gptoss_harmony_parser_retain(parser));
    CHECK_OK(gptoss_harmony_parser_release(parser));
    CHECK_OK(gptoss_harmony_parser_process(parser, 1));
    CHECK_OK(gptoss_harmony_parser_release(parser));
    CHECK_FAILS(gptoss_status_invalid_argument, "", gptoss_harmony_parser_retain(NULL));
    CHECK_OK(gptoss_harmony_parser_release(NULL));
}

TEST(text_harmony_parser_state) {
    static const struct {
        const char* text;
        enum gptoss_harmony_state state;
    } steps[] = {{"<|channel|>", gptoss_harmony_state_header},     {"final", gptoss_harmony_state_header},
                 {"<|message|>", gptoss_harmony_state_content},    {"Hi", gptoss_harmony_state_content},
                 {"<|end|>", gptoss_harmony_state_expect_start},   {"<|start|>", gptoss_harmony_state_header},
                 {"assistant", gptoss_harmony_state_header},       {"<|message|>", gptoss_harmony_state_content},
                 {"<|return|>", gptoss_harmony_state_expect_start}};
    gptoss_tokenizer_t tokenizer = NULL;
    gptoss_harmony_parser_t parser = NULL;
    enum gptoss_harmony_state state = gptoss_harmony_state_expect_start;
    CHECK_OK(gptoss_tokenizer_create(NULL, &tokenizer));
    CHECK_OK(gptoss_harmony_parser_create(tokenizer, &parser));
    CHECK_OK(gptoss_harmony_parser_get_state(parser, &state));
    CHECK(state == gptoss_harmony_state_header); /* the prompt ends with a header's beginning */
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; ++i) {
        uint32_t token;
        size_t n = 0;
        CHECK_OK(gptoss_tokenizer_encode(tokenizer, steps[i].text, strlen(steps[i].text), 1, &token, 1, &n));
        CHECK(n == 1);
        CHECK_OK(gptoss_harmony_parser_process(parser, token));
        CHECK_OK(gptoss_harmony_parser_get_state(parser, &state));
        CHECK(state == steps[i].state);
    }
    CHECK_FAILS(gptoss_status_invalid_argument, "state_out", gptoss_harmony_parser_get_state(parser, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "parser", gptoss_harmony_parser_get_state(NULL, &state));
    CHECK(state == gptoss_harmony_state_expect_start);
    CHECK_OK(gptoss_harmony_parser_release(parser));
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
}

enum { TURNS = 2000 };

/* Each call gets its turn or is refused: returns how many had theirs. */
static void* use_in_two_threads(void* argument) {
    gptoss_harmony_parser_t parser = argument;
    size_t turns = 0, size;
    const char* text;
    char json[64];
    for (size_t i = 0; i < TURNS; ++i) {
        const enum gptoss_status status = gptoss_harmony_parser_process(parser, 200007);
        CHECK(status == gptoss_status_success || status == gptoss_status_invalid_state);
        turns += status == gptoss_status_success;
        gptoss_harmony_parser_get_delta(parser, &text, &size);
        if (i % 100 == 0) gptoss_harmony_parser_get_messages(parser, json, sizeof json, &size);
    }
    return (void*)turns;
}

TEST(text_harmony_parser_in_two_threads) {
    gptoss_tokenizer_t tokenizer = NULL;
    gptoss_harmony_parser_t parser = NULL;
    CHECK_OK(gptoss_tokenizer_create(NULL, &tokenizer));
    CHECK_OK(gptoss_harmony_parser_create(tokenizer, &parser));
    pthread_t thread;
    void* there;
    CHECK(pthread_create(&thread, NULL, use_in_two_threads, parser) == 0);
    const size_t here = (size_t)use_in_two_threads(parser);
    pthread_join(thread, &there);
    CHECK(here + (size_t)there > 0);
    CHECK_OK(gptoss_harmony_parser_reset(parser));
    CHECK_OK(gptoss_harmony_parser_process(parser, 200007));
    CHECK_OK(gptoss_harmony_parser_release(parser));
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
}
