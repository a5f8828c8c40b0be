/* The process around the library: floating point, forks, limits, small stacks, the end. */
#define _GNU_SOURCE
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <sys/resource.h>
#include <sys/wait.h>
#endif

#include "../posix.h"
#include "check.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { VOCABULARY = 512, ANSWER = 12 };

struct answer {
    float logits[VOCABULARY];
    uint32_t tokens[ANSWER];
    size_t num_tokens;
};

static struct answer answer_of(gptoss_model_t model) {
    static const uint32_t prompt[] = {1, 20, 300, 44, 511};
    struct answer a;
    size_t n = 0;
    gptoss_context_t context;
    memset(&a, 0, sizeof a);
    CHECK_OK(gptoss_context_create(model, 64, 0, &context));
    CHECK_OK(gptoss_context_append_tokens(context, 5, prompt));
    CHECK_OK(gptoss_context_get_logits(context, a.logits, VOCABULARY, &n));
    CHECK_OK(gptoss_context_sample(context, 0.8f, 7, ANSWER, a.tokens, &a.num_tokens));
    CHECK_OK(gptoss_context_release(context));
    return a;
}

static void check_same(const struct answer* a, const struct answer* b) {
    CHECK(a->num_tokens == ANSWER && memcmp(a, b, sizeof *a) == 0);
}

/* ---- floating point */

#if defined(__x86_64__)
static unsigned control(void) { return _mm_getcsr() & ~0x3Fu; } /* without what has happened */
static void set_control(unsigned bits) { _mm_setcsr(bits); }
enum { DEFAULT = 0x1F80, FLUSHING = 0x9FC0, UPWARD = 0x5F80, TRAPPING = 0 };
#elif defined(__aarch64__)
static unsigned control(void) {
    unsigned long bits;
    __asm__ volatile("mrs %0, fpcr" : "=r"(bits));
    return (unsigned)bits;
}
static void set_control(unsigned bits) { __asm__ volatile("msr fpcr, %0" : : "r"((unsigned long)bits)); }
enum { DEFAULT = 0, FLUSHING = 1 << 24 | 1 << 19, UPWARD = 1 << 22, TRAPPING = 0x1F00 };
#else
static unsigned control(void) { return (unsigned)fegetround(); }
static void set_control(unsigned bits) { fesetround((int)bits); }
enum { DEFAULT = FE_TONEAREST, FLUSHING = FE_TONEAREST, UPWARD = FE_UPWARD, TRAPPING = FE_TONEAREST };
#endif

static unsigned seen_by_callback;

static int stop_and_round_down(void* to, uint32_t token) {
    (void)token;
    seen_by_callback = control();
    set_control(*(const unsigned*)to);
    return 1;
}

static int note_control(void* user_data, uint64_t done, uint64_t total) {
    (void)done, (void)total;
    *(unsigned*)user_data = control();
    return 0;
}

/* golden/tiny-bf16.gguf has float32 weights, golden/tiny BF16 ones, and the self-test computes in all types. */
TEST(a_caller_s_floating_point_environment_changes_nothing) {
    static const unsigned environments[] = {FLUSHING, UPWARD, TRAPPING};
    const struct answer expected = answer_of(tiny_model());
    unsigned seen = DEFAULT;
    struct gptoss_model_options options = model_options();
    options.cache_directory = "";
    options.progress = note_control;
    options.progress_user_data = &seen;
    for (int i = 0; i < 3; i++) {
        const unsigned theirs = environments[i];
        gptoss_model_t model;
        set_control(theirs);
        const unsigned before = control();
        const enum gptoss_status created = gptoss_model_create(golden("tiny"), &options, &model);
        const unsigned after = control();
        struct answer found;
        if (created == gptoss_status_success) found = answer_of(model);
        gptoss_model_release(model);
        const unsigned at_end = control();
        set_control(DEFAULT);
        CHECK_OK(created);
        if (created == gptoss_status_success) check_same(&found, &expected);
        CHECK(before == theirs && seen == theirs && after == theirs && at_end == theirs);
    }
}

TEST(a_callback_has_its_caller_s_floating_point_environment) {
    gptoss_context_t context = tiny_context();
    struct gptoss_generate_options options;
    unsigned left = UPWARD;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.callback = stop_and_round_down;
    options.user_data = &left;
    set_control(FLUSHING);
    const enum gptoss_status status = gptoss_context_generate(context, NULL, &options, NULL, NULL);
    const unsigned after = control();
    set_control(DEFAULT);
    CHECK_OK(status);
    CHECK(seen_by_callback == FLUSHING);
    CHECK(after == UPWARD); /* what a callback sets stays, as it would after any call of the host's own */
    CHECK_OK(gptoss_context_release(context));
}

/* ---- forks */

#ifdef _WIN32

static void in_child(void (*f)(void), bool leave_by_exit) { /* there are no forks: the process itself leaves */
    (void)leave_by_exit;
    f();
}

#else

/* Runs f in a child; it must end by itself within two minutes, with all checks passed. */
static void in_child(void (*f)(void), bool leave_by_exit) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        alarm(120);
        const int before = num_failed_checks();
        f();
        fflush(stdout);
        const int failed = num_failed_checks() > before;
        /* A layer's own handlers at exit may wait for threads that are the parent's, and so does a driver's
           pthread_join where AddressSanitizer has put its own in the place of the C library's. */
#ifndef __SANITIZE_ADDRESS__
        if (leave_by_exit && !getenv("VK_INSTANCE_LAYERS")) exit(failed);
#else
        (void)leave_by_exit;
#endif
        _exit(failed);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) printf("a child ended by signal %d\n", WTERMSIG(status));
    CHECK(WIFEXITED(status));
    CHECK(!WIFEXITED(status) || WEXITSTATUS(status) == 0);
}

#endif

#ifndef _WIN32

static gptoss_context_t inherited_context;
static gptoss_tokenizer_t inherited_tokenizer;

static void use_what_a_fork_took(void) {
    gptoss_model_t model = NULL;
    gptoss_context_t context = NULL;
    struct gptoss_model_info info;
    struct gptoss_device_info device;
    struct gptoss_memory_estimate estimate;
    const struct gptoss_model_options options = model_options();
    uint32_t count = 9, token = 5;
    size_t n = 9;
    double rate;
    info.struct_size = sizeof info;
    device.struct_size = sizeof device;
    estimate.struct_size = sizeof estimate;
#define LOST(call) CHECK_FAILS(gptoss_status_invalid_state, "forked", call)
    LOST(gptoss_device_count(&count));
    CHECK(count == 0);
    LOST(gptoss_device_get_info(0, &device));
    LOST(gptoss_device_measure_bandwidth(0, &rate));
    LOST(gptoss_model_create(golden("tiny"), &options, &model));
    LOST(gptoss_model_estimate_memory(golden("tiny"), &options, 0, 0, &estimate));
    LOST(gptoss_model_get_info(tiny_model(), &info));
    LOST(gptoss_model_get_max_context_length(tiny_model(), &n));
    LOST(gptoss_context_create(tiny_model(), 0, 0, &context));
    LOST(gptoss_context_get_num_tokens(inherited_context, &n));
    LOST(gptoss_context_get_max_tokens(inherited_context, &n));
    LOST(gptoss_context_append_tokens(inherited_context, 1, &token));
    LOST(gptoss_context_process(inherited_context));
    LOST(gptoss_context_sample(inherited_context, 0, 0, 1, &token, &n));
    LOST(gptoss_context_generate(inherited_context, NULL, NULL, &n, NULL));
    LOST(gptoss_context_truncate(inherited_context, 0));
    LOST(gptoss_context_fork(inherited_context, &context));
    LOST(gptoss_context_cancel(inherited_context));
    CHECK(!model && !context);

    /* what needs no device goes on */
    gptoss_sampler_t sampler;
    gptoss_harmony_parser_t parser;
    CHECK_OK(gptoss_tokenizer_encode(inherited_tokenizer, "Hello", 5, 0, &token, 1, &n));
    CHECK(n >= 1);
    CHECK_OK(gptoss_harmony_parser_create(inherited_tokenizer, &parser));
    CHECK_OK(gptoss_harmony_parser_process(parser, token));
    CHECK_OK(gptoss_harmony_parser_release(parser));
    CHECK_OK(gptoss_sampler_create(&sampler));
    CHECK_OK(gptoss_sampler_release(sampler));
    CHECK_OK(gptoss_tokenizer_release(inherited_tokenizer));

    for (int i = 0; i < 3; i++) CHECK_OK(gptoss_context_release(inherited_context)); /* nothing, as often as you like */
    for (int i = 0; i < 3; i++) CHECK_OK(gptoss_model_release(tiny_model()));
}

TEST(a_forked_child_is_told_that_it_has_no_device) {
    const struct answer expected = answer_of(tiny_model());
    inherited_context = tiny_context();
    CHECK_OK(gptoss_context_process(inherited_context));
    CHECK_OK(gptoss_tokenizer_create(NULL, &inherited_tokenizer));
    in_child(use_what_a_fork_took, false);
    in_child(use_what_a_fork_took, true);
    const struct answer found = answer_of(tiny_model());
    check_same(&found, &expected);
    CHECK_OK(gptoss_context_release(inherited_context));
    CHECK_OK(gptoss_tokenizer_release(inherited_tokenizer));
}

static void* keep_generating(void* done) {
    while (!__atomic_load_n((int*)done, __ATOMIC_RELAXED)) {
        uint32_t count;
        gptoss_context_t context = tiny_context();
        uint32_t tokens[8];
        size_t n;
        CHECK_OK(gptoss_context_sample(context, 0, 0, 8, tokens, &n));
        CHECK_OK(gptoss_context_release(context));
        CHECK_OK(gptoss_device_count(&count));
    }
    return NULL;
}

TEST(a_fork_beside_running_calls) {
    pthread_t thread;
    int done = 0;
    tiny_model();
    inherited_context = tiny_context();
    CHECK(pthread_create(&thread, NULL, keep_generating, &done) == 0);
    for (int i = 0; i < 20; i++) {
        CHECK_OK(gptoss_tokenizer_create(NULL, &inherited_tokenizer));
        in_child(use_what_a_fork_took, false);
        CHECK_OK(gptoss_tokenizer_release(inherited_tokenizer));
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    CHECK_OK(gptoss_context_release(inherited_context));
}

#endif

static void load_and_answer(void) {
    const struct gptoss_model_options options = model_options();
    gptoss_model_t model;
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &model));
    answer_of(model);
    CHECK_OK(gptoss_model_release(model));
}

#ifndef _WIN32

TEST_ALONE(fork_before_and_after) {
    in_child(load_and_answer, true); /* before the first call */
    load_and_answer();
    in_child(load_and_answer, true); /* after the last release */
    load_and_answer();
}

TEST(a_child_forked_while_no_device_is_open_may_open_one) { run_alone("fork_before_and_after", "GPTOSS_TEST", "1"); }

/* ---- files */

static bool is_private_directory(const char* path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode) && (s.st_mode & 0777) == 0700;
}

TEST_ALONE(caching_under_limits) {
    char nested[1100];
    struct gptoss_model_options options = model_options();
    gptoss_model_t model;
    struct rlimit limit, small;
    snprintf(nested, sizeof nested, "%s/deeper", temporary("cache"));

    /* a newer software device's memory is a file too, which its driver expects to grow: it does so before */
    gptoss_model_t before[2];
    options.cache_directory = "";
    for (int i = 0; i < 2; i++) CHECK_OK(gptoss_model_create(golden("tiny"), &options, &before[i]));
    CHECK_OK(gptoss_model_release(before[1]));
    options.cache_directory = nested;

    /* a file can have no more bytes than the limit: nothing is kept, and no signal ends the process */
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    small = limit;
    small.rlim_cur = 100;
    fflush(stdout);
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    const enum gptoss_status created = gptoss_model_create(golden("tiny"), &options, &model);
    gptoss_model_release(model);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_OK(created);

    umask(0);
    CHECK(rmdir(nested) == 0); /* made, and empty */
    CHECK(rmdir(temporary("cache")) == 0);
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &model));
    CHECK_OK(gptoss_model_release(model));
    CHECK(is_private_directory(temporary("cache")) && is_private_directory(nested));
    CHECK_OK(gptoss_model_release(before[0]));
}

TEST(the_cache_is_private_and_no_limit_kills) { run_alone("caching_under_limits", "GPTOSS_TEST", "1"); }

#endif

/* ---- stacks, and the end */

static void* load_on_a_small_stack(void* nothing) {
    (void)nothing;
    load_and_answer();
    return NULL;
}

#if defined(__SANITIZE_ADDRESS__) /* with larger frames */
enum { SMALL_STACK = 4 << 20 };
#else
enum { SMALL_STACK = 512 << 10 };
#endif

TEST(a_thread_with_a_small_stack) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    CHECK(pthread_attr_setstacksize(&attributes, SMALL_STACK) == 0);
    CHECK(pthread_create(&thread, &attributes, load_on_a_small_stack, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    pthread_attr_destroy(&attributes);
}

static gptoss_model_t left_model;
static gptoss_context_t left_context;

static void release_late(void) {
    gptoss_context_release(left_context);
    gptoss_model_release(left_model);
}

static void leave_handles(void) {
    const struct gptoss_model_options options = model_options();
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &left_model));
    CHECK_OK(gptoss_context_create(left_model, 0, 0, &left_context));
    CHECK_OK(gptoss_context_append_tokens(left_context, 1, &(const uint32_t){7}));
    CHECK_OK(gptoss_context_process(left_context));
}

TEST_ALONE(leaving_with_handles) { in_child(leave_handles, true); }

TEST_ALONE(leaving_by_a_late_release) { /* after the driver's own exit handlers, which come before */
    CHECK(atexit(release_late) == 0);
    in_child(leave_handles, true);
}

TEST(a_process_ends_with_handles_alive_or_released_at_exit) {
    run_alone("leaving_with_handles", "GPTOSS_TEST", "1");
    run_alone("leaving_by_a_late_release", "GPTOSS_TEST", "1");
}
