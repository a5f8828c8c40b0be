/* test_api [NAME ...]: runs all tests, or those named. The last line is "N passed, N failed", of tests. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <sys/wait.h>
#endif

#include "../posix.h"
#include "check.h"

#define ALONE "alone_"

static struct test* tests;
static int failed_checks;
static const char* program;
static char directory[500];
static gptoss_model_t shared_model;

void add_test(struct test* test) {
    test->next = tests;
    tests = test;
}

void check(bool ok, const char* text, const char* file, int line) {
    if (ok) return;
    failed_checks++;
    printf("%s:%d: failed: %s\n", file, line, text);
}

void check_status(enum gptoss_status expected, enum gptoss_status got, const char* names, const char* text,
                  const char* file, int line) {
    const char* message = got == gptoss_status_success ? "" : gptoss_last_error();
    if (got == expected && strstr(message, names) && (expected == gptoss_status_success || *message)) return;
    failed_checks++;
    printf("%s:%d: failed: %s: %s, \"%s\"; expected %s that names \"%s\"\n", file, line, text,
           gptoss_status_string(got), message, gptoss_status_string(expected), names);
}

int num_failed_checks(void) { return failed_checks; }

void run_alone(const char* name, const char* variable, const char* value) {
    char whole[100];
    fflush(stdout);
    snprintf(whole, sizeof whole, ALONE "%s", name);
#ifdef _WIN32
    CHECK(setenv(variable, value, 1) == 0);
    const intptr_t status = _spawnl(_P_WAIT, program, program, whole, (char*)NULL);
    CHECK(setenv(variable, "", 1) == 0);
    if (status != 0) printf("%s ended with %d\n", whole, (int)status);
    CHECK(status == 0);
#else
    const pid_t child = fork();
    if (child == 0) {
        setenv(variable, value, 1);
        execl(program, program, whole, (char*)NULL);
        _exit(127);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) printf("%s ended with %d\n", whole, status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#endif
}

const char* golden(const char* name) {
    static char paths[4][1000];
    static int next;
    char* path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/tests/golden/%s", GPTOSS_SOURCE_DIR, name);
    return path;
}

const char* temporary(const char* name) {
    static char paths[4][1000];
    static int next;
    char* path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static char* read_file(const char* path, size_t* size) {
    FILE* file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char* bytes = malloc(*size + 1);
    if (fread(bytes, 1, *size, file) != *size) exit(1);
    fclose(file);
    return bytes;
}

void write_file(const char* path, const void* bytes, size_t size) {
    FILE* file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size) {
        perror(path);
        exit(1);
    }
    fclose(file);
}

void copy_file(const char* from, const char* to) {
    size_t size;
    char* bytes = read_file(from, &size);
    write_file(to, bytes, size);
    free(bytes);
}

void copy_replacing(const char* from, const char* to, const char* old, const char* replacement) {
    size_t size;
    char* bytes = read_file(from, &size);
    const size_t length = strlen(old);
    size_t at = 0;
    while (at + length <= size && memcmp(bytes + at, old, length) != 0) at++;
    CHECK(strlen(replacement) == length && at + length <= size);
    if (at + length <= size) memcpy(bytes + at, replacement, length);
    write_file(to, bytes, size);
    free(bytes);
}

long file_size(const char* path) {
    struct stat s;
    return stat(path, &s) == 0 ? (long)s.st_size : -1;
}

struct gptoss_model_options model_options(void) {
    struct gptoss_model_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.device = getenv("GPTOSS_TEST_DEVICE");
    return options;
}

gptoss_model_t tiny_model(void) {
    if (!shared_model) {
        const struct gptoss_model_options options = model_options();
        CHECK_OK(gptoss_model_create(golden("tiny"), &options, &shared_model));
    }
    return shared_model;
}

gptoss_context_t tiny_context(void) {
    static const uint32_t tokens[] = {1, 20, 300, 44, 511};
    gptoss_context_t context;
    CHECK_OK(gptoss_context_create(tiny_model(), 200, 0, &context));
    CHECK_OK(gptoss_context_append_tokens(context, 5, tokens));
    return context;
}

static bool wanted(const struct test* test, int argc, char** argv) {
    if (argc == 1) return strncmp(test->name, ALONE, strlen(ALONE)) != 0;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], test->name) == 0) return true;
    return false;
}

int main(int argc, char** argv) {
    int passed = 0, failed = 0;
#ifdef _WIN32
    program = _pgmptr;
#else
    program = "/proc/self/exe";
#endif
    snprintf(directory, sizeof directory, "%s/gptoss-test-XXXXXX", temporary_folder());
    if (!mkdtemp(directory)) return 1;
    /* a cache of this run's own, and of what it runs alone */
    if (argc != 2 || strncmp(argv[1], ALONE, strlen(ALONE)) != 0) setenv(CACHE_VARIABLE, directory, 1);
    for (const struct test* test = tests; test; test = test->next) {
        if (!wanted(test, argc, argv)) continue;
        const int before = failed_checks;
        test->run();
        printf("%s: %s\n", test->name, failed_checks == before ? "ok" : "FAILED");
        *(failed_checks == before ? &passed : &failed) += 1;
    }
    gptoss_model_release(shared_model);
    if (remove_directory(directory) != 0) failed++;
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
