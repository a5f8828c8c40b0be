/* What the tests of the C interface share. They see the public header and link the shared library, nothing else. */
#ifndef GPTOSS_TESTS_API_CHECK_H
#define GPTOSS_TESTS_API_CHECK_H

#include <gptoss.h>
#include <stdbool.h>
#include <stddef.h>

/* Defines a test, which main runs: TEST(name) { ... } */
#define TEST(name)                                                                            \
    static void test_##name(void);                                                            \
    static struct test register_##name = {#name, test_##name, NULL};                          \
    __attribute__((constructor)) static void add_##name(void) { add_test(&register_##name); } \
    static void test_##name(void)

/* Run by main only when it is asked for by name: what must have a process of its own. */
#define TEST_ALONE(name) TEST(alone_##name)

#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)
#define CHECK_OK(call) check_status(gptoss_status_success, (call), "", #call, __FILE__, __LINE__)
/* The call fails with that status, and gptoss_last_error names that. */
#define CHECK_FAILS(status, names, call) check_status((status), (call), (names), #call, __FILE__, __LINE__)

struct test {
    const char* name;
    void (*run)(void);
    struct test* next;
};

#ifdef __cplusplus
extern "C" {
#endif

void add_test(struct test* test);
void check(bool ok, const char* text, const char* file, int line);
void check_status(enum gptoss_status expected, enum gptoss_status got, const char* names, const char* text,
                  const char* file, int line);

/* How many checks have failed so far. */
int num_failed_checks(void);

/* Runs a TEST_ALONE in a new process with one more environment variable; checks that it passed. */
void run_alone(const char* name, const char* variable, const char* value);

/* A path below tests/golden; one of the last four results is reused. */
const char* golden(const char* name);

/* A file of the tests' temporary directory, which goes when they end. */
const char* temporary(const char* name);
void copy_file(const char* from, const char* to);
/* Copies with one replacement of equal length, which must apply. */
void copy_replacing(const char* from, const char* to, const char* old, const char* replacement);
void write_file(const char* path, const void* bytes, size_t size);
long file_size(const char* path);

/* Default options, but for the device that GPTOSS_TEST_DEVICE names. */
struct gptoss_model_options model_options(void);
/* golden/tiny, loaded once for all tests: not to be released. */
gptoss_model_t tiny_model(void);
/* A new context over it that holds a few tokens. */
gptoss_context_t tiny_context(void);

#ifdef __cplusplus
}
#endif

#endif
