/* Contexts: tokens, logits, sampling and generation through the C interface. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <sys/resource.h>
#endif

#include "check.h"

enum { VOCABULARY = 512 };

static size_t num_tokens(gptoss_context_t context) {
    size_t n = 999;
    CHECK_OK(gptoss_context_get_num_tokens(context, &n));
    return n;
}

static void get_logits(gptoss_context_t context, float* logits) {
    size_t n = 0;
    CHECK_OK(gptoss_context_get_logits(context, logits, VOCABULARY, &n));
    CHECK(n == VOCABULARY);
}

static uint32_t likeliest(gptoss_context_t context) {
    float logits[VOCABULARY];
    get_logits(context, logits);
    uint32_t best = 0;
    for (uint32_t i = 1; i < VOCABULARY; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

TEST(a_context_holds_tokens) {
    gptoss_context_t context;
    CHECK_OK(gptoss_context_create(tiny_model(), 12, 4, &context));
    size_t n = 999;
    CHECK_OK(gptoss_context_get_max_tokens(context, &n));
    CHECK(n == 12);
    CHECK(num_tokens(context) == 0);
    const uint32_t tokens[] = {5, 0, 511, 7, 7};
    CHECK_OK(gptoss_context_append_tokens(context, 3, tokens));
    CHECK_OK(gptoss_context_append_tokens(context, 2, tokens + 3));
    CHECK_OK(gptoss_context_append_tokens(context, 0, NULL));
    uint32_t back[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    CHECK_OK(gptoss_context_get_tokens(context, back, 3, &n));
    CHECK(n == 5 && memcmp(back, tokens, 12) == 0 && back[3] == 9);
    CHECK_OK(gptoss_context_get_tokens(context, back, 8, &n));
    CHECK(n == 5 && memcmp(back, tokens, 20) == 0 && back[5] == 9);
    CHECK_OK(gptoss_context_get_tokens(context, NULL, 0, &n));
    CHECK(n == 5);

    const uint32_t outside[] = {1, 512};
    CHECK_FAILS(gptoss_status_invalid_argument, "512", gptoss_context_append_tokens(context, 2, outside));
    const uint32_t many[8] = {0};
    CHECK_FAILS(gptoss_status_context_overflow, "12", gptoss_context_append_tokens(context, 8, many));
    CHECK_FAILS(gptoss_status_context_overflow, "12", gptoss_context_append_tokens(context, SIZE_MAX / 8, many));
    CHECK(num_tokens(context) == 5);

    CHECK_FAILS(gptoss_status_invalid_argument, "6", gptoss_context_truncate(context, 6));
    CHECK_FAILS(gptoss_status_invalid_argument, "5", gptoss_context_truncate(context, SIZE_MAX));
    CHECK_OK(gptoss_context_truncate(context, 5));
    CHECK_OK(gptoss_context_truncate(context, 2));
    CHECK(num_tokens(context) == 2);
    CHECK_OK(gptoss_context_reset(context));
    CHECK(num_tokens(context) == 0);
    CHECK_OK(gptoss_context_retain(context));
    CHECK_OK(gptoss_context_release(context));
    CHECK(num_tokens(context) == 0);
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_context_release(NULL));
}

TEST(sizes_of_a_context) {
    gptoss_context_t context = (gptoss_context_t)&context;
    CHECK_FAILS(gptoss_status_invalid_argument, "131073", gptoss_context_create(tiny_model(), 131073, 0, &context));
    CHECK(!context);
    CHECK_FAILS(gptoss_status_invalid_argument, "context_length",
                gptoss_context_create(tiny_model(), SIZE_MAX, 0, &context));
    CHECK_FAILS(gptoss_status_invalid_argument, "max_batch_tokens",
                gptoss_context_create(tiny_model(), 10, 11, &context));
    CHECK_FAILS(gptoss_status_invalid_argument, "max_batch_tokens",
                gptoss_context_create(tiny_model(), 0, SIZE_MAX, &context));
    CHECK_FAILS(gptoss_status_invalid_argument, "model", gptoss_context_create(NULL, 0, 0, &context));
    CHECK_FAILS(gptoss_status_invalid_argument, "context_out", gptoss_context_create(tiny_model(), 0, 0, NULL));
    CHECK_OK(gptoss_context_create(tiny_model(), 0, 0, &context));
    size_t n = 0;
    CHECK_OK(gptoss_context_get_max_tokens(context, &n));
    CHECK(n == 131072);
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_context_create(tiny_model(), 1, 1, &context));
    CHECK_OK(gptoss_context_release(context));
}

TEST(null_is_refused_and_outputs_are_defined) {
    gptoss_context_t context = tiny_context();
    size_t n = 77;
    uint32_t token = 0;
    float logit = 0;
#define NAMES_CONTEXT(call) CHECK_FAILS(gptoss_status_invalid_argument, "context", call)
    NAMES_CONTEXT(gptoss_context_get_num_tokens(NULL, &n));
    CHECK(n == 0);
    n = 77;
    NAMES_CONTEXT(gptoss_context_get_max_tokens(NULL, &n));
    CHECK(n == 0);
    n = 77;
    NAMES_CONTEXT(gptoss_context_get_tokens(NULL, &token, 1, &n));
    CHECK(n == 0);
    n = 77;
    NAMES_CONTEXT(gptoss_context_append_chars(NULL, "a", 1, &n));
    CHECK(n == 0);
    NAMES_CONTEXT(gptoss_context_append_tokens(NULL, 1, &token));
    NAMES_CONTEXT(gptoss_context_reset(NULL));
    NAMES_CONTEXT(gptoss_context_truncate(NULL, 0));
    NAMES_CONTEXT(gptoss_context_process(NULL));
    n = 77;
    NAMES_CONTEXT(gptoss_context_get_logits(NULL, &logit, 1, &n));
    CHECK(n == 0);
    n = 77;
    NAMES_CONTEXT(gptoss_context_sample(NULL, 0, 0, 1, &token, &n));
    CHECK(n == 0);
    n = 77;
    enum gptoss_stop_reason reason = gptoss_stop_reason_callback;
    NAMES_CONTEXT(gptoss_context_generate(NULL, NULL, NULL, &n, &reason));
    CHECK(n == 0 && reason == gptoss_stop_reason_none);
    NAMES_CONTEXT(gptoss_context_cancel(NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "NULL", gptoss_context_retain(NULL));

    CHECK_FAILS(gptoss_status_invalid_argument, "num_tokens_out", gptoss_context_get_num_tokens(context, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "max_tokens_out", gptoss_context_get_max_tokens(context, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "num_tokens_out", gptoss_context_get_tokens(context, &token, 1, NULL));
    n = 77;
    CHECK_FAILS(gptoss_status_invalid_argument, "tokens_out", gptoss_context_get_tokens(context, NULL, 1, &n));
    CHECK(n == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "text", gptoss_context_append_chars(context, NULL, 1, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "tokens", gptoss_context_append_tokens(context, 1, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "logits_out", gptoss_context_get_logits(context, NULL, 1, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "num_logits_out", gptoss_context_get_logits(context, &logit, 1, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "tokens_out", gptoss_context_sample(context, 0, 0, 1, NULL, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "num_tokens_out",
                gptoss_context_sample(context, 0, 0, 1, &token, NULL));
    CHECK(num_tokens(context) == 5);
    CHECK_OK(gptoss_context_append_chars(context, NULL, 0, NULL));
    CHECK_OK(gptoss_context_release(context));
}

TEST(text_is_tokenized_with_the_model_s_vocabulary) {
    const struct gptoss_model_options options = model_options();
    gptoss_model_t model;
    gptoss_context_t context;
    CHECK_OK(gptoss_model_create(golden("tiny-q8.gguf"), &options, &model)); /* 256 bytes, then special tokens */
    CHECK_OK(gptoss_context_create(model, 10, 0, &context));
    size_t n = 77;
    CHECK_OK(gptoss_context_append_chars(context, "Hello", 5, &n));
    CHECK(n == 5 && num_tokens(context) == 5);
    CHECK_OK(gptoss_context_append_chars(context, "", 0, &n));
    CHECK(n == 0);
    CHECK_FAILS(gptoss_status_context_overflow, "10", gptoss_context_append_chars(context, "Hello!", 6, &n));
    CHECK(n == 0 && num_tokens(context) == 5);
    CHECK_OK(gptoss_context_append_chars(context, "\xff\0z", 3, NULL));
    CHECK(num_tokens(context) == 8);
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_model_release(model));
    /* o200k's tokens of this text lie outside the small model */
    context = tiny_context();
    CHECK_FAILS(gptoss_status_invalid_argument, "outside the vocabulary",
                gptoss_context_append_chars(context, "Hello", 5, &n));
    CHECK(num_tokens(context) == 5);
    CHECK_OK(gptoss_context_release(context));
}

TEST(logits_of_the_next_token) {
    float all[VOCABULARY], some[4] = {0, 0, 0, -77};
    size_t n = 77;
    gptoss_context_t context;
    CHECK_OK(gptoss_context_create(tiny_model(), 20, 0, &context));
    CHECK_OK(gptoss_context_process(context));
    CHECK_FAILS(gptoss_status_invalid_state, "empty", gptoss_context_get_logits(context, all, VOCABULARY, &n));
    CHECK(n == 0);
    uint32_t token = 9;
    CHECK_FAILS(gptoss_status_invalid_state, "empty", gptoss_context_sample(context, 0, 0, 1, &token, &n));
    CHECK_FAILS(gptoss_status_invalid_state, "empty", gptoss_context_generate(context, NULL, NULL, &n, NULL));
    CHECK_OK(gptoss_context_release(context));

    context = tiny_context();
    CHECK_OK(gptoss_context_process(context));
    CHECK_OK(gptoss_context_process(context));
    get_logits(context, all);
    double sum = 0;
    for (int i = 0; i < VOCABULARY; i++) {
        CHECK(isfinite(all[i]));
        sum += fabs(all[i]);
    }
    CHECK(sum > 1);
    CHECK_OK(gptoss_context_get_logits(context, some, 3, &n));
    CHECK(n == VOCABULARY && memcmp(some, all, 12) == 0 && some[3] == -77);
    CHECK_OK(gptoss_context_get_logits(context, NULL, 0, &n));
    CHECK(n == VOCABULARY);
    CHECK_OK(gptoss_context_release(context));
}

TEST(sampling_is_reproducible) {
    gptoss_context_t context = tiny_context();
    uint32_t greedy[6], first[6], second[6], other[6];
    size_t n = 0;
    CHECK_OK(gptoss_context_sample(context, 0, 1, 6, greedy, &n));
    CHECK(n == 6 && num_tokens(context) == 11);
    for (int i = 0; i < 6; i++) {
        CHECK_OK(gptoss_context_truncate(context, 5 + (size_t)i));
        CHECK(likeliest(context) == greedy[i]);
        CHECK_OK(gptoss_context_append_tokens(context, 1, greedy + i));
    }
    CHECK_OK(gptoss_context_truncate(context, 5));
    CHECK_OK(gptoss_context_sample(context, 1.5f, 42, 6, first, &n));
    CHECK_OK(gptoss_context_truncate(context, 5));
    for (int i = 0; i < 6; i++) CHECK_OK(gptoss_context_sample(context, 1.5f, 42, 1, second + i, &n));
    CHECK(memcmp(first, second, sizeof first) == 0);
    CHECK_OK(gptoss_context_truncate(context, 5));
    CHECK_OK(gptoss_context_sample(context, 1.5f, UINT64_MAX, 6, other, &n));
    CHECK(memcmp(first, other, sizeof first) != 0);
    CHECK_OK(gptoss_context_sample(context, 1, 0, 0, NULL, &n));
    CHECK(n == 0);

    const float wrong[] = {-1, NAN, INFINITY, -INFINITY, -1e-30f};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        n = 77;
        CHECK_FAILS(gptoss_status_invalid_argument, "temperature",
                    gptoss_context_sample(context, wrong[i], 0, 1, first, &n));
        CHECK(n == 0);
    }
    CHECK(num_tokens(context) == 11);
    CHECK_OK(gptoss_context_release(context));
}

TEST(sampling_ends_where_the_context_is_full) {
    gptoss_context_t context;
    const uint32_t token = 3;
    uint32_t tokens[10];
    size_t n = 0;
    CHECK_OK(gptoss_context_create(tiny_model(), 4, 0, &context));
    CHECK_OK(gptoss_context_append_tokens(context, 1, &token));
    CHECK_OK(gptoss_context_sample(context, 1, 0, 10, tokens, &n));
    CHECK(n == 3 && num_tokens(context) == 4);
    CHECK_OK(gptoss_context_sample(context, 1, 0, 10, tokens, &n));
    CHECK(n == 0);
    CHECK_FAILS(gptoss_status_context_overflow, "4", gptoss_context_append_tokens(context, 1, &token));
    CHECK_OK(gptoss_context_release(context));
}

struct stream {
    uint32_t tokens[300];
    size_t n, stop_after;
};

static int receive(void* user_data, uint32_t token) {
    struct stream* s = user_data;
    if (s->n < 300) s->tokens[s->n] = token;
    return ++s->n == s->stop_after ? 5 : 0;
}

static struct gptoss_generate_options generate_options(size_t max_tokens, struct stream* stream) {
    struct gptoss_generate_options options;
    memset(&options, 0, sizeof options);
    memset(stream, 0, sizeof *stream);
    options.struct_size = sizeof options;
    options.max_tokens = max_tokens;
    options.callback = receive;
    options.user_data = stream;
    return options;
}

TEST(generation_streams_and_stops) {
    gptoss_context_t context = tiny_context();
    gptoss_sampler_t sampler;
    struct stream stream;
    struct gptoss_generate_options options = generate_options(12, &stream);
    size_t n = 0;
    enum gptoss_stop_reason reason = gptoss_stop_reason_none;
    CHECK_OK(gptoss_sampler_create(&sampler));
    CHECK_OK(gptoss_sampler_set_seed(sampler, 11));
    CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, &reason));
    CHECK(n == 12 && stream.n == 12 && reason == gptoss_stop_reason_max_tokens && num_tokens(context) == 17);
    uint32_t expected[12], tokens[17];
    memcpy(expected, stream.tokens, sizeof expected);
    CHECK_OK(gptoss_context_get_tokens(context, tokens, 17, &n));
    CHECK(memcmp(tokens + 5, expected, sizeof expected) == 0);

    /* the callback stops */
    CHECK_OK(gptoss_context_truncate(context, 5));
    options = generate_options(12, &stream);
    stream.stop_after = 4;
    CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, &reason));
    CHECK(n == 4 && stream.n == 4 && reason == gptoss_stop_reason_callback && num_tokens(context) == 9);
    CHECK(memcmp(stream.tokens, expected, 16) == 0);

    /* a stop token: appended, handed over, and the last */
    CHECK_OK(gptoss_context_truncate(context, 5));
    options = generate_options(12, &stream);
    const uint32_t stops[] = {100000, expected[6]};
    options.stop_tokens = stops;
    options.num_stop_tokens = 2;
    CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, &reason));
    CHECK(n >= 1 && n <= 7 && stream.n == n && reason == gptoss_stop_reason_stop_token);
    CHECK(stream.tokens[n - 1] == expected[6]);

    /* greedy without a sampler; the context ends it */
    CHECK_OK(gptoss_context_truncate(context, 5));
    options = generate_options(0, &stream);
    options.stop_tokens = stops; /* of which the vocabulary has none: */
    options.num_stop_tokens = 1;
    CHECK_OK(gptoss_context_generate(context, NULL, &options, NULL, &reason));
    const uint32_t first_greedy = stream.tokens[0];
    CHECK(reason == gptoss_stop_reason_context_full && stream.n == 195 && num_tokens(context) == 200);
    CHECK_OK(gptoss_context_truncate(context, 198));
    CHECK_OK(gptoss_context_generate(context, sampler, NULL, &n, NULL));
    CHECK(n == 2);
    CHECK_OK(gptoss_context_generate(context, sampler, NULL, &n, &reason));
    CHECK(n == 0 && reason == gptoss_stop_reason_context_full);
    CHECK_OK(gptoss_context_truncate(context, 5));
    CHECK(likeliest(context) == first_greedy);

    /* drafts of what was there before: the same tokens, in fewer forward passes, of what comes to repeat itself */
    struct gptoss_context_stats stats = {.struct_size = sizeof stats};
    uint32_t plain[195];
    uint64_t steps[3];
    for (int lookup = gptoss_prompt_lookup_always; lookup >= gptoss_prompt_lookup_default; lookup--) {
        CHECK_OK(gptoss_context_truncate(context, 5));
        CHECK_OK(gptoss_context_get_stats(context, &stats));
        steps[lookup] = stats.decode_steps;
        options = generate_options(0, &stream);
        options.stop_tokens = stops;
        options.num_stop_tokens = 1;
        options.prompt_lookup = (enum gptoss_prompt_lookup)lookup;
        CHECK_OK(gptoss_context_generate(context, NULL, &options, NULL, &reason));
        CHECK(reason == gptoss_stop_reason_context_full && stream.n == 195);
        if (lookup == gptoss_prompt_lookup_always) memcpy(plain, stream.tokens, sizeof plain);
        CHECK(memcmp(plain, stream.tokens, sizeof plain) == 0);
        CHECK_OK(gptoss_context_get_stats(context, &stats));
        steps[lookup] = stats.decode_steps - steps[lookup];
    }
    CHECK(steps[gptoss_prompt_lookup_always] < steps[gptoss_prompt_lookup_off]);
    CHECK(steps[gptoss_prompt_lookup_off] >= 194);
    CHECK_OK(gptoss_context_truncate(context, 5));
    options.prompt_lookup = (enum gptoss_prompt_lookup)3;
    CHECK_FAILS(gptoss_status_invalid_argument, "options.prompt_lookup is 3",
                gptoss_context_generate(context, NULL, &options, &n, &reason));

    options = generate_options(1, &stream);
    for (size_t size = 0; size < offsetof(struct gptoss_generate_options, output_callback);
         size++) { /* version 0.1's */
        options.struct_size = size;
        CHECK_FAILS(gptoss_status_invalid_argument, "options.struct_size",
                    gptoss_context_generate(context, NULL, &options, &n, &reason));
    }
    CHECK(n == 0 && reason == gptoss_stop_reason_none && stream.n == 0);
    options = generate_options(1, &stream);
    options.num_stop_tokens = 3;
    CHECK_FAILS(gptoss_status_invalid_argument, "stop_tokens",
                gptoss_context_generate(context, NULL, &options, &n, &reason));
    CHECK_OK(gptoss_sampler_release(sampler));
    CHECK_OK(gptoss_context_release(context));
}

/* How many tokens of a prompt of n a new context computes. */
static uint64_t computed_by_another(gptoss_model_t model, const uint32_t* tokens, size_t n) {
    struct gptoss_context_stats stats = {.struct_size = sizeof stats};
    gptoss_context_t context;
    CHECK_OK(gptoss_context_create(model, 200, 32, &context));
    CHECK_OK(gptoss_context_append_tokens(context, n, tokens));
    CHECK_OK(gptoss_context_process(context));
    CHECK_OK(gptoss_context_get_stats(context, &stats));
    CHECK_OK(gptoss_context_release(context));
    return stats.prompt_tokens_computed;
}

TEST(a_prompt_that_begins_as_another_one_is_not_computed_again) {
    struct gptoss_model_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.device = getenv("GPTOSS_TEST_DEVICE");
    uint32_t tokens[100];
    for (uint32_t i = 0; i < 100; i++) tokens[i] = i * 5;
    for (uint64_t bytes = 0; bytes < 2; bytes++) {
        gptoss_model_t model;
        options.prefix_cache_bytes = bytes;
        CHECK_OK(gptoss_model_create(golden("tiny"), &options, &model));
        CHECK(computed_by_another(model, tokens, 90) == 90);
        CHECK(computed_by_another(model, tokens, 100) == (bytes == 1 ? 100 : 10));
        CHECK_OK(gptoss_model_release(model));
    }
}

static int count_and_stop_at_4(void* count, uint32_t token) {
    (void)token;
    return ++*(int*)count == 4;
}

TEST(contexts_generate_together) {
    enum { N = 3 };
    gptoss_context_t contexts[N], alone;
    gptoss_sampler_t sampler;
    CHECK_OK(gptoss_sampler_create(&sampler));
    CHECK_OK(gptoss_sampler_set_seed(sampler, 5));
    const uint32_t none = 0;
    int called = 0;
    struct gptoss_generate_options options[N];
    struct gptoss_generation generations[N];
    memset(options, 0, sizeof options);
    memset(generations, 0, sizeof generations);
    for (size_t i = 0; i < N; i++) {
        contexts[i] = tiny_context();
        options[i].struct_size = sizeof options[i];
        options[i].max_tokens = 6 + i;
        options[i].stop_tokens = &none;
        generations[i].struct_size = sizeof generations[i];
        generations[i].context = contexts[i];
        generations[i].sampler = i == 1 ? sampler : NULL;
        generations[i].options = &options[i];
    }
    options[2].callback = count_and_stop_at_4;
    options[2].user_data = &called;
    CHECK_OK(gptoss_generate_together(generations, N));
    CHECK(called == 4 && generations[2].num_tokens == 4);
    CHECK(generations[2].stop_reason == gptoss_stop_reason_callback);
    for (size_t i = 0; i < N; i++) {
        uint32_t got[64], expected[64];
        size_t n_got = 0, n_expected = 0;
        CHECK(generations[i].status == gptoss_status_success);
        if (i < 2) CHECK(generations[i].num_tokens == 6 + i);
        if (i < 2) CHECK(generations[i].stop_reason == gptoss_stop_reason_max_tokens);
        CHECK_OK(gptoss_context_get_tokens(contexts[i], got, 64, &n_got));
        alone = tiny_context();
        options[i].callback = NULL;
        options[i].max_tokens = generations[i].num_tokens;
        CHECK_OK(gptoss_context_generate(alone, generations[i].sampler, &options[i], NULL, NULL));
        CHECK_OK(gptoss_context_get_tokens(alone, expected, 64, &n_expected));
        CHECK(n_got == n_expected && memcmp(got, expected, n_got * 4) == 0);
        CHECK_OK(gptoss_context_release(alone));
    }

    /* one that is cancelled fails alone */
    options[0].max_tokens = options[1].max_tokens = 3;
    CHECK_OK(gptoss_context_cancel(contexts[0]));
    CHECK_FAILS(gptoss_status_cancelled, "cancelled", gptoss_generate_together(generations, 2));
    CHECK(generations[0].status == gptoss_status_cancelled && generations[0].num_tokens == 0);
    CHECK(generations[1].status == gptoss_status_success && generations[1].num_tokens == 3);

    CHECK_OK(gptoss_generate_together(NULL, 0));
    CHECK_FAILS(gptoss_status_invalid_argument, "generations", gptoss_generate_together(NULL, 1));
    generations[1].context = contexts[0];
    CHECK_FAILS(gptoss_status_invalid_argument, "generations[1].context", gptoss_generate_together(generations, N));
    /* a call that is refused says so in each of them */
    for (size_t i = 0; i < N; i++) {
        CHECK(generations[i].status == gptoss_status_invalid_argument && generations[i].num_tokens == 0);
        CHECK(generations[i].stop_reason == gptoss_stop_reason_none);
        generations[i].num_tokens = 77;
    }
    generations[1].context = NULL;
    CHECK_FAILS(gptoss_status_invalid_argument, "generations[1].context", gptoss_generate_together(generations, N));
    for (size_t i = 0; i < N; i++) CHECK(generations[i].num_tokens == 0);
    generations[1].context = contexts[1];
    options[2].struct_size = 1;
    CHECK_FAILS(gptoss_status_invalid_argument, "options.struct_size", gptoss_generate_together(generations, N));
    CHECK(generations[0].status == gptoss_status_invalid_argument);
    options[2].struct_size = sizeof options[2];
    /* unless it cannot tell where they lie */
    for (size_t i = 0; i < N; i++) generations[i].num_tokens = 77;
    generations[2].struct_size--;
    CHECK_FAILS(gptoss_status_invalid_argument, "generations[2].struct_size", gptoss_generate_together(generations, N));
    generations[0].struct_size = 8;
    CHECK_FAILS(gptoss_status_invalid_argument, "generations[0].struct_size", gptoss_generate_together(generations, N));
    for (size_t i = 0; i < N; i++) CHECK(generations[i].num_tokens == 77);
    for (size_t i = 0; i < N; i++) CHECK_OK(gptoss_context_release(contexts[i]));
    CHECK_OK(gptoss_sampler_release(sampler));
}

TEST(sampler_settings_change_what_is_drawn) {
    gptoss_context_t context = tiny_context();
    struct stream stream;
    struct gptoss_generate_options options;
    uint32_t greedy[8];
    size_t n = 0;
    CHECK_OK(gptoss_context_sample(context, 0, 0, 8, greedy, &n));
    for (int setting = 0; setting < 9; setting++) {
        gptoss_sampler_t sampler;
        CHECK_OK(gptoss_sampler_create(&sampler));
        CHECK_OK(gptoss_sampler_set_seed(sampler, 4));
        if (setting >= 4) CHECK_OK(gptoss_sampler_set_temperature(sampler, 0));
        switch (setting) {
            case 0:
                CHECK_OK(gptoss_sampler_set_temperature(sampler, 0));
                break;
            case 1:
                CHECK_OK(gptoss_sampler_set_top_k(sampler, 1));
                break;
            case 2:
                CHECK_OK(gptoss_sampler_set_top_p(sampler, 1e-6f));
                break;
            case 3:
                CHECK_OK(gptoss_sampler_set_min_p(sampler, 1));
                break;
            case 4:
                CHECK_OK(gptoss_sampler_set_presence_penalty(sampler, 2));
                break;
            case 5:
                CHECK_OK(gptoss_sampler_set_frequency_penalty(sampler, 2));
                break;
            case 6:
                CHECK_OK(gptoss_sampler_set_repetition_penalty(sampler, 4));
                break;
            default:
                break;
        }
        CHECK_OK(gptoss_context_truncate(context, 5));
        options = generate_options(8, &stream);
        CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, NULL));
        const bool same = memcmp(stream.tokens, greedy, sizeof greedy) == 0;
        if (setting <= 3 || setting >= 7) CHECK(same);
        CHECK_OK(gptoss_sampler_release(sampler));
    }
    /* the token that a greedy run repeats, if it repeats one, is what a penalty avoids: see tests/model */
    CHECK_OK(gptoss_context_release(context));
}

TEST(a_context_says_what_it_holds_and_costs) {
    gptoss_context_t context = tiny_context();
    struct gptoss_context_stats stats;
    memset(&stats, 'x', sizeof stats);
    stats.struct_size = sizeof stats;
    CHECK_OK(gptoss_context_get_stats(context, &stats));
    CHECK(stats.cache_bytes == 0 && stats.activation_bytes > 0 && stats.step_dispatches == 0);
    CHECK(stats.prompt_tokens_computed == 0);
    uint32_t tokens[2];
    size_t n = 0;
    CHECK_OK(gptoss_context_sample(context, 0, 0, 2, tokens, &n));
    CHECK_OK(gptoss_context_get_stats(context, &stats));
    CHECK(stats.step_dispatches >= 4 * 4 && stats.step_barriers <= stats.step_dispatches + 2);
    CHECK(stats.cache_bytes > 0);
    CHECK(stats.prompt_tokens_computed == 5);
    CHECK_OK(gptoss_context_truncate(context, 4)); /* the prompt's first tokens are still there */
    CHECK_OK(gptoss_context_append_tokens(context, 2, tokens));
    CHECK_OK(gptoss_context_process(context));
    const uint64_t cache_bytes_per_token = stats.cache_bytes_per_token;
    CHECK_OK(gptoss_context_get_stats(context, &stats));
    CHECK(stats.prompt_tokens_computed == 7);
    /* the next token sees 8 tokens: 2 key-value heads of 64 keys and values, float16 in 2 layers, float32 in 2 */
    CHECK(cache_bytes_per_token == 8 * 2 * 64 * 2 * (2 * 2 + 2 * 4));
    stats.struct_size = offsetof(struct gptoss_context_stats, step_barriers);
    CHECK_FAILS(gptoss_status_invalid_argument, "struct_size", gptoss_context_get_stats(context, &stats));
    CHECK_FAILS(gptoss_status_invalid_argument, "stats_out", gptoss_context_get_stats(context, NULL));
    stats.struct_size = sizeof stats;
    CHECK_FAILS(gptoss_status_invalid_argument, "context", gptoss_context_get_stats(NULL, &stats));
    CHECK(stats.cache_bytes == 0);
    CHECK_OK(gptoss_context_release(context));
}

TEST(a_profile_leaves_the_context_as_it_is) {
    gptoss_context_t context = tiny_context();
    float before[VOCABULARY], after[VOCABULARY];
    get_logits(context, before);
    struct gptoss_kernel_time times[40];
    size_t n = 77;
    gptoss_sampler_t penalizing;
    CHECK_OK(gptoss_sampler_create(&penalizing));
    CHECK_OK(gptoss_sampler_set_repetition_penalty(penalizing, 1.5f));
    for (size_t tokens = 1; tokens <= 5; tokens += 4) {
        int draws = 0;
        CHECK_OK(gptoss_context_profile(context, tokens, tokens == 1 ? NULL : penalizing, times, 40, &n));
        CHECK(n <= 40);
        for (size_t i = 0; i < n; i++) {
            CHECK(times[i].name[0] && strlen(times[i].name) < sizeof times[i].name && times[i].dispatches > 0 &&
                  times[i].microseconds >= 0);
            if (strcmp(times[i].name, "sample") == 0) draws++;
        }
        CHECK(draws == (n > 0));
    }
    CHECK_OK(gptoss_sampler_release(penalizing));
    CHECK_OK(gptoss_context_profile(context, 1, NULL, NULL, 0, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "0", gptoss_context_profile(context, 0, NULL, times, 40, &n));
    CHECK(n == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "5 tokens", gptoss_context_profile(context, 6, NULL, times, 40, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "5 tokens",
                gptoss_context_profile(context, SIZE_MAX, NULL, times, 40, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "times_out", gptoss_context_profile(context, 1, NULL, NULL, 1, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "num_times_out",
                gptoss_context_profile(context, 1, NULL, times, 40, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "context", gptoss_context_profile(NULL, 1, NULL, times, 40, &n));
    CHECK(num_tokens(context) == 5);
    CHECK_OK(gptoss_context_truncate(context, 4));
    CHECK_OK(gptoss_context_append_tokens(context, 1, (const uint32_t[]){511}));
    get_logits(context, after);
    CHECK(memcmp(before, after, sizeof before) == 0);
    CHECK_OK(gptoss_context_release(context));
}

struct canceller {
    gptoss_context_t context;
    struct stream* stream;
};

static void* cancel_after_three(void* argument) {
    const struct canceller* c = argument;
    while (__atomic_load_n(&c->stream->n, __ATOMIC_ACQUIRE) < 3) sched_yield();
    CHECK_OK(gptoss_context_cancel(c->context));
    return NULL;
}

static int receive_atomically(void* user_data, uint32_t token) {
    struct stream* s = user_data;
    if (s->n < 300) s->tokens[s->n] = token;
    __atomic_add_fetch(&s->n, 1, __ATOMIC_RELEASE);
    return 0;
}

TEST(another_thread_cancels) {
    gptoss_context_t context;
    const uint32_t token = 3;
    CHECK_OK(gptoss_context_create(tiny_model(), 2000, 0, &context));
    CHECK_OK(gptoss_context_append_tokens(context, 1, &token));
    struct stream stream;
    struct gptoss_generate_options options = generate_options(0, &stream);
    options.callback = receive_atomically;
    struct canceller canceller = {context, &stream};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, cancel_after_three, &canceller) == 0);
    size_t n = 0;
    enum gptoss_stop_reason reason = gptoss_stop_reason_callback;
    CHECK_FAILS(gptoss_status_cancelled, "cancelled", gptoss_context_generate(context, NULL, &options, &n, &reason));
    pthread_join(thread, NULL);
    CHECK(n >= 3 && n < 1999 && n == stream.n && reason == gptoss_stop_reason_none);
    CHECK(num_tokens(context) == 1 + n);
    /* what was generated is what a run that is not cancelled generates */
    uint32_t tokens[8];
    size_t sampled = 0;
    const size_t compared = n < 8 ? n : 8;
    CHECK_OK(gptoss_context_truncate(context, 1));
    CHECK_OK(gptoss_context_sample(context, 0, 0, compared, tokens, &sampled));
    CHECK(sampled == compared && memcmp(tokens, stream.tokens, compared * 4) == 0);
    CHECK_OK(gptoss_context_release(context));
}

static void* last_error_of_a_thread(void* argument) {
    (void)argument;
    CHECK(strcmp(gptoss_last_error(), "") == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "model_out", gptoss_model_create_from_file("x", NULL));
    return NULL;
}

TEST(each_thread_has_its_last_error) {
    CHECK_FAILS(gptoss_status_invalid_argument, "context", gptoss_context_process(NULL));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, last_error_of_a_thread, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK(strstr(gptoss_last_error(), "context") != NULL);
    CHECK(gptoss_version() > 0);
    CHECK_OK(gptoss_model_release(NULL));
    CHECK(strstr(gptoss_last_error(), "context") != NULL); /* a success does not clear it */
}

/* sanitizers end the process where an allocation fails */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(_WIN32) /* which has no such limit */
TEST(too_little_memory_for_a_context) {
    /* newer software devices do not survive a small allocation that fails, and have large ones at hand already */
    struct gptoss_device_info device;
    memset(&device, 0, sizeof device);
    device.struct_size = sizeof device;
    CHECK_OK(gptoss_device_get_info(0, &device));
    if (!strstr(device.driver, "Mesa 22.")) return;
    /* everything that a context needs is built and allocated once, so that what fails is what is larger */
    gptoss_context_t context = tiny_context(), large = (gptoss_context_t)&context;
    float before[VOCABULARY], after[VOCABULARY];
    get_logits(context, before);
    struct rlimit limit, tight;
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    tight = limit;
    tight.rlim_cur = 1 << 20; /* less than is in use: no mapping succeeds any more */
    CHECK(setrlimit(RLIMIT_AS, &tight) == 0);
    const enum gptoss_status status = gptoss_context_create(tiny_model(), 0, 60000, &large);
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    CHECK_FAILS(gptoss_status_insufficient_memory, "memory", status);
    CHECK(!large);
    CHECK_OK(gptoss_context_create(tiny_model(), 0, 600, &large));
    CHECK_OK(gptoss_context_release(large));
    get_logits(context, after);
    CHECK(memcmp(before, after, sizeof before) == 0);
    CHECK_OK(gptoss_context_release(context));
}
#endif
