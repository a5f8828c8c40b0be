/* See ../README.md. */
#include <gptoss.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { max_line = 65536, max_tokens = 4096 };

static void check(enum gptoss_status status) {
    if (status == gptoss_status_success) return;
    fprintf(stderr, "%s: %s\n", gptoss_status_string(status), gptoss_last_error());
    exit(1);
}

static int print_token(void* user_data, uint32_t token) {
    (void)user_data;
    printf("%u ", (unsigned)token);
    return 0;
}

static void append_line(gptoss_context_t context, char* line, int is_text) {
    uint32_t tokens[max_tokens];
    size_t n = 0;
    line[strcspn(line, "\n")] = '\0';
    if (is_text) {
        check(gptoss_context_append_chars(context, line, strlen(line), NULL));
        return;
    }
    for (char* part = strtok(line, " "); part && n < max_tokens; part = strtok(NULL, " "))
        tokens[n++] = (uint32_t)strtoul(part, NULL, 10);
    check(gptoss_context_append_tokens(context, n, tokens));
}

static void generate(const char* path, const char* prompts, size_t count, int is_text) {
    static char line[max_line];
    gptoss_model_t model;
    gptoss_context_t context;
    gptoss_sampler_t sampler;
    struct gptoss_generate_options options = {.struct_size = sizeof options};
    FILE* file = fopen(prompts, "r");
    if (!file) exit(2);
    options.max_tokens = count;
    options.callback = print_token;
    check(gptoss_model_create_from_file(path, &model));
    check(gptoss_context_create(model, 0, 0, &context));
    check(gptoss_sampler_create(&sampler));
    check(gptoss_sampler_set_temperature(sampler, 0.8f));
    check(gptoss_sampler_set_top_p(sampler, 0.95f));
    for (uint64_t seed = 1; fgets(line, sizeof line, file); seed++) {
        check(gptoss_sampler_set_seed(sampler, seed));
        check(gptoss_context_reset(context));
        append_line(context, line, is_text);
        check(gptoss_context_generate(context, sampler, &options, NULL, NULL));
        printf("\n");
    }
    gptoss_sampler_release(sampler);
    gptoss_context_release(context);
    gptoss_model_release(model);
    fclose(file);
}

static long allocated_kb(void) {
    const struct mallinfo2 heap = mallinfo2();
    return (long)((heap.uordblks + heap.hblkhd) / 1024);
}

static long resident_kb(void) {
    long size, resident;
    malloc_trim(0);
    FILE* file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2) exit(2);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void cycles(const char* path, int count) {
    long allocated[5], resident[5];
    for (int i = 0; i < 5; i++) allocated[i] = resident[i] = LONG_MAX;
    for (int i = 0; i < count; i++) {
        gptoss_model_t model;
        gptoss_context_t context;
        const uint32_t prompt = 1;
        const int fifth = i * 5 / count;
        check(gptoss_model_create_from_file(path, &model));
        check(gptoss_context_create(model, 512, 0, &context));
        gptoss_model_release(model);
        check(gptoss_context_append_tokens(context, 1, &prompt));
        gptoss_context_release(context);
        if (allocated_kb() < allocated[fifth]) allocated[fifth] = allocated_kb();
        if (resident_kb() < resident[fifth]) resident[fifth] = resident_kb();
    }
    printf("%ld %ld\n", allocated[4] - allocated[1], resident[4] - resident[1]);
}

int main(int argc, char** argv) {
    if (argc == 4 && strcmp(argv[1], "cycles") == 0)
        cycles(argv[2], atoi(argv[3]));
    else if (argc == 5)
        generate(argv[2], argv[3], (size_t)atoi(argv[4]), strcmp(argv[1], "text") == 0);
    else
        return 2;
    return 0;
}
