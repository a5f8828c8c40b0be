/* Models: loading, options, information, and files that are not what they should be. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <string.h>

#include "../posix.h"
#include "check.h"

TEST(a_model_describes_itself) {
    struct gptoss_model_info info;
    memset(&info, 'x', sizeof info);
    info.struct_size = sizeof info;
    CHECK_OK(gptoss_model_get_info(tiny_model(), &info));
    CHECK(info.num_layers == 4 && info.hidden_size == 96 && info.intermediate_size == 64);
    CHECK(info.num_heads == 8 && info.num_kv_heads == 2 && info.head_size == 64);
    CHECK(info.num_experts == 8 && info.num_active_experts == 4);
    CHECK(info.vocabulary_size == 512 && info.sliding_window == 128 && info.max_context_length == 131072);
    CHECK(info.weights == gptoss_weight_type_bf16 && info.kv == gptoss_kv_type_f16);
    CHECK(info.tier != gptoss_kernel_tier_default);
    CHECK(info.weight_bytes >= 500000 && info.weight_bytes < 10000000);
    CHECK(info.bytes_per_token > 0 && info.bytes_per_token < info.weight_bytes);
    size_t length = 0;
    CHECK_OK(gptoss_model_get_max_context_length(tiny_model(), &length));
    CHECK(length == 131072);

    CHECK_FAILS(gptoss_status_invalid_argument, "model", gptoss_model_get_info(NULL, &info));
    CHECK(info.num_layers == 0 && info.struct_size == sizeof info);
    CHECK_FAILS(gptoss_status_invalid_argument, "info_out", gptoss_model_get_info(tiny_model(), NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "model", gptoss_model_get_max_context_length(NULL, &length));
    CHECK(length == 0);
    CHECK_FAILS(gptoss_status_invalid_argument, "max_context_length_out",
                gptoss_model_get_max_context_length(tiny_model(), NULL));
}

TEST(a_struct_size_below_that_of_version_0_1_is_refused) {
    enum { MODEL_OPTIONS = 88, MODEL_INFO = 128, ESTIMATE = 64 }; /* of 64-bit systems */
    struct gptoss_model_options options = model_options();
    struct gptoss_model_info info;
    struct gptoss_memory_estimate estimate;
    gptoss_model_t model;
    if (sizeof(void*) != 8) return;
    memset(&info, 'x', sizeof info);
    memset(&estimate, 'x', sizeof estimate);
    for (options.struct_size = 0; options.struct_size < MODEL_OPTIONS; options.struct_size++)
        CHECK_FAILS(gptoss_status_invalid_argument, "options.struct_size",
                    gptoss_model_create(golden("tiny"), &options, &model));
    for (info.struct_size = 0; info.struct_size < MODEL_INFO; info.struct_size++)
        CHECK_FAILS(gptoss_status_invalid_argument, "info_out->struct_size",
                    gptoss_model_get_info(tiny_model(), &info));
    CHECK(info.num_layers == 0x78787878);
    for (estimate.struct_size = 0; estimate.struct_size < ESTIMATE; estimate.struct_size++)
        CHECK_FAILS(gptoss_status_invalid_argument, "estimate_out->struct_size",
                    gptoss_model_estimate_memory(golden("tiny"), NULL, 0, 0, &estimate));
    CHECK_OK(gptoss_model_get_info(tiny_model(), &info)); /* the first version's */
    CHECK(info.intermediate_size == 64);
    CHECK_OK(gptoss_model_estimate_memory(golden("tiny"), NULL, 0, 0, &estimate));
    CHECK(estimate.weight_bytes > 0);
}

TEST(references_keep_a_model_alive) {
    const struct gptoss_model_options options = model_options();
    gptoss_model_t model;
    CHECK_OK(gptoss_model_create(golden("tiny-bf16.gguf"), &options, &model));
    CHECK_OK(gptoss_model_retain(model));
    CHECK_OK(gptoss_model_release(model));
    gptoss_tokenizer_t tokenizer = NULL;
    CHECK_OK(gptoss_model_get_tokenizer(model, &tokenizer));
    gptoss_context_t context;
    CHECK_OK(gptoss_context_create(model, 10, 0, &context));
    CHECK_OK(gptoss_model_release(model));
    /* the context keeps it */
    const uint32_t token = 3;
    CHECK_OK(gptoss_context_append_tokens(context, 1, &token));
    CHECK_OK(gptoss_context_process(context));
    CHECK_OK(gptoss_context_release(context));
    /* the file's own vocabulary */
    uint32_t n = 0;
    CHECK_OK(gptoss_tokenizer_get_num_tokens(tokenizer, &n));
    CHECK(n == 512);
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
    CHECK_OK(gptoss_model_release(NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "NULL", gptoss_model_retain(NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "model", gptoss_model_get_tokenizer(NULL, &tokenizer));
    CHECK(!tokenizer);
    CHECK_FAILS(gptoss_status_invalid_argument, "tokenizer_out", gptoss_model_get_tokenizer(tiny_model(), NULL));
}

TEST(weights_and_cache_by_option) {
    const enum gptoss_weight_type weights[] = {gptoss_weight_type_bf16, gptoss_weight_type_q8};
    const enum gptoss_kv_type kv[] = {gptoss_kv_type_f16, gptoss_kv_type_f32};
    for (int i = 0; i < 2; i++) {
        struct gptoss_model_options options = model_options();
        options.weights = weights[i];
        options.kv = kv[i];
        options.tier = gptoss_kernel_tier_exact;
        gptoss_model_t model;
        struct gptoss_model_info info;
        info.struct_size = sizeof info;
        CHECK_OK(gptoss_model_create(golden("tiny"), &options, &model));
        CHECK_OK(gptoss_model_get_info(model, &info));
        CHECK(info.weights == weights[i] && info.kv == kv[i] && info.tier == gptoss_kernel_tier_exact);
        CHECK_OK(gptoss_model_release(model));
    }
}

TEST(a_tier_is_taken_or_refused_by_name) {
    const enum gptoss_kernel_tier tiers[] = {gptoss_kernel_tier_coopmat, gptoss_kernel_tier_integer};
    for (int i = 0; i < 2; i++) {
        struct gptoss_model_options options = model_options();
        options.tier = tiers[i];
        gptoss_model_t model;
        const enum gptoss_status status = gptoss_model_create(golden("tiny"), &options, &model);
        if (status == gptoss_status_success) {
            struct gptoss_model_info info;
            info.struct_size = sizeof info;
            CHECK_OK(gptoss_model_get_info(model, &info));
            CHECK(info.tier == tiers[i]);
            CHECK_OK(gptoss_model_release(model));
        } else {
            CHECK(status == gptoss_status_unsupported_argument && !model);
            CHECK(strstr(gptoss_last_error(), "options.tier"));
        }
    }
}

TEST(options_out_of_range) {
    const int wrong[] = {4, 99, -1, 2000000000};
    for (int i = 0; i < 4; i++) {
        struct gptoss_model_options options = model_options();
        gptoss_model_t model = (gptoss_model_t)&options;
        options.weights = (enum gptoss_weight_type)wrong[i];
        CHECK_FAILS(gptoss_status_invalid_argument, "options.weights",
                    gptoss_model_create(golden("tiny"), &options, &model));
        CHECK(!model);
        options = model_options();
        options.kv = (enum gptoss_kv_type)wrong[i];
        CHECK_FAILS(gptoss_status_invalid_argument, "options.kv",
                    gptoss_model_create(golden("tiny"), &options, &model));
        options = model_options();
        options.tier = (enum gptoss_kernel_tier)wrong[i];
        CHECK_FAILS(gptoss_status_invalid_argument, "options.tier",
                    gptoss_model_create(golden("tiny"), &options, &model));
    }
    gptoss_model_t model = NULL;
    CHECK_FAILS(gptoss_status_invalid_argument, "path", gptoss_model_create_from_file(NULL, &model));
    CHECK_FAILS(gptoss_status_invalid_argument, "model_out", gptoss_model_create_from_file(golden("tiny"), NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "path", gptoss_model_create(NULL, NULL, &model));
}

TEST(newer_options) {
    struct {
        struct gptoss_model_options options;
        char newer[64];
    } larger;
    memset(&larger, 0, sizeof larger);
    larger.options = model_options();
    larger.options.struct_size = sizeof larger;
    gptoss_model_t model;
    CHECK_OK(gptoss_model_create(golden("tiny"), &larger.options, &model));
    CHECK_OK(gptoss_model_release(model));
}

static void count_self_tests(void* user_data, enum gptoss_log_level level, const char* message) {
    CHECK(level >= gptoss_log_level_error && level <= gptoss_log_level_info && *message);
    if (strstr(message, "self-test")) ++*(int*)user_data;
}

TEST(the_self_test_is_kept_in_the_cache_directory) {
    const char* directories[] = {temporary("cache"), ""};
    for (int i = 0; i < 2; i++) {
        struct gptoss_model_options options = model_options();
        int tests = 0;
        options.cache_directory = directories[i];
        options.log = count_self_tests;
        options.log_user_data = &tests;
        for (int load = 0; load < 2; load++) {
            gptoss_model_t model;
            struct gptoss_model_info info;
            info.struct_size = sizeof info;
            CHECK_OK(gptoss_model_create(golden("tiny"), &options, &model));
            CHECK_OK(gptoss_model_get_info(model, &info));
            CHECK(info.num_variants_left_out == 0);
            CHECK_OK(gptoss_model_release(model));
        }
        CHECK(tests == (i == 0 ? 1 : 2));
    }
    CHECK(file_size(directories[0]) >= 0);
}

/* The first test of a device: said before it begins, and cancelled from within. */
static void note_testing(void* user_data, enum gptoss_log_level level, const char* message) {
    (void)level;
    if (strncmp(message, "testing device ", 15) == 0) *(int*)user_data = 1;
}

struct first_start {
    const int* said;
    int calls;
};

static int cancel_a_test(void* user_data, uint64_t done, uint64_t total) {
    struct first_start* start = user_data;
    CHECK(*start->said && done == 0 && total > 0);
    return ++start->calls == 3;
}

TEST(the_first_test_of_a_device_is_said_and_can_be_cancelled) {
    int said = 0;
    struct first_start start = {&said, 0};
    struct gptoss_model_options options = model_options();
    options.cache_directory = "";
    options.log = note_testing;
    options.log_user_data = &said;
    options.progress = cancel_a_test;
    options.progress_user_data = &start;
    gptoss_model_t model;
    CHECK_FAILS(gptoss_status_cancelled, "test of the device", gptoss_model_create(golden("tiny"), &options, &model));
    CHECK(!model && start.calls == 3);
}

TEST(a_warm_model_answers_as_others_do) {
    struct gptoss_model_options options = model_options();
    options.warm_up = 1;
    gptoss_model_t models[2] = {tiny_model(), NULL};
    uint32_t tokens[2][4];
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &models[1]));
    for (int i = 0; i < 2; i++) {
        gptoss_context_t context;
        size_t n;
        CHECK_OK(gptoss_context_create(models[i], 0, 0, &context));
        CHECK_OK(gptoss_context_append_tokens(context, 3, (const uint32_t[]){1, 2, 3}));
        CHECK_OK(gptoss_context_sample(context, 0, 0, 4, tokens[i], &n));
        CHECK_OK(gptoss_context_release(context));
    }
    CHECK(memcmp(tokens[0], tokens[1], sizeof tokens[0]) == 0);
    CHECK_OK(gptoss_model_release(models[1]));
}

struct progress {
    uint64_t last, total;
    int calls, cancel_at;
    bool monotonic;
};

static int follow(void* user_data, uint64_t done, uint64_t total) {
    struct progress* p = user_data;
    if (done < p->last || done > total || (p->calls > 0 && total != p->total)) p->monotonic = false;
    p->last = done;
    p->total = total;
    return ++p->calls == p->cancel_at;
}

TEST(progress_is_reported_and_cancels) {
    struct gptoss_model_options options = model_options();
    struct progress p = {0, 0, 0, 0, true};
    gptoss_model_t model;
    options.progress = follow;
    options.progress_user_data = &p;
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &model));
    CHECK(p.monotonic && p.calls >= 1 && p.last == p.total && p.total > 500000);
    struct gptoss_model_info info;
    info.struct_size = sizeof info;
    CHECK_OK(gptoss_model_get_info(model, &info));
    CHECK(p.total <= info.weight_bytes);
    CHECK_OK(gptoss_model_release(model));

    const struct progress first = {0, 0, 0, 1, true};
    p = first;
    model = (gptoss_model_t)&p;
    CHECK_FAILS(gptoss_status_cancelled, "progress callback", gptoss_model_create(golden("tiny"), &options, &model));
    CHECK(!model && p.calls == 1);
}

/* What a model and a context of 100 tokens take together. */
static struct gptoss_memory_estimate estimate(const struct gptoss_model_options* options) {
    struct gptoss_memory_estimate e;
    memset(&e, 'x', sizeof e);
    e.struct_size = sizeof e;
    CHECK_OK(gptoss_model_estimate_memory(golden("tiny"), options, 100, 0, &e));
    return e;
}

TEST(memory_is_estimated_before_loading) {
    struct gptoss_model_options options = model_options();
    const struct gptoss_memory_estimate e = estimate(&options);
    struct gptoss_model_info info;
    info.struct_size = sizeof info;
    CHECK_OK(gptoss_model_get_info(tiny_model(), &info));
    CHECK(e.weight_bytes == info.weight_bytes && e.host_weight_bytes == 0 && info.host_weight_bytes == 0);
    CHECK(e.fits == 1 && e.available_bytes > e.weight_bytes && e.staging_bytes > 0);
    CHECK(info.num_device_experts == 4 * 8 && info.expert_hits == 0 && info.expert_misses == 0);
    uint32_t tokens[99];
    for (uint32_t i = 0; i < 99; i++) tokens[i] = i * 5;
    /* a model whose engine has had no other work, which would have made it larger */
    gptoss_model_t model;
    gptoss_context_t context;
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &model));
    CHECK_OK(gptoss_context_create(model, 100, 0, &context));
    CHECK_OK(gptoss_model_release(model));
    CHECK_OK(gptoss_context_append_tokens(context, 99, tokens));
    CHECK_OK(gptoss_context_process(context));
    struct gptoss_context_stats stats;
    stats.struct_size = sizeof stats;
    CHECK_OK(gptoss_context_get_stats(context, &stats));
    CHECK(stats.cache_bytes == e.cache_bytes && stats.activation_bytes == e.activation_bytes);
    CHECK_OK(gptoss_context_release(context));

    /* options count */
    CHECK(e.prefix_cache_bytes > 0 && e.prefix_cache_bytes < e.available_bytes);
    options.prefix_cache_bytes = 12345;
    CHECK(estimate(&options).prefix_cache_bytes == 12345);
    options.kv = gptoss_kv_type_f32;
    options.weights = gptoss_weight_type_q8;
    const struct gptoss_memory_estimate other = estimate(&options);
    CHECK(other.cache_bytes > e.cache_bytes && other.weight_bytes < e.weight_bytes);

    struct gptoss_memory_estimate wrong;
    wrong.struct_size = sizeof wrong;
    CHECK_FAILS(gptoss_status_io_error, "/nonexistent",
                gptoss_model_estimate_memory("/nonexistent", NULL, 0, 0, &wrong));
    CHECK(wrong.weight_bytes == 0 && wrong.struct_size == sizeof wrong);
    CHECK_FAILS(gptoss_status_invalid_argument, "context_length",
                gptoss_model_estimate_memory(golden("tiny"), NULL, 1000000, 0, &wrong));
    CHECK_FAILS(gptoss_status_invalid_argument, "path", gptoss_model_estimate_memory(NULL, NULL, 0, 0, &wrong));
    CHECK_FAILS(gptoss_status_invalid_argument, "estimate_out",
                gptoss_model_estimate_memory(golden("tiny"), NULL, 0, 0, NULL));
    options.kv = (enum gptoss_kv_type)9;
    CHECK_FAILS(gptoss_status_invalid_argument, "options.kv",
                gptoss_model_estimate_memory(golden("tiny"), &options, 0, 0, &wrong));
}

static char last_line[300];
static void keep_line(void* user_data, enum gptoss_log_level level, const char* message) {
    (void)user_data, (void)level;
    snprintf(last_line, sizeof last_line, "%s", message);
}

/* Tokens that a model generates in a context of 100. */
static void generate(gptoss_model_t model, uint32_t* tokens) {
    const uint32_t prompt[] = {1, 2, 3, 4, 5};
    gptoss_context_t context;
    size_t n = 0;
    CHECK_OK(gptoss_context_create(model, 100, 0, &context));
    CHECK_OK(gptoss_context_append_tokens(context, 5, prompt));
    CHECK_OK(gptoss_context_sample(context, 1, 7, 20, tokens, &n));
    CHECK(n == 20);
    CHECK_OK(gptoss_context_release(context));
}

TEST(a_memory_budget_is_kept) {
    struct gptoss_model_options options = model_options();
    options.context_length = 100;
    options.log = keep_line;
    const struct gptoss_memory_estimate all = estimate(&options);
    gptoss_model_t model;
    struct gptoss_model_info info;
    info.struct_size = sizeof info;

    /* exactly enough */
    options.memory_budget = all.weight_bytes + all.cache_bytes + all.activation_bytes;
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &model));
    CHECK_OK(gptoss_model_get_info(model, &info));
    CHECK(info.weight_bytes == all.weight_bytes && info.host_weight_bytes == 0);
    CHECK_OK(gptoss_model_release(model));

    /* some experts stay in host memory: the same tokens */
    options.memory_budget -= 300000;
    const struct gptoss_memory_estimate some = estimate(&options);
    CHECK(some.fits == 1 && some.host_weight_bytes > 300000);
    CHECK(some.weight_bytes + some.cache_bytes + some.activation_bytes <= options.memory_budget);
    CHECK(some.available_bytes == options.memory_budget);
    CHECK_OK(gptoss_model_create(golden("tiny"), &options, &model));
    uint32_t expected[20], got[20];
    generate(tiny_model(), expected);
    generate(model, got);
    CHECK(memcmp(got, expected, sizeof got) == 0);
    CHECK_OK(gptoss_model_get_info(model, &info));
    CHECK(info.weight_bytes == some.weight_bytes && info.host_weight_bytes == some.host_weight_bytes);
    CHECK(info.num_device_experts > 0 && info.num_device_experts < 32);
    CHECK(info.expert_hits > 0 && info.expert_misses > 0);
    CHECK(strstr(last_line, "in host memory") != NULL);
    CHECK_OK(gptoss_model_release(model));

    /* far too little */
    options.memory_budget = 123456;
    CHECK(estimate(&options).fits == 0);
    model = (gptoss_model_t)&options;
    CHECK_FAILS(gptoss_status_insufficient_memory, "123456", gptoss_model_create(golden("tiny"), &options, &model));
    CHECK(!model);
}

/* Loads a path that is wrong; the message must name both. */
static void check_file(const char* path, const char* names, const char* also_names) {
    const struct gptoss_model_options options = model_options();
    gptoss_model_t model = (gptoss_model_t)&options;
    CHECK_FAILS(gptoss_status_io_error, names, gptoss_model_create(path, &options, &model));
    CHECK(strstr(gptoss_last_error(), also_names) != NULL);
    CHECK(!model);
}

TEST(files_that_are_not_there) {
    check_file("/nonexistent/model", "/nonexistent/model", "No such file");
    check_file("/nonexistent/model.gguf", "/nonexistent/model.gguf", "No such file");
    check_file("", "", "");
    check_file("/dev/null", "/dev/null", "");
    const char* directory = temporary("empty");
    make_directory(directory);
    check_file(directory, directory, "config.json");
    copy_file(golden("tiny/config.json"), temporary("empty/config.json"));
    check_file(directory, directory, "safetensors");
    write_file(temporary("empty/model.safetensors"), "", 0);
    check_file(directory, "model.safetensors", "");
    write_file(temporary("empty.gguf"), "", 0);
    check_file(temporary("empty.gguf"), "empty.gguf", "");
    write_file(temporary("text.gguf"), "this is no model", 16);
    check_file(temporary("text.gguf"), "text.gguf", "GGUF");
    check_file(golden("o200k/encodings.json"), "encodings.json", "GGUF");
}

TEST(the_name_of_a_file_does_nothing_to_a_terminal) {
    check_file("/nonexistent/\x1b]0;owned\x07/model.gguf", "/nonexistent/\xEF\xBF\xBD]0;owned\xEF\xBF\xBD/model.gguf",
               "No such file");
}

TEST(files_that_end_early) {
    const char* path = temporary("truncated");
    make_directory(path);
    copy_file(golden("tiny/config.json"), temporary("truncated/config.json"));
    const char* weights = temporary("truncated/model.safetensors");
    const long whole = file_size(golden("tiny/model.safetensors"));
    const long sizes[] = {whole - 1, whole / 2, 3000, 100, 8, 7, 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        copy_file(golden("tiny/model.safetensors"), weights);
        CHECK(truncate(weights, sizes[i]) == 0);
        check_file(path, "model.safetensors", "");
    }
    const long gguf = file_size(golden("tiny-q8.gguf"));
    const long gguf_sizes[] = {gguf - 1, gguf / 2, 10000, 1000, 24, 5, 3};
    for (size_t i = 0; i < sizeof gguf_sizes / sizeof *gguf_sizes; i++) {
        copy_file(golden("tiny-q8.gguf"), temporary("truncated.gguf"));
        CHECK(truncate(temporary("truncated.gguf"), gguf_sizes[i]) == 0);
        check_file(temporary("truncated.gguf"), "truncated.gguf", "");
    }
    copy_file(golden("tiny/model.safetensors"), weights);
    copy_file(golden("tiny/config.json"), temporary("truncated/config.json"));
    CHECK(truncate(temporary("truncated/config.json"), 300) == 0);
    check_file(path, "config.json", "");
}

TEST(tensors_of_another_type_or_shape) {
    const char* path = temporary("mistyped");
    make_directory(path);
    const char *config = temporary("mistyped/config.json"), *weights = temporary("mistyped/model.safetensors");
    const char *good_config = golden("tiny/config.json"), *good_weights = golden("tiny/model.safetensors");
    const struct {
        const char *old, *replacement, *names;
    } tensors[] = {
        {"\"BF16\", \"shape\": [512, 96]", "\"I16\",  \"shape\": [512, 96]", "model.embed_tokens.weight"},
        {"[512, 96]", "[96, 512]", "model.embed_tokens.weight"},
        {"model.norm.weight", "model.nope.weight", "model.norm.weight"},
        {"model.layers.2.self_attn.sinks", "model.layers.2.self_attn.stink", "model.layers.2.self_attn.sinks"},
        {"[0, 98304]", "[0, 98305]", "model.embed_tokens.weight"},
        {"[0, 98304]", "[98304, 0]", "model.embed_tokens.weight"},
    };
    copy_file(good_config, config);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        copy_replacing(good_weights, weights, tensors[i].old, tensors[i].replacement);
        check_file(path, "mistyped", tensors[i].names);
    }
    const struct {
        const char *old, *replacement, *names;
    } sizes[] = {
        {"\"hidden_size\": 96", "\"hidden_size\": 64", "model."},
        {"\"hidden_size\": 96", "\"hidden_size\": 97", "hidden_size"},
        {"\"hidden_size\": 96", "\"hidden_size\": -1", "hidden_size"},
        {"\"head_dim\": 64", "\"head_dim\": 63", "head_dim"},
        {"\"num_attention_heads\": 8", "\"num_attention_heads\": 7", "heads"},
        {"\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": -1.05", "rms_norm_eps"},
        {"\"vocab_size\": 512", "\"vocab_size\": \"a\"", "vocab_size"},
        {"\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5", "layer"},
        {"\"model_type\": \"gpt_oss\"", "\"model_type\": \"llama_2\"", "model_type"},
        {"\"sliding_window\": 128", "\"sliding_window\": 0  ", "sliding_window"},
    };
    copy_file(good_weights, weights);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        copy_replacing(good_config, config, sizes[i].old, sizes[i].replacement);
        check_file(path, path, sizes[i].names);
    }
    /* and the files as they were load */
    copy_file(good_config, config);
    const struct gptoss_model_options options = model_options();
    gptoss_model_t model;
    CHECK_OK(gptoss_model_create(path, &options, &model));
    CHECK_OK(gptoss_model_release(model));
}
