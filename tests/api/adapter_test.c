/* LoRA adapters over golden/tiny. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define VOCAB 512

static gptoss_adapter_t open_adapter(const char* form) {
    gptoss_adapter_t adapter = NULL;
    CHECK_OK(gptoss_adapter_create(tiny_model(), golden(form), &adapter));
    CHECK(adapter != NULL);
    return adapter;
}

static void read_logits(gptoss_context_t context, float* logits) {
    size_t n = 0;
    CHECK_OK(gptoss_context_get_logits(context, logits, VOCAB, &n));
    CHECK(n == VOCAB);
}

TEST(adapter_of_a_context) {
    static float without[VOCAB], with[VOCAB], half[VOCAB], again[VOCAB];
    gptoss_adapter_t adapter = open_adapter("adapters/experts");
    gptoss_context_t context = tiny_context();
    read_logits(context, without);
    CHECK_OK(gptoss_context_set_adapter(context, adapter, 1));
    CHECK_OK(gptoss_adapter_release(adapter)); /* the context holds a reference */
    size_t n = 0;
    CHECK_OK(gptoss_context_get_num_tokens(context, &n));
    CHECK(n == 5);
    read_logits(context, with);
    CHECK(memcmp(with, without, sizeof with) != 0);

    adapter = open_adapter("adapters/experts"); /* the same again: nothing is computed anew */
    struct gptoss_context_stats stats = {.struct_size = sizeof stats}, later = {.struct_size = sizeof later};
    CHECK_OK(gptoss_context_get_stats(context, &stats));
    CHECK_OK(gptoss_context_set_adapter(context, adapter, 1));
    read_logits(context, again);
    CHECK_OK(gptoss_context_get_stats(context, &later));
    CHECK(memcmp(with, again, sizeof with) == 0);
    CHECK(later.prompt_tokens_computed == stats.prompt_tokens_computed);

    CHECK_OK(gptoss_context_set_adapter(context, adapter, 0.5f));
    read_logits(context, half);
    CHECK(memcmp(half, with, sizeof with) != 0 && memcmp(half, without, sizeof half) != 0);

    gptoss_context_t fork;
    CHECK_OK(gptoss_context_fork(context, &fork));
    read_logits(fork, again);
    CHECK(memcmp(half, again, sizeof half) == 0);
    CHECK_OK(gptoss_context_set_adapter(fork, NULL, 1));
    read_logits(fork, again);
    CHECK(memcmp(without, again, sizeof without) == 0);
    read_logits(context, again);
    CHECK(memcmp(half, again, sizeof half) == 0);

    CHECK_OK(gptoss_context_release(fork));
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_adapter_release(adapter));
}

TEST(adapter_and_states) {
    static char state[1 << 20];
    size_t size = 0;
    gptoss_adapter_t adapter = open_adapter("adapters/attention");
    gptoss_context_t context = tiny_context(), other = tiny_context();
    CHECK_OK(gptoss_context_set_adapter(context, adapter, 1));
    CHECK_OK(gptoss_context_process(context));
    CHECK_OK(gptoss_context_save(context, state, sizeof state, &size));
    CHECK(size <= sizeof state);
    CHECK_FAILS(gptoss_status_invalid_argument, "another adapter or scale", gptoss_context_restore(other, state, size));
    CHECK_OK(gptoss_context_set_adapter(other, adapter, 0.5f));
    CHECK_FAILS(gptoss_status_invalid_argument, "another adapter or scale", gptoss_context_restore(other, state, size));
    CHECK_OK(gptoss_context_set_adapter(other, adapter, 1));
    CHECK_OK(gptoss_context_restore(other, state, size));
    static float first[VOCAB], second[VOCAB];
    read_logits(context, first);
    read_logits(other, second);
    CHECK(memcmp(first, second, sizeof first) == 0);
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_context_release(other));
    CHECK_OK(gptoss_adapter_release(adapter));
}

/* Contexts with three adapters and with none, in one call: each gets the tokens that it gets alone. */
TEST(adapters_together) {
    enum { N = 5, TOKENS = 6 };
    static const char* const forms[N] = {"adapters/attention", "adapters/experts", NULL, "adapters/per-expert",
                                         "adapters/experts"};
    static const float scales[N] = {1, 1, 1, -0.7f, 0.3f};
    gptoss_context_t contexts[N];
    struct gptoss_generation generations[N];
    struct gptoss_generate_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.max_tokens = TOKENS;
    memset(generations, 0, sizeof generations);
    uint32_t alone[N][5 + TOKENS], tokens[5 + TOKENS];
    for (int i = 0; i < N; i++) {
        gptoss_adapter_t adapter = forms[i] ? open_adapter(forms[i]) : NULL;
        contexts[i] = tiny_context();
        CHECK_OK(gptoss_context_set_adapter(contexts[i], adapter, scales[i]));
        CHECK_OK(gptoss_adapter_release(adapter));
        CHECK_OK(gptoss_context_generate(contexts[i], NULL, &options, NULL, NULL));
        size_t n = 0;
        CHECK_OK(gptoss_context_get_tokens(contexts[i], alone[i], 5 + TOKENS, &n));
        CHECK_OK(gptoss_context_truncate(contexts[i], 5));
        generations[i].struct_size = sizeof generations[i];
        generations[i].context = contexts[i];
        generations[i].options = &options;
    }
    CHECK_OK(gptoss_generate_together(generations, N));
    for (int i = 0; i < N; i++) {
        size_t n = 0;
        CHECK_OK(gptoss_context_get_tokens(contexts[i], tokens, 5 + TOKENS, &n));
        CHECK(n == 5 + TOKENS);
        CHECK(memcmp(tokens, alone[i], sizeof tokens) == 0);
        CHECK_OK(gptoss_context_release(contexts[i]));
    }
}

TEST(adapter_errors) {
    gptoss_adapter_t adapter = (gptoss_adapter_t)&adapter;
    CHECK_FAILS(gptoss_status_invalid_argument, "model",
                gptoss_adapter_create(NULL, golden("adapters/experts"), &adapter));
    CHECK(adapter == NULL);
    CHECK_FAILS(gptoss_status_invalid_argument, "path", gptoss_adapter_create(tiny_model(), NULL, &adapter));
    CHECK_FAILS(gptoss_status_invalid_argument, "adapter_out",
                gptoss_adapter_create(tiny_model(), golden("adapters/experts"), NULL));
    CHECK_FAILS(gptoss_status_io_error, "adapter_config.json",
                gptoss_adapter_create(tiny_model(), golden("tiny"), &adapter));
    CHECK_FAILS(gptoss_status_io_error, "general.type",
                gptoss_adapter_create(tiny_model(), golden("tiny-q8.gguf"), &adapter));
    CHECK_FAILS(gptoss_status_io_error, "nowhere", gptoss_adapter_create(tiny_model(), golden("nowhere"), &adapter));

    adapter = open_adapter("adapters/experts");
    CHECK_OK(gptoss_adapter_retain(adapter));
    CHECK_OK(gptoss_adapter_release(adapter));
    struct gptoss_adapter_info info = {.struct_size = sizeof info};
    CHECK_OK(gptoss_adapter_get_info(adapter, &info));
    CHECK(info.rank == 4 && info.device_bytes > 100000);
    CHECK_FAILS(gptoss_status_invalid_argument, "adapter", gptoss_adapter_get_info(NULL, &info));
    info.struct_size = 8;
    CHECK_FAILS(gptoss_status_invalid_argument, "struct_size", gptoss_adapter_get_info(adapter, &info));
    CHECK_FAILS(gptoss_status_invalid_argument, "retain", gptoss_adapter_retain(NULL));
    CHECK_OK(gptoss_adapter_release(NULL));

    gptoss_context_t context = tiny_context();
    CHECK_FAILS(gptoss_status_invalid_argument, "scale", gptoss_context_set_adapter(context, adapter, NAN));
    CHECK_FAILS(gptoss_status_invalid_argument, "scale", gptoss_context_set_adapter(context, adapter, INFINITY));
    CHECK_FAILS(gptoss_status_invalid_argument, "context", gptoss_context_set_adapter(NULL, adapter, 1));
    const struct gptoss_model_options options = model_options();
    gptoss_model_t other;
    gptoss_context_t of_other;
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &other));
    CHECK_OK(gptoss_context_create(other, 0, 0, &of_other));
    CHECK_FAILS(gptoss_status_invalid_argument, "another model", gptoss_context_set_adapter(of_other, adapter, 1));
    CHECK_OK(gptoss_context_release(of_other));
    CHECK_OK(gptoss_model_release(other));
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_adapter_release(adapter));
}

TEST(adapter_in_the_estimate) {
    struct gptoss_model_options options = model_options();
    struct gptoss_memory_estimate without = {.struct_size = sizeof without}, with = {.struct_size = sizeof with};
    const char* paths[] = {GPTOSS_SOURCE_DIR "/tests/golden/adapters/attention",
                           GPTOSS_SOURCE_DIR "/tests/golden/adapters/experts"};
    CHECK_OK(gptoss_model_estimate_memory(golden("tiny"), &options, 0, 64, &without));
    CHECK(without.adapter_bytes == 0);
    options.adapters = paths;
    options.num_adapters = 2;
    CHECK_OK(gptoss_model_estimate_memory(golden("tiny"), &options, 0, 64, &with));
    CHECK(with.weight_bytes == without.weight_bytes && with.activation_bytes > without.activation_bytes);

    gptoss_model_t model;
    gptoss_context_t context;
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &model));
    CHECK_OK(gptoss_context_create(model, 0, 64, &context));
    const uint32_t token = 3;
    CHECK_OK(gptoss_context_append_tokens(context, 1, &token));
    uint64_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        gptoss_adapter_t adapter;
        CHECK_OK(gptoss_adapter_create(model, paths[i], &adapter));
        struct gptoss_adapter_info info = {.struct_size = sizeof info};
        CHECK_OK(gptoss_adapter_get_info(adapter, &info));
        bytes += info.device_bytes;
        CHECK_OK(gptoss_context_set_adapter(context, adapter, 1));
        CHECK_OK(gptoss_context_process(context));
        CHECK_OK(gptoss_adapter_release(adapter));
    }
    CHECK(with.adapter_bytes == bytes);
    struct gptoss_context_stats stats = {.struct_size = sizeof stats};
    CHECK_OK(gptoss_context_get_stats(context, &stats));
    CHECK(with.activation_bytes == stats.activation_bytes);
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_model_release(model));

    options.num_adapters = 1;
    options.adapters = NULL;
    CHECK_FAILS(gptoss_status_invalid_argument, "options.adapters",
                gptoss_model_estimate_memory(golden("tiny"), &options, 0, 64, &with));
    paths[0] = NULL;
    options.adapters = paths;
    CHECK_FAILS(gptoss_status_invalid_argument, "options.adapters[0]",
                gptoss_model_estimate_memory(golden("tiny"), &options, 0, 64, &with));
    paths[0] = golden("tiny");
    CHECK_FAILS(gptoss_status_io_error, "adapter_config.json",
                gptoss_model_estimate_memory(golden("tiny"), &options, 0, 64, &with));
}
