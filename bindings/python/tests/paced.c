/* As much of libgptoss as benchmark.py needs, with a device that takes PACE microseconds a token: what a binding costs
 * stands out from the noise of a real one. */
#include <gptoss.h>
#include <stdlib.h>
#include <time.h>

static size_t num_tokens;

uint32_t gptoss_version(void) { return GPTOSS_VERSION_MAJOR * 10000 + GPTOSS_VERSION_MINOR * 100; }

enum gptoss_status gptoss_model_create(const char* path, const struct gptoss_model_options* options,
                                       gptoss_model_t* model_out) {
    (void)path, (void)options;
    *model_out = (gptoss_model_t)&num_tokens;
    return gptoss_status_success;
}
enum gptoss_status gptoss_model_get_info(gptoss_model_t model, struct gptoss_model_info* info_out) {
    (void)model;
    info_out->vocabulary_size = 512;
    return gptoss_status_success;
}
enum gptoss_status gptoss_model_release(gptoss_model_t model) { return (void)model, gptoss_status_success; }

enum gptoss_status gptoss_context_create(gptoss_model_t model, size_t context_length, size_t max_batch_tokens,
                                         gptoss_context_t* context_out) {
    (void)model, (void)context_length, (void)max_batch_tokens;
    *context_out = (gptoss_context_t)&num_tokens;
    return gptoss_status_success;
}
enum gptoss_status gptoss_context_release(gptoss_context_t context) { return (void)context, gptoss_status_success; }
enum gptoss_status gptoss_context_cancel(gptoss_context_t context) { return (void)context, gptoss_status_success; }
enum gptoss_status gptoss_context_clear_cancel(gptoss_context_t context) {
    return (void)context, gptoss_status_success;
}
enum gptoss_status gptoss_context_process(gptoss_context_t context) { return (void)context, gptoss_status_success; }
enum gptoss_status gptoss_context_get_num_tokens(gptoss_context_t context, size_t* num_tokens_out) {
    (void)context;
    *num_tokens_out = num_tokens;
    return gptoss_status_success;
}
enum gptoss_status gptoss_context_truncate(gptoss_context_t context, size_t to) {
    (void)context;
    num_tokens = to;
    return gptoss_status_success;
}
enum gptoss_status gptoss_context_append_tokens(gptoss_context_t context, size_t n, const uint32_t* tokens) {
    (void)context, (void)tokens;
    num_tokens += n;
    return gptoss_status_success;
}

/* As the library does, with three steps in flight: the device is idle only when the callbacks are that far behind. */
enum gptoss_status gptoss_context_generate(gptoss_context_t context, gptoss_sampler_t sampler,
                                           const struct gptoss_generate_options* options, size_t* num_tokens_out,
                                           enum gptoss_stop_reason* stop_reason_out) {
    const long pace = 1000 * strtol(getenv("PACE"), NULL, 10);
    struct timespec done;
    (void)context, (void)sampler, (void)num_tokens_out;
    clock_gettime(CLOCK_MONOTONIC, &done);
    for (size_t i = 0; i < options->max_tokens; i++) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        const long behind = (now.tv_sec - done.tv_sec) * 1000000000 + now.tv_nsec - done.tv_nsec;
        if (behind > 2 * pace) done = now;
        done.tv_nsec += pace;
        done.tv_sec += done.tv_nsec / 1000000000;
        done.tv_nsec %= 1000000000;
        if (pace) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &done, NULL);
        num_tokens++;
        const struct gptoss_output output = {.struct_size = sizeof output, .token = 7, .text = " text", .text_size = 5};
        if (options->callback && options->callback(options->user_data, output.token)) break;
        if (options->output_callback && options->output_callback(options->user_data, &output)) break;
    }
    if (stop_reason_out) *stop_reason_out = gptoss_stop_reason_max_tokens;
    return gptoss_status_success;
}
