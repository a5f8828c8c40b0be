/* Samplers: settings and what they refuse. That they change what is drawn is in context_test.c. */
#include <float.h>
#include <math.h>

#include "check.h"

typedef enum gptoss_status (*setter)(gptoss_sampler_t, float);

static void check_range(setter set, const char* name, const float* good, size_t n_good, const float* bad,
                        size_t n_bad) {
    gptoss_sampler_t sampler;
    CHECK_OK(gptoss_sampler_create(&sampler));
    for (size_t i = 0; i < n_good; i++) CHECK_OK(set(sampler, good[i]));
    for (size_t i = 0; i < n_bad; i++) CHECK_FAILS(gptoss_status_invalid_argument, name, set(sampler, bad[i]));
    CHECK_FAILS(gptoss_status_invalid_argument, name, set(sampler, NAN));
    CHECK_FAILS(gptoss_status_invalid_argument, name, set(sampler, INFINITY));
    CHECK_FAILS(gptoss_status_invalid_argument, name, set(sampler, -INFINITY));
    CHECK_FAILS(gptoss_status_invalid_argument, "sampler", set(NULL, good[0]));
    CHECK_OK(set(sampler, good[0]));
    CHECK_OK(gptoss_sampler_release(sampler));
}

#define RANGE(setting, good, bad) \
    check_range(gptoss_sampler_set_##setting, #setting, good, sizeof good / sizeof *good, bad, sizeof bad / sizeof *bad)

TEST(sampler_settings_have_ranges) {
    const float temperature[] = {1, 0, 0.7f, 100, FLT_MAX}, bad_temperature[] = {-1, -1e-9f, -FLT_MIN};
    RANGE(temperature, temperature, bad_temperature);
    const float top_p[] = {1, 0.9f, FLT_MIN}, bad_top_p[] = {0, -0.1f, 1.01f};
    RANGE(top_p, top_p, bad_top_p);
    const float min_p[] = {0, 0.05f, 1}, bad_min_p[] = {-0.1f, 1.01f};
    RANGE(min_p, min_p, bad_min_p);
    const float penalty[] = {0, -2, 2, 0.5f}, bad_penalty[] = {-2.1f, 2.1f};
    RANGE(presence_penalty, penalty, bad_penalty);
    RANGE(frequency_penalty, penalty, bad_penalty);
    const float repetition[] = {1, 1.3f, 0.5f}, bad_repetition[] = {0, -1};
    RANGE(repetition_penalty, repetition, bad_repetition);
}

TEST(sampler_counts_and_seeds_take_any_value) {
    gptoss_sampler_t sampler;
    CHECK_OK(gptoss_sampler_create(&sampler));
    CHECK_OK(gptoss_sampler_set_top_k(sampler, 0));
    CHECK_OK(gptoss_sampler_set_top_k(sampler, UINT32_MAX));
    CHECK_OK(gptoss_sampler_set_seed(sampler, 0));
    CHECK_OK(gptoss_sampler_set_seed(sampler, UINT64_MAX));
    CHECK_FAILS(gptoss_status_invalid_argument, "sampler", gptoss_sampler_set_top_k(NULL, 1));
    CHECK_FAILS(gptoss_status_invalid_argument, "sampler", gptoss_sampler_set_seed(NULL, 1));
    CHECK_FAILS(gptoss_status_invalid_argument, "sampler_out", gptoss_sampler_create(NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "NULL", gptoss_sampler_retain(NULL));
    CHECK_OK(gptoss_sampler_release(NULL));
    CHECK_OK(gptoss_sampler_retain(sampler));
    CHECK_OK(gptoss_sampler_release(sampler));
    CHECK_OK(gptoss_sampler_set_top_k(sampler, 5));
    CHECK_OK(gptoss_sampler_release(sampler));
}
