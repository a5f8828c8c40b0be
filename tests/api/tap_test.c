#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

struct seen {
    gptoss_context_t context;
    size_t calls, stop_at;
    size_t positions[200];
    enum gptoss_tap_kind kinds[200];
    uint32_t layers[200];
    double sum; /* of what came last */
};

static int on_tap(void* user_data, const struct gptoss_tap* tap) {
    struct seen* seen = user_data;
    CHECK(tap->struct_size == sizeof *tap);
    CHECK(tap->values && tap->num_rows > 0 && tap->num_columns > 0);
    size_t n;
    CHECK_OK(gptoss_context_get_num_tokens(seen->context, &n));
    CHECK(tap->position < n);
    CHECK_FAILS(gptoss_status_invalid_state, "callback", gptoss_context_set_tap(seen->context, NULL));
    if (seen->calls < 200) {
        seen->positions[seen->calls] = tap->position;
        seen->kinds[seen->calls] = tap->kind;
        seen->layers[seen->calls] = tap->layer;
    }
    seen->sum = 0;
    for (size_t i = 0; i < tap->num_columns; i++) seen->sum += tap->values[(tap->num_rows - 1) * tap->num_columns + i];
    return ++seen->calls == seen->stop_at;
}

static gptoss_context_t prompted(void) {
    const uint32_t tokens[] = {5, 400, 17, 81, 3, 256};
    gptoss_context_t context;
    CHECK_OK(gptoss_context_create(tiny_model(), 100, 0, &context));
    CHECK_OK(gptoss_context_append_tokens(context, 6, tokens));
    return context;
}

TEST(taps_by_callback) {
    struct seen seen;
    memset(&seen, 0, sizeof seen);
    seen.context = prompted();
    const uint32_t layers[] = {2}, positions[] = {7, 1};
    struct gptoss_tap_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.kinds = gptoss_tap_kind_hidden | gptoss_tap_kind_experts | gptoss_tap_kind_final;
    options.layers = layers;
    options.num_layers = 1;
    options.positions = positions;
    options.num_positions = 2;
    options.callback = on_tap;
    options.user_data = &seen;
    CHECK_OK(gptoss_context_set_tap(seen.context, &options));
    uint32_t sampled[4];
    size_t n;
    CHECK_OK(gptoss_context_sample(seen.context, 0, 0, 4, sampled, &n));
    CHECK(seen.calls == 6);
    const enum gptoss_tap_kind kinds[] = {gptoss_tap_kind_experts, gptoss_tap_kind_hidden, gptoss_tap_kind_final};
    for (size_t i = 0; i < 6; i++) {
        CHECK(seen.kinds[i] == kinds[i % 3]);
        CHECK(seen.positions[i] == (i < 3 ? 1 : 7));
        CHECK(seen.layers[i] == (i % 3 == 2 ? 4 : 2));
    }
    /* a weight of the experts sums to 1 */
    options.kinds = gptoss_tap_kind_experts;
    CHECK_OK(gptoss_context_set_tap(seen.context, &options));
    CHECK_OK(gptoss_context_process(seen.context));
    CHECK(seen.calls == 8 && fabs(seen.sum - 1) < 1e-5);
    /* a callback that wants no more ends the call; nothing else changes */
    options.kinds = gptoss_tap_kind_final;
    options.positions = NULL;
    options.num_positions = 0;
    seen.stop_at = seen.calls + 3;
    CHECK_OK(gptoss_context_set_tap(seen.context, &options));
    CHECK_FAILS(gptoss_status_cancelled, "tap", gptoss_context_process(seen.context));
    CHECK(seen.calls == 11);
    seen.stop_at = 0;
    CHECK_OK(gptoss_context_process(seen.context));
    CHECK(seen.calls == 19 && seen.positions[11] == 2 && seen.positions[18] == 9);
    CHECK_OK(gptoss_context_set_tap(seen.context, NULL));
    CHECK_OK(gptoss_context_truncate(seen.context, 6));
    uint32_t again[4];
    CHECK_OK(gptoss_context_sample(seen.context, 0, 0, 4, again, &n));
    CHECK(seen.calls == 19 && memcmp(sampled, again, sizeof again) == 0);
    CHECK_OK(gptoss_context_release(seen.context));
}

TEST(taps_into_a_buffer) {
    gptoss_context_t context = prompted();
    struct gptoss_tap_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.kinds = gptoss_tap_kind_hidden;
    float* values = malloc(6 * 4 * 96 * sizeof *values);
    size_t n = 1;
    options.values_out = values;
    options.max_values = 5 * 4 * 96 + 10;
    options.num_values_out = &n;
    values[options.max_values] = 1234;
    CHECK_OK(gptoss_context_set_tap(context, &options));
    CHECK(n == 0);
    CHECK_OK(gptoss_context_process(context));
    CHECK(n == 6 * 4 * 96 && values[options.max_values] == 1234);
    /* the last hidden state of position 4 begins where it should: its norm makes the final state */
    float final[96];
    const uint32_t position = 4;
    options.kinds = gptoss_tap_kind_final;
    options.positions = &position;
    options.num_positions = 1;
    options.values_out = final;
    options.max_values = 96;
    CHECK_OK(gptoss_context_set_tap(context, &options));
    CHECK_OK(gptoss_context_process(context));
    CHECK(n == 96);
    const float* hidden = values + (4 * 4 + 3) * 96;
    double dot = 0, a = 0, b = 0;
    for (int i = 0; i < 96; i++) dot += hidden[i] * final[i], a += hidden[i] * hidden[i], b += final[i] * final[i];
    CHECK(dot / sqrt(a * b) > 0.9); /* but for the norm's weight */
    CHECK_OK(gptoss_context_release(context));
    free(values);
}

TEST(taps_that_are_refused) {
    gptoss_context_t context = prompted();
    struct seen seen;
    memset(&seen, 0, sizeof seen);
    seen.context = context;
    const uint32_t layer = 4;
    struct gptoss_tap_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = 8;
    CHECK_FAILS(gptoss_status_invalid_argument, "struct_size", gptoss_context_set_tap(context, &options));
    options.struct_size = sizeof options;
    CHECK_FAILS(gptoss_status_invalid_argument, "options.kinds is 0", gptoss_context_set_tap(context, &options));
    options.kinds = 64;
    CHECK_FAILS(gptoss_status_invalid_argument, "options.kinds is 64", gptoss_context_set_tap(context, &options));
    options.kinds = gptoss_tap_kind_hidden;
    CHECK_FAILS(gptoss_status_invalid_argument, "both NULL", gptoss_context_set_tap(context, &options));
    options.callback = on_tap;
    options.user_data = &seen;
    options.num_layers = 1;
    CHECK_FAILS(gptoss_status_invalid_argument, "options.layers", gptoss_context_set_tap(context, &options));
    options.layers = &layer;
    CHECK_FAILS(gptoss_status_invalid_argument, "layers[0] is 4", gptoss_context_set_tap(context, &options));
    options.num_layers = 0;
    options.num_positions = 1;
    CHECK_FAILS(gptoss_status_invalid_argument, "options.positions", gptoss_context_set_tap(context, &options));
    CHECK_FAILS(gptoss_status_invalid_argument, "context", gptoss_context_set_tap(NULL, NULL));
    CHECK_OK(gptoss_context_process(context));
    CHECK(seen.calls == 0);
    CHECK_OK(gptoss_context_release(context));
}
