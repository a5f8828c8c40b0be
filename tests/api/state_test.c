/* Contexts that are saved, restored, forked and cancelled through the C interface. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static size_t num_tokens(gptoss_context_t context) {
    size_t n = 999;
    CHECK_OK(gptoss_context_get_num_tokens(context, &n));
    return n;
}

static void* saved(gptoss_context_t context, size_t* size) {
    size_t again = 0;
    CHECK_OK(gptoss_context_save(context, NULL, 0, size));
    char* state = malloc(*size + 1);
    state[*size] = 77;
    CHECK_OK(gptoss_context_save(context, state, *size, &again));
    CHECK(again == *size && state[*size] == 77);
    return state;
}

/* A context of another model does not take the state, and says why. */
static void check_refused_by(const char* path, const struct gptoss_model_options* options, const char* why,
                             const void* state, size_t size) {
    gptoss_model_t model;
    gptoss_context_t context;
    CHECK_OK(gptoss_model_create(path, options, &model));
    CHECK_OK(gptoss_context_create(model, 100, 0, &context));
    CHECK_FAILS(gptoss_status_invalid_argument, why, gptoss_context_restore(context, state, size));
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_model_release(model));
}

TEST(a_context_is_saved_and_restored) {
    gptoss_context_t context = tiny_context(), other;
    uint32_t expected[20], tokens[20];
    size_t n = 0, size = 0;
    CHECK_OK(gptoss_context_sample(context, 1, 3, 9, tokens, &n));
    char* state = saved(context, &size);
    CHECK_OK(gptoss_context_sample(context, 1, 3, 20, expected, &n));

    CHECK_OK(gptoss_context_create(tiny_model(), 100, 0, &other));
    CHECK_OK(gptoss_context_restore(other, state, size));
    CHECK(num_tokens(other) == 14);
    CHECK_OK(gptoss_context_sample(other, 1, 3, 20, tokens, &n));
    CHECK(n == 20 && memcmp(tokens, expected, sizeof tokens) == 0);

    /* too little room stores nothing, and is no failure */
    char few[4] = {1, 2, 3, 4};
    size_t wanted = 0;
    CHECK_OK(gptoss_context_save(other, few, sizeof few, &wanted));
    CHECK(wanted > size && few[0] == 1 && few[3] == 4);

    /* a damaged state leaves the context as it was */
    state[size / 2] ^= 64;
    CHECK_FAILS(gptoss_status_invalid_argument, "checksum", gptoss_context_restore(other, state, size));
    CHECK_FAILS(gptoss_status_invalid_argument, "truncated", gptoss_context_restore(other, state, size - 1));
    CHECK_FAILS(gptoss_status_invalid_argument, "truncated", gptoss_context_restore(other, NULL, 0));
    CHECK(num_tokens(other) == 34);
    CHECK_OK(gptoss_context_truncate(other, 14));
    CHECK_OK(gptoss_context_sample(other, 1, 3, 20, tokens, &n));
    CHECK(memcmp(tokens, expected, sizeof tokens) == 0);
    state[size / 2] ^= 64;
    gptoss_context_t small;
    CHECK_OK(gptoss_context_create(tiny_model(), 13, 0, &small));
    CHECK_FAILS(gptoss_status_context_overflow, "13", gptoss_context_restore(small, state, size));
    CHECK_OK(gptoss_context_release(small));
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_context_release(other));

    /* the same model in another layout is another one to a state */
    struct gptoss_model_options options = model_options();
    check_refused_by(golden("tiny-q8.gguf"), &options, "another model", state, size);
    options.kv = gptoss_kv_type_f32;
    check_refused_by(golden("tiny"), &options, "16-bit", state, size);
    free(state);
}

TEST(a_context_is_forked) {
    gptoss_context_t context = tiny_context(), fork = NULL, second = NULL;
    uint32_t expected[10], tokens[10];
    size_t n = 0;
    CHECK_OK(gptoss_context_process(context));
    CHECK_OK(gptoss_context_fork(context, &fork));
    CHECK_OK(gptoss_context_fork(fork, &second));
    CHECK_OK(gptoss_context_get_max_tokens(fork, &n));
    CHECK(n == 200);
    CHECK_OK(gptoss_context_sample(context, 0, 0, 10, expected, &n));
    CHECK_OK(gptoss_context_release(context));
    CHECK(num_tokens(fork) == 5);
    CHECK_OK(gptoss_context_sample(fork, 0, 0, 10, tokens, &n));
    CHECK(memcmp(tokens, expected, sizeof tokens) == 0);
    CHECK_OK(gptoss_context_truncate(second, 1));
    CHECK(num_tokens(second) == 1 && num_tokens(fork) == 15);
    CHECK_OK(gptoss_context_release(fork));
    CHECK_OK(gptoss_context_sample(second, 0, 0, 10, tokens, &n));
    CHECK_OK(gptoss_context_release(second));
}

TEST(null_is_refused_by_states) {
    gptoss_context_t context = tiny_context(), fork = (gptoss_context_t)&context;
    size_t n = 77;
    CHECK_FAILS(gptoss_status_invalid_argument, "context", gptoss_context_fork(NULL, &fork));
    CHECK(!fork);
    CHECK_FAILS(gptoss_status_invalid_argument, "context_out", gptoss_context_fork(context, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "context", gptoss_context_save(NULL, NULL, 0, &n));
    CHECK(n == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "size_out", gptoss_context_save(context, NULL, 0, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "state_out", gptoss_context_save(context, NULL, 1, &n));
    CHECK_FAILS(gptoss_status_invalid_argument, "context", gptoss_context_restore(NULL, &n, sizeof n));
    CHECK_FAILS(gptoss_status_invalid_argument, "state", gptoss_context_restore(context, NULL, 1));
    CHECK_FAILS(gptoss_status_invalid_argument, "context", gptoss_context_clear_cancel(NULL));
    CHECK(num_tokens(context) == 5);
    CHECK_OK(gptoss_context_release(context));
}

TEST(a_cancel_is_never_too_early) {
    gptoss_context_t context = tiny_context();
    uint32_t tokens[4];
    size_t n = 77;
    CHECK_OK(gptoss_context_cancel(context));
    CHECK_OK(gptoss_context_cancel(context));
    CHECK_FAILS(gptoss_status_cancelled, "cancelled", gptoss_context_sample(context, 0, 0, 4, tokens, &n));
    CHECK(n == 0 && num_tokens(context) == 5);
    /* one call returned for both */
    CHECK_OK(gptoss_context_sample(context, 0, 0, 4, tokens, &n));
    CHECK(n == 4);
    /* what computes nothing does not take it */
    CHECK_OK(gptoss_context_cancel(context));
    CHECK_OK(gptoss_context_truncate(context, 8));
    CHECK_OK(gptoss_context_append_tokens(context, 1, tokens + 3));
    CHECK_FAILS(gptoss_status_cancelled, "cancelled", gptoss_context_process(context));
    CHECK_OK(gptoss_context_process(context));
    CHECK_OK(gptoss_context_cancel(context));
    CHECK_FAILS(gptoss_status_cancelled, "cancelled", gptoss_context_get_logits(context, NULL, 0, &n));
    CHECK_OK(gptoss_context_cancel(context));
    CHECK_FAILS(gptoss_status_cancelled, "cancelled", gptoss_context_generate(context, NULL, NULL, &n, NULL));
    CHECK_OK(gptoss_context_cancel(context));
    CHECK_OK(gptoss_context_clear_cancel(context));
    CHECK_OK(gptoss_context_get_logits(context, NULL, 0, &n));
    CHECK_OK(gptoss_context_release(context));
}

struct reentry {
    gptoss_context_t context;
    int calls;
};

/* While a call runs on the context: whatever changes or computes. */
static void check_refused(gptoss_context_t context) {
    const uint32_t token = 3;
    uint32_t tokens[4];
    size_t n = 0, size = 0;
    gptoss_context_t fork = context;
#define RUNNING(call) CHECK_FAILS(gptoss_status_invalid_state, "another call is running", call)
    RUNNING(gptoss_context_truncate(context, 0));
    RUNNING(gptoss_context_reset(context));
    RUNNING(gptoss_context_append_tokens(context, 1, &token));
    RUNNING(gptoss_context_append_chars(context, "", 0, NULL));
    RUNNING(gptoss_context_process(context));
    RUNNING(gptoss_context_get_logits(context, NULL, 0, &n));
    RUNNING(gptoss_context_sample(context, 0, 0, 1, tokens, &n));
    RUNNING(gptoss_context_generate(context, NULL, NULL, NULL, NULL));
    RUNNING(gptoss_context_profile(context, 1, NULL, NULL, 0, &n));
    RUNNING(gptoss_context_fork(context, &fork));
    CHECK(!fork);
    RUNNING(gptoss_context_save(context, NULL, 0, &size));
    RUNNING(gptoss_context_restore(context, tokens, 1));
}

/* In a thread that the call does not run in, also what reads. */
static void* use_from_another_thread(void* argument) {
    gptoss_context_t context = argument;
    struct gptoss_context_stats stats = {.struct_size = sizeof stats};
    uint32_t token;
    size_t n = 1;
    check_refused(context);
    RUNNING(gptoss_context_get_num_tokens(context, &n));
    RUNNING(gptoss_context_get_tokens(context, &token, 1, &n));
    RUNNING(gptoss_context_get_stats(context, &stats));
    CHECK(n == 0);
    CHECK_OK(gptoss_context_get_max_tokens(context, &n));
    return NULL;
}

static int use_the_context(void* user_data, uint32_t token) {
    struct reentry* r = user_data;
    uint32_t tokens[300];
    size_t n = 0;
    pthread_t thread;
    CHECK_OK(gptoss_context_get_tokens(r->context, tokens, 300, &n));
    CHECK(n == 6 + (size_t)r->calls && tokens[n - 1] == token);
    check_refused(r->context);
    CHECK(pthread_create(&thread, NULL, use_from_another_thread, r->context) == 0);
    pthread_join(thread, NULL);
    return ++r->calls == 5 && gptoss_context_cancel(r->context) != gptoss_status_success;
}

TEST(a_context_in_use) {
    gptoss_context_t context = tiny_context();
    struct reentry r = {context, 0};
    struct gptoss_generate_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.callback = use_the_context;
    options.user_data = &r;
    size_t n = 0;
    uint32_t tokens[5], expected[5];
    CHECK_FAILS(gptoss_status_cancelled, "cancelled", gptoss_context_generate(context, NULL, &options, &n, NULL));
    CHECK(n == 5 && num_tokens(context) == 10);
    CHECK_OK(gptoss_context_truncate(context, 5));
    CHECK_OK(gptoss_context_sample(context, 0, 0, 5, tokens, &n));
    gptoss_context_t fresh = tiny_context();
    CHECK_OK(gptoss_context_sample(fresh, 0, 0, 5, expected, &n));
    CHECK(memcmp(tokens, expected, sizeof tokens) == 0);
    CHECK_OK(gptoss_context_release(fresh));
    CHECK_OK(gptoss_context_release(context));
}

struct canceller {
    gptoss_context_t context;
    pthread_barrier_t start;
};

static void* cancel_at_once(void* argument) {
    struct canceller* c = argument;
    pthread_barrier_wait(&c->start);
    CHECK_OK(gptoss_context_cancel(c->context));
    return NULL;
}

TEST(a_cancel_stops_what_starts_at_the_same_time) {
    struct canceller c;
    CHECK_OK(gptoss_context_create(tiny_model(), 4000, 0, &c.context));
    pthread_barrier_init(&c.start, NULL, 2);
    for (int i = 0; i < 20; i++) {
        const uint32_t token = 3;
        pthread_t thread;
        CHECK_OK(gptoss_context_reset(c.context));
        CHECK_OK(gptoss_context_append_tokens(c.context, 1, &token));
        CHECK(pthread_create(&thread, NULL, cancel_at_once, &c) == 0);
        pthread_barrier_wait(&c.start);
        size_t n = 0;
        CHECK_FAILS(gptoss_status_cancelled, "cancelled", gptoss_context_generate(c.context, NULL, NULL, &n, NULL));
        CHECK(n < 3999);
        pthread_join(thread, NULL);
    }
    pthread_barrier_destroy(&c.start);
    CHECK_OK(gptoss_context_release(c.context));
}
