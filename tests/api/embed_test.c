#include <math.h>
#include <string.h>

#include "check.h"

TEST(embeddings_of_texts) {
    const uint32_t tokens[] = {5, 400, 17, 81, 3, 256, 9, 5, 400};
    const size_t sizes[] = {6, 1, 2};
    struct gptoss_embedding_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    float last[3 * 96], mean[3 * 96], raw[3 * 96];
    CHECK_OK(gptoss_model_embed(tiny_model(), 3, tokens, sizes, NULL, last));
    options.pooling = gptoss_pooling_mean;
    CHECK_OK(gptoss_model_embed(tiny_model(), 3, tokens, sizes, &options, mean));
    options.pooling = gptoss_pooling_last;
    options.unnormalized = 1;
    CHECK_OK(gptoss_model_embed(tiny_model(), 3, tokens, sizes, &options, raw));
    for (int text = 0; text < 3; text++) {
        double length = 0, mean_length = 0, raw_length = 0, difference = 0;
        for (int i = text * 96; i < (text + 1) * 96; i++) {
            length += last[i] * last[i];
            mean_length += mean[i] * mean[i];
            raw_length += raw[i] * raw[i];
            difference += fabs(last[i] - mean[i]);
        }
        CHECK(fabs(length - 1) < 1e-5 && fabs(mean_length - 1) < 1e-5 && fabs(raw_length - 1) > 0.1);
        CHECK((difference < 1e-6) == (sizes[text] == 1)); /* one token is its own mean */
        for (int i = text * 96; i < (text + 1) * 96; i++) CHECK(fabs(raw[i] / sqrt(raw_length) - last[i]) < 1e-6);
    }
    CHECK_OK(gptoss_model_embed(tiny_model(), 0, NULL, NULL, NULL, NULL));
}

TEST(embeddings_that_are_refused) {
    const uint32_t tokens[] = {1, 2, 512};
    const size_t sizes[] = {2, 1}, none[] = {1, 0};
    float out[2 * 96];
    struct gptoss_embedding_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = 8;
    CHECK_FAILS(gptoss_status_invalid_argument, "struct_size",
                gptoss_model_embed(tiny_model(), 1, tokens, sizes, &options, out));
    options.struct_size = sizeof options;
    options.pooling = (enum gptoss_pooling)2;
    CHECK_FAILS(gptoss_status_invalid_argument, "options.pooling is 2",
                gptoss_model_embed(tiny_model(), 1, tokens, sizes, &options, out));
    CHECK_FAILS(gptoss_status_invalid_argument, "text 1: token 512",
                gptoss_model_embed(tiny_model(), 2, tokens, sizes, NULL, out));
    CHECK_FAILS(gptoss_status_invalid_argument, "text 1: it has no token",
                gptoss_model_embed(tiny_model(), 2, tokens, none, NULL, out));
    CHECK_FAILS(gptoss_status_invalid_argument, "model", gptoss_model_embed(NULL, 1, tokens, sizes, NULL, out));
    CHECK_FAILS(gptoss_status_invalid_argument, "tokens", gptoss_model_embed(tiny_model(), 1, NULL, sizes, NULL, out));
    CHECK_FAILS(gptoss_status_invalid_argument, "num_tokens",
                gptoss_model_embed(tiny_model(), 1, tokens, NULL, NULL, out));
    CHECK_FAILS(gptoss_status_invalid_argument, "embeddings_out",
                gptoss_model_embed(tiny_model(), 1, tokens, sizes, NULL, NULL));
}

static int keep_state(void* user_data, const struct gptoss_tap* tap) {
    memcpy(user_data, tap->values, tap->num_columns * sizeof(float));
    return 0;
}

TEST(logits_of_states) {
    const uint32_t tokens[] = {5, 400, 17, 81}, layer = 3;
    gptoss_context_t context;
    struct gptoss_tap_options options;
    float state[96], logits[512], expected[512];
    size_t n;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.kinds = gptoss_tap_kind_hidden;
    options.layers = &layer;
    options.num_layers = 1;
    options.callback = keep_state;
    options.user_data = state;
    CHECK_OK(gptoss_context_create(tiny_model(), 0, 0, &context));
    CHECK_OK(gptoss_context_set_tap(context, &options));
    CHECK_OK(gptoss_context_append_tokens(context, 4, tokens));
    CHECK_OK(gptoss_context_get_logits(context, expected, 512, &n));
    CHECK(n == 512);
    CHECK_OK(gptoss_model_unembed(tiny_model(), 1, state, logits));
    for (int i = 0; i < 512; i++) CHECK(fabs(logits[i] - expected[i]) < 1e-4);
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_model_unembed(tiny_model(), 0, NULL, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "model", gptoss_model_unembed(NULL, 1, state, logits));
    CHECK_FAILS(gptoss_status_invalid_argument, "states", gptoss_model_unembed(tiny_model(), 1, NULL, logits));
    CHECK_FAILS(gptoss_status_invalid_argument, "logits_out", gptoss_model_unembed(tiny_model(), 1, state, NULL));
}
