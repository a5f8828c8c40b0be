/* Preloaded into the example programs: counts the turns of the prompt, and, where GPTOSS_SHIM_DELTA is set, makes each
 * piece of text of the model that. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gptoss.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t start = UINT32_MAX; /* the token that begins a turn */

enum gptoss_status gptoss_model_get_tokenizer(gptoss_model_t model, gptoss_tokenizer_t* tokenizer_out) {
    enum gptoss_status (*get_tokenizer)(gptoss_model_t, gptoss_tokenizer_t*) =
        dlsym(RTLD_NEXT, "gptoss_model_get_tokenizer");
    const enum gptoss_status status = get_tokenizer(model, tokenizer_out);
    if (status == gptoss_status_success) gptoss_tokenizer_find_special_token(*tokenizer_out, "<|start|>", &start);
    return status;
}

enum gptoss_status gptoss_context_generate(gptoss_context_t context, gptoss_sampler_t sampler,
                                           const struct gptoss_generate_options* options, size_t* num_tokens_out,
                                           enum gptoss_stop_reason* stop_reason_out) {
    enum gptoss_status (*generate)(gptoss_context_t, gptoss_sampler_t, const struct gptoss_generate_options*, size_t*,
                                   enum gptoss_stop_reason*) = dlsym(RTLD_NEXT, "gptoss_context_generate");
    uint32_t tokens[4096];
    size_t size, turns = 0;
    gptoss_context_get_tokens(context, tokens, 4096, &size);
    for (size_t i = 0; i < size; i++) turns += tokens[i] == start;
    fprintf(stderr, "turns=%zu\n", turns);
    return generate(context, sampler, options, num_tokens_out, stop_reason_out);
}

enum gptoss_status gptoss_harmony_parser_get_delta(gptoss_harmony_parser_t parser, const char** text_out,
                                                   size_t* size_out) {
    enum gptoss_status (*get_delta)(gptoss_harmony_parser_t, const char**, size_t*) =
        dlsym(RTLD_NEXT, "gptoss_harmony_parser_get_delta");
    size_t size;
    const enum gptoss_status status = get_delta(parser, text_out, &size);
    const char* delta = getenv("GPTOSS_SHIM_DELTA");
    if (delta && size > 0) {
        *text_out = delta;
        for (size = 0; delta[size]; size++) continue;
    }
    if (size_out) *size_out = size;
    return status;
}
