/* Prints a model's answer while it comes: generate MODEL QUESTION */
#include <gptoss.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(enum gptoss_status status) {
    if (status == gptoss_status_success) return;
    fprintf(stderr, "%s: %s\n", gptoss_status_string(status), gptoss_last_error());
    exit(1);
}

static int print_token(void* parser, uint32_t token) {
    const char *channel, *text;
    check(gptoss_harmony_parser_process(parser, token));
    check(gptoss_harmony_parser_get_channel(parser, &channel, NULL));
    check(gptoss_harmony_parser_get_delta(parser, &text, NULL));
    if (strcmp(channel, "final") == 0) fputs(text, stdout), fflush(stdout);
    return 0; /* anything else stops the answer */
}

int main(int argc, char** argv) {
    gptoss_model_t model;
    gptoss_tokenizer_t tokenizer;
    gptoss_context_t context;
    gptoss_harmony_parser_t parser;
    if (argc != 3) return fprintf(stderr, "usage: %s MODEL QUESTION\n", argv[0]), 2;
    check(gptoss_model_create_from_file(argv[1], &model));
    check(gptoss_model_get_tokenizer(model, &tokenizer));
    check(gptoss_context_create(model, 0, 0, &context));
    check(gptoss_harmony_parser_create(tokenizer, &parser));
    const char* prompt[] = {"<|start|>user<|message|>", argv[2], "<|end|><|start|>assistant"};
    for (int i = 0; i < 3; i++) check(gptoss_context_append_chars(context, prompt[i], strlen(prompt[i]), NULL));
    struct gptoss_generate_options options = {
        .struct_size = sizeof options, .callback = print_token, .user_data = parser};
    check(gptoss_context_generate(context, NULL, &options, NULL, NULL));
    puts("");
    gptoss_harmony_parser_release(parser), gptoss_context_release(context);
    return gptoss_tokenizer_release(tokenizer), gptoss_model_release(model);
}
