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

/* A conversation in JSON. In it a question that spells <|end|> stays a question, and begins no other turn. */
static char* conversation(const char* question) {
    static const char begin[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"", end[] = "\"}]}";
    char *json = malloc(sizeof begin + 6 * strlen(question) + sizeof end), *to = json;
    if (!json) exit(1);
    to += sprintf(to, "%s", begin);
    for (const unsigned char* c = (const unsigned char*)question; *c; c++)
        to += sprintf(to, *c < ' ' || *c == '"' || *c == '\\' ? "\\u%04x" : "%c", *c);
    strcpy(to, end);
    return json;
}

/* Prints what is no control character: those of a model could take over the terminal. */
static void print(const char* text) {
    for (; *text; text++)
        if (*text == '\xC2' && text[1] < '\xA0')
            text++; /* U+0080 to U+009F */
        else if ((unsigned char)*text >= ' ' ? *text != '\x7F' : *text == '\n' || *text == '\t')
            putchar(*text);
    if (fflush(stdout) != 0) exit((perror("standard output"), 1));
}

static int print_token(void* parser, uint32_t token) {
    const char *channel, *text;
    check(gptoss_harmony_parser_process(parser, token));
    check(gptoss_harmony_parser_get_channel(parser, &channel, NULL));
    check(gptoss_harmony_parser_get_delta(parser, &text, NULL));
    if (strcmp(channel, "final") == 0) print(text);
    return 0; /* anything else stops the answer */
}

int main(int argc, char** argv) {
    gptoss_model_t model;
    gptoss_tokenizer_t tokenizer;
    gptoss_context_t context;
    gptoss_harmony_parser_t parser;
    uint32_t prompt[4096];
    size_t size;
    if (argc != 3) return fprintf(stderr, "usage: %s MODEL QUESTION\n", argv[0]), 2;
    check(gptoss_model_create_from_file(argv[1], &model));
    check(gptoss_model_get_tokenizer(model, &tokenizer));
    check(gptoss_context_create(model, 0, 0, &context));
    check(gptoss_harmony_parser_create(tokenizer, &parser));
    char* json = conversation(argv[2]);
    check(gptoss_harmony_render(tokenizer, json, strlen(json), prompt, 4096, &size));
    if (size > 4096) return fprintf(stderr, "the question takes %zu tokens: 4096 at most\n", size), 1;
    check(gptoss_context_append_tokens(context, size, prompt));
    struct gptoss_generate_options options = {
        .struct_size = sizeof options, .callback = print_token, .user_data = parser};
    check(gptoss_context_generate(context, NULL, &options, NULL, NULL));
    print("\n");
    gptoss_harmony_parser_release(parser), gptoss_context_release(context), free(json);
    return gptoss_tokenizer_release(tokenizer), gptoss_model_release(model);
}
