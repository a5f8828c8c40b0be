/* Handles that are released while a call uses them. Under AddressSanitizer what a call does after that is seen. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#include "check.h"

struct owned {
    gptoss_model_t model;
    gptoss_context_t context;
    gptoss_sampler_t sampler;
    int calls;
    sem_t running, released;
};

/* A context, its model and a sampler, of which nobody else holds a reference. */
static struct owned own(void) {
    const struct gptoss_model_options options = model_options();
    struct owned o;
    memset(&o, 0, sizeof o);
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &o.model));
    CHECK_OK(gptoss_context_create(o.model, 64, 0, &o.context));
    CHECK_OK(gptoss_context_append_tokens(o.context, 3, (const uint32_t[]){1, 20, 300}));
    CHECK_OK(gptoss_sampler_create(&o.sampler));
    return o;
}

static void release_all(struct owned* o) {
    CHECK_OK(gptoss_sampler_release(o->sampler));
    CHECK_OK(gptoss_model_release(o->model));
    CHECK_OK(gptoss_context_release(o->context));
}

static struct gptoss_generate_options calling(gptoss_token_callback_t callback, struct owned* o) {
    struct gptoss_generate_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.max_tokens = 8;
    options.stop_tokens = (const uint32_t[]){0};
    options.callback = callback;
    options.user_data = o;
    return options;
}

static int release_at_first(void* user_data, uint32_t token) {
    struct owned* const o = user_data;
    (void)token;
    if (o->calls++ == 0) release_all(o);
    return 0;
}

TEST(a_callback_releases_all_that_its_call_uses) {
    struct owned o = own();
    const struct gptoss_generate_options options = calling(release_at_first, &o);
    size_t n = 0;
    enum gptoss_stop_reason reason;
    CHECK_OK(gptoss_context_generate(o.context, o.sampler, &options, &n, &reason));
    CHECK(n == 8 && o.calls == 8 && reason == gptoss_stop_reason_max_tokens);
}

static int wait_for_release(void* user_data, uint32_t token) {
    struct owned* const o = user_data;
    (void)token;
    if (o->calls++ == 0) {
        sem_post(&o->running);
        sem_wait(&o->released);
    }
    return 0;
}

static void* generate(void* user_data) {
    struct owned* const o = user_data;
    const struct gptoss_generate_options options = calling(wait_for_release, o);
    size_t n = 0;
    CHECK_OK(gptoss_context_generate(o->context, o->sampler, &options, &n, NULL));
    CHECK(n == 8);
    return NULL;
}

TEST(another_thread_releases_all_that_a_call_uses) {
    struct owned o = own();
    pthread_t thread;
    sem_init(&o.running, 0, 0);
    sem_init(&o.released, 0, 0);
    CHECK(pthread_create(&thread, NULL, generate, &o) == 0);
    sem_wait(&o.running);
    release_all(&o);
    sem_post(&o.released);
    pthread_join(thread, NULL);
    sem_destroy(&o.running);
    sem_destroy(&o.released);
}

TEST(a_temperature_near_zero_draws_the_likeliest) {
    gptoss_context_t context = tiny_context();
    gptoss_sampler_t sampler;
    const float temperatures[] = {1e-45f, 1e-40f, 1.1e-38f, 2e-38f, 1e-36f, 1e-30f, 1e-20f};
    uint32_t expected[8], found[16];
    size_t n = 0;
    struct gptoss_generate_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.max_tokens = 8;
    options.stop_tokens = (const uint32_t[]){0};
    CHECK_OK(gptoss_context_sample(context, 0, 0, 8, expected, &n));
    CHECK(n == 8);
    CHECK_OK(gptoss_sampler_create(&sampler));
    for (size_t i = 0; i < sizeof temperatures / sizeof *temperatures; i++) {
        CHECK_OK(gptoss_context_truncate(context, 5));
        CHECK_OK(gptoss_context_sample(context, temperatures[i], 3, 8, found, &n));
        CHECK(n == 8 && memcmp(found, expected, sizeof expected) == 0);
        for (int filters = 0; filters < 2; filters++) {
            CHECK_OK(gptoss_context_truncate(context, 5));
            CHECK_OK(gptoss_sampler_set_temperature(sampler, temperatures[i]));
            CHECK_OK(gptoss_sampler_set_top_p(sampler, filters ? 0.9f : 1));
            CHECK_OK(gptoss_sampler_set_min_p(sampler, filters ? 0.1f : 0));
            CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, NULL));
            CHECK_OK(gptoss_context_get_tokens(context, found, 16, &n));
            CHECK(n == 13 && memcmp(found + 5, expected, sizeof expected) == 0);
        }
    }
    CHECK_OK(gptoss_sampler_release(sampler));
    CHECK_OK(gptoss_context_release(context));
}
