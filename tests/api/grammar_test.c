/* Grammars, biases, outputs, stop strings and log-probabilities through the C interface. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { VOCABULARY = 512 };

static gptoss_tokenizer_t tiny_tokenizer(void) {
    gptoss_tokenizer_t tokenizer = NULL;
    CHECK_OK(gptoss_model_get_tokenizer(tiny_model(), &tokenizer));
    return tokenizer;
}

typedef enum gptoss_status (*create)(gptoss_tokenizer_t, const char*, size_t, gptoss_grammar_t*);

static gptoss_grammar_t made(create from, const char* text) {
    gptoss_tokenizer_t tokenizer = tiny_tokenizer();
    gptoss_grammar_t grammar = NULL;
    CHECK_OK(from(tokenizer, text, strlen(text), &grammar));
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
    return grammar;
}

static gptoss_sampler_t sampler_of(gptoss_grammar_t grammar, float temperature, uint64_t seed) {
    gptoss_sampler_t sampler = NULL;
    CHECK_OK(gptoss_sampler_create(&sampler));
    CHECK_OK(gptoss_sampler_set_temperature(sampler, temperature));
    CHECK_OK(gptoss_sampler_set_seed(sampler, seed));
    CHECK_OK(gptoss_sampler_set_grammar(sampler, grammar));
    return sampler;
}

/* What a context holds from a token on, as text. */
static const char* text_from(gptoss_context_t context, size_t first) {
    static char text[4096];
    uint32_t tokens[4096];
    size_t n = 0, size = 0;
    CHECK_OK(gptoss_context_get_tokens(context, tokens, 4096, &n));
    gptoss_tokenizer_t tokenizer = tiny_tokenizer();
    CHECK_OK(gptoss_tokenizer_decode_tokens(tokenizer, tokens + first, n - first, text, sizeof text - 1, &size));
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
    text[size < sizeof text ? size : 0] = 0;
    return text;
}

static size_t num_tokens(gptoss_context_t context) {
    size_t n = 0;
    CHECK_OK(gptoss_context_get_num_tokens(context, &n));
    return n;
}

static bool all_digits(const char* text, size_t n) { return strlen(text) == n && strspn(text, "0123456789") == n; }

TEST(grammar_errors_name_the_place) {
    gptoss_tokenizer_t tokenizer = tiny_tokenizer();
    gptoss_grammar_t grammar;
    const struct {
        create from;
        const char *text, *names;
        enum gptoss_status status;
    } wrong[] = {
        {gptoss_grammar_create_from_json_schema, "{", "", gptoss_status_invalid_argument},
        {gptoss_grammar_create_from_json_schema, "{\"type\": \"strin\"}", "strin", gptoss_status_invalid_argument},
        {gptoss_grammar_create_from_json_schema, "{\"uniqueItems\": true, \"type\": \"array\"}", "uniqueItems",
         gptoss_status_unsupported_argument},
        {gptoss_grammar_create_from_regex, "a(b", "", gptoss_status_invalid_argument},
        {gptoss_grammar_create_from_gbnf, "root ::= other", "other", gptoss_status_invalid_argument},
        {gptoss_grammar_create_from_harmony, "{\"tool\": 1}", "tool", gptoss_status_invalid_argument},
        {gptoss_grammar_create_from_harmony, "{\"tool_choice\": \"required\"}", "tool_choice",
         gptoss_status_invalid_argument},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        grammar = (gptoss_grammar_t)&grammar;
        CHECK_FAILS(wrong[i].status, wrong[i].names,
                    wrong[i].from(tokenizer, wrong[i].text, strlen(wrong[i].text), &grammar));
        CHECK(grammar == NULL);
    }
    CHECK_FAILS(gptoss_status_invalid_argument, "tokenizer", gptoss_grammar_create_from_regex(NULL, "a", 1, &grammar));
    CHECK_FAILS(gptoss_status_invalid_argument, "regex",
                gptoss_grammar_create_from_regex(tokenizer, NULL, 1, &grammar));
    CHECK_FAILS(gptoss_status_invalid_argument, "grammar_out",
                gptoss_grammar_create_from_regex(tokenizer, "a", 1, NULL));
    CHECK_OK(gptoss_grammar_create_from_harmony(tokenizer, "{}", 2, &grammar));
    CHECK_OK(gptoss_grammar_retain(grammar));
    CHECK_OK(gptoss_grammar_release(grammar));
    CHECK_OK(gptoss_grammar_release(grammar));
    CHECK_OK(gptoss_grammar_release(NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "NULL", gptoss_grammar_retain(NULL));
    CHECK_OK(gptoss_tokenizer_release(tokenizer));
}

TEST(an_answer_follows_the_grammar_with_every_setting) {
    gptoss_grammar_t grammar = made(gptoss_grammar_create_from_regex, "[0-9]{12}");
    for (int kind = 0; kind < 7; kind++) {
        gptoss_sampler_t sampler = sampler_of(grammar, kind == 0 ? 0 : 1.5f, (uint64_t)kind);
        if (kind == 2) CHECK_OK(gptoss_sampler_set_top_k(sampler, 3));
        if (kind == 3) CHECK_OK(gptoss_sampler_set_top_p(sampler, 0.3f));
        if (kind == 4) CHECK_OK(gptoss_sampler_set_min_p(sampler, 0.5f));
        if (kind == 5) CHECK_OK(gptoss_sampler_set_repetition_penalty(sampler, 1.5f));
        if (kind == 6) CHECK_OK(gptoss_sampler_set_top_k(sampler, 400));
        gptoss_context_t context = tiny_context();
        const size_t before = num_tokens(context);
        size_t n = 0;
        enum gptoss_stop_reason reason;
        CHECK_OK(gptoss_context_generate(context, sampler, NULL, &n, &reason));
        CHECK(reason == gptoss_stop_reason_grammar_end);
        CHECK(n == num_tokens(context) - before);
        CHECK(all_digits(text_from(context, before), 12));
        /* nothing can follow */
        CHECK_OK(gptoss_context_generate(context, sampler, NULL, &n, &reason));
        CHECK(reason == gptoss_stop_reason_grammar_end && n == 0);
        CHECK_OK(gptoss_context_release(context));
        CHECK_OK(gptoss_sampler_release(sampler));
    }
    CHECK_OK(gptoss_grammar_release(grammar));
}

TEST(a_grammar_goes_on_after_truncate_and_in_forks) {
    gptoss_grammar_t grammar = made(gptoss_grammar_create_from_regex, "[0-9]{20}[ab]{10}");
    gptoss_sampler_t sampler = sampler_of(grammar, 1.5f, 3);
    CHECK_OK(gptoss_grammar_release(grammar)); /* the sampler has a reference */
    gptoss_context_t context = tiny_context(), fork;
    const size_t before = num_tokens(context);
    struct gptoss_generate_options options = {.struct_size = sizeof options, .max_tokens = 8};
    size_t n = 0;
    enum gptoss_stop_reason reason;
    CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, &reason));
    CHECK(reason == gptoss_stop_reason_max_tokens && n == 8);
    CHECK_OK(gptoss_context_truncate(context, before + 5));
    CHECK_OK(gptoss_context_fork(context, &fork));
    CHECK_OK(gptoss_sampler_set_seed(sampler, 4));
    gptoss_context_t both[] = {context, fork};
    for (int i = 0; i < 2; i++) {
        CHECK_OK(gptoss_context_generate(both[i], sampler, NULL, &n, &reason));
        CHECK(reason == gptoss_stop_reason_grammar_end);
        const char* text = text_from(both[i], before);
        CHECK(strlen(text) == 30 && strspn(text, "0123456789") == 20 && strspn(text + 20, "ab") == 10);
    }
    /* an answer that the grammar did not make, and one that begins anew */
    const uint32_t letter = 64 /* "a" */;
    gptoss_sampler_t free_draw = sampler_of(NULL, 0, 0);
    CHECK_OK(gptoss_context_append_tokens(fork, 1, &letter));
    CHECK_OK(gptoss_context_generate(fork, sampler, &options, &n, &reason));
    CHECK(n == 8);
    CHECK_OK(gptoss_context_append_tokens(fork, 1, &letter));
    CHECK_OK(gptoss_sampler_set_logit_bias(free_draw, 1, &letter, (float[]){1000}));
    CHECK_OK(gptoss_context_generate(fork, free_draw, &options, &n, &reason));
    CHECK_FAILS(gptoss_status_invalid_argument, "does not follow the grammar",
                gptoss_context_generate(fork, sampler, NULL, &n, &reason));
    CHECK(n == 0);
    CHECK_OK(gptoss_context_release(fork));
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_sampler_release(free_draw));
    CHECK_OK(gptoss_sampler_release(sampler));
}

TEST(forced_tokens_take_no_step_and_stop_tokens_may_end_a_text) {
    gptoss_grammar_t grammar = made(gptoss_grammar_create_from_regex, "x=12345[ab]yyyyyyyyyyyyyy!");
    gptoss_sampler_t sampler = sampler_of(grammar, 0, 0);
    gptoss_context_t context = tiny_context();
    const size_t before = num_tokens(context);
    struct gptoss_usage usage = {.struct_size = sizeof usage};
    struct gptoss_generate_options options = {.struct_size = sizeof options, .usage_out = &usage};
    struct gptoss_context_stats first = {.struct_size = sizeof first}, then = first;
    size_t n = 0;
    enum gptoss_stop_reason reason;
    CHECK_OK(gptoss_context_process(context));
    CHECK_OK(gptoss_context_get_stats(context, &first));
    CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, &reason));
    CHECK_OK(gptoss_context_get_stats(context, &then));
    CHECK(reason == gptoss_stop_reason_grammar_end);
    const char* text = text_from(context, before);
    CHECK(strcmp(text, "x=12345ayyyyyyyyyyyyyy!") == 0 || strcmp(text, "x=12345byyyyyyyyyyyyyy!") == 0);
    CHECK(usage.prompt_tokens == before && usage.cached_tokens == before && usage.generated_tokens == n);
    CHECK(usage.forced_tokens > 0 && usage.forced_tokens < n);
    CHECK(first.prompt_tokens_computed == then.prompt_tokens_computed);
    /* what was computed with forced tokens is what a fresh context computes */
    float logits[VOCABULARY], fresh[VOCABULARY];
    uint32_t tokens[4096];
    size_t size = 0;
    CHECK_OK(gptoss_context_get_logits(context, logits, VOCABULARY, &size));
    CHECK_OK(gptoss_context_get_tokens(context, tokens, 4096, &size));
    gptoss_context_t other;
    CHECK_OK(gptoss_context_create(tiny_model(), 0, 0, &other));
    CHECK_OK(gptoss_context_append_tokens(other, size, tokens));
    CHECK_OK(gptoss_context_get_logits(other, fresh, VOCABULARY, &size));
    for (int i = 0; i < VOCABULARY; i++) CHECK(fabsf(logits[i] - fresh[i]) < 1e-2f);
    CHECK_OK(gptoss_context_release(other));
    CHECK_OK(gptoss_grammar_release(grammar));

    /* "!" may come once there is a digit */
    grammar = made(gptoss_grammar_create_from_regex, "[0-9]+");
    CHECK_OK(gptoss_sampler_set_grammar(sampler, grammar));
    const uint32_t stop = 0 /* "!" */;
    CHECK_OK(gptoss_sampler_set_logit_bias(sampler, 1, &stop, (float[]){1000}));
    options.stop_tokens = &stop;
    options.num_stop_tokens = 1;
    CHECK_OK(gptoss_context_append_tokens(context, 1, tokens));
    const size_t answer = num_tokens(context);
    CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, &reason));
    CHECK(reason == gptoss_stop_reason_stop_token && n == 2);
    text = text_from(context, answer);
    CHECK(text[0] >= '0' && text[0] <= '9' && text[strlen(text) - 1] == '!');
    CHECK_OK(gptoss_grammar_release(grammar));
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_sampler_release(sampler));
}

static int count_token(void* user_data, uint32_t token) {
    (void)token;
    ++*(size_t*)user_data;
    return 0;
}

/* Nothing is left to compute then, and the callback still gets them. */
TEST(forced_tokens_may_be_all_that_are_wanted) {
    gptoss_grammar_t grammar = made(gptoss_grammar_create_from_regex, "x=12345[ab]");
    gptoss_sampler_t sampler = sampler_of(grammar, 0, 0);
    for (size_t wanted = 1; wanted <= 3; wanted++) {
        gptoss_context_t context = tiny_context();
        size_t heard = 0, n = 0;
        struct gptoss_generate_options options = {
            .struct_size = sizeof options, .max_tokens = wanted, .callback = count_token, .user_data = &heard};
        CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, NULL));
        CHECK(n == wanted && heard == wanted);
        CHECK_OK(gptoss_context_release(context));
    }
    CHECK_OK(gptoss_sampler_release(sampler));
    CHECK_OK(gptoss_grammar_release(grammar));
}

TEST(contexts_generate_together_by_grammars_of_their_own) {
    enum { N = 5 };
    gptoss_grammar_t digits = made(gptoss_grammar_create_from_regex, "[0-9]{30}"),
                     object =
                         made(gptoss_grammar_create_from_json_schema,
                              "{\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\", \"minimum\": 0, "
                              "\"maximum\": 9}}, \"required\": [\"n\"], \"additionalProperties\": false}");
    gptoss_context_t contexts[N], alone[N];
    gptoss_sampler_t samplers[N];
    struct gptoss_generate_options options = {.struct_size = sizeof options, .max_tokens = 40};
    struct gptoss_generation all[N];
    for (int i = 0; i < N; i++) {
        contexts[i] = tiny_context();
        CHECK_OK(gptoss_context_fork(contexts[i], &alone[i]));
        samplers[i] = sampler_of(i == 0 ? NULL : i == 4 ? object : digits, 1, (uint64_t)i);
        all[i] = (struct gptoss_generation){
            .struct_size = sizeof *all, .context = contexts[i], .sampler = samplers[i], .options = &options};
    }
    const size_t before = num_tokens(contexts[0]);
    CHECK_OK(gptoss_generate_together(all, N));
    for (int i = 0; i < N; i++) {
        size_t n = 0;
        enum gptoss_stop_reason reason;
        CHECK_OK(gptoss_context_generate(alone[i], samplers[i], &options, &n, &reason));
        CHECK(n == all[i].num_tokens && reason == all[i].stop_reason);
        if (i == 1) CHECK(all_digits(text_from(contexts[i], before), 30));
        if (i == 4) CHECK(strchr(text_from(contexts[i], before), '}') != NULL);
        CHECK_OK(gptoss_context_release(contexts[i]));
        CHECK_OK(gptoss_context_release(alone[i]));
        CHECK_OK(gptoss_sampler_release(samplers[i]));
    }
    CHECK_OK(gptoss_grammar_release(digits));
    CHECK_OK(gptoss_grammar_release(object));
}

TEST(a_grammar_and_biases_belong_to_a_vocabulary) {
    gptoss_tokenizer_t other;
    gptoss_grammar_t grammar;
    CHECK_OK(gptoss_tokenizer_create(golden("o200k/../../../nano/gptoss-nano"), &other));
    CHECK_OK(gptoss_grammar_create_from_regex(other, "a*", 2, &grammar));
    gptoss_sampler_t sampler = sampler_of(grammar, 1, 0);
    gptoss_context_t context = tiny_context();
    size_t n = 0;
    CHECK_FAILS(gptoss_status_invalid_argument, "tokenizer", gptoss_context_generate(context, sampler, NULL, &n, NULL));
    CHECK_OK(gptoss_sampler_set_grammar(sampler, NULL));
    const uint32_t outside = VOCABULARY;
    CHECK_OK(gptoss_sampler_set_logit_bias(sampler, 1, &outside, (float[]){1}));
    CHECK_FAILS(gptoss_status_invalid_argument, "512", gptoss_context_generate(context, sampler, NULL, &n, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "biases[0]",
                gptoss_sampler_set_logit_bias(sampler, 1, &outside, (float[]){NAN}));
    CHECK_FAILS(gptoss_status_invalid_argument, "tokens",
                gptoss_sampler_set_logit_bias(sampler, 1, NULL, (float[]){1}));
    CHECK_FAILS(gptoss_status_invalid_argument, "sampler", gptoss_sampler_set_logit_bias(NULL, 0, NULL, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "sampler", gptoss_sampler_set_grammar(NULL, grammar));
    CHECK_OK(gptoss_sampler_set_logit_bias(sampler, 0, NULL, NULL));
    CHECK_OK(gptoss_grammar_release(grammar));
    /* Harmony's tokens are outside the vocabulary of the model */
    grammar = made(gptoss_grammar_create_from_harmony, "{}");
    CHECK_OK(gptoss_sampler_set_grammar(sampler, grammar));
    CHECK_FAILS(gptoss_status_invalid_state, "no token", gptoss_context_generate(context, sampler, NULL, &n, NULL));
    CHECK_OK(gptoss_grammar_release(grammar));
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_sampler_release(sampler));
    CHECK_OK(gptoss_tokenizer_release(other));
}

/* What outputs told. */
struct told {
    char text[4096];
    size_t size, tokens, callbacks;
    float logprobs[256];
    uint32_t ids[256];
    struct gptoss_logprob top[256][4];
};

static int on_output(void* user_data, const struct gptoss_output* output) {
    struct told* told = user_data;
    CHECK(output->struct_size == sizeof *output && strlen(output->text) == output->text_size);
    memcpy(told->text + told->size, output->text, output->text_size);
    told->size += output->text_size;
    if (told->tokens < 256) {
        told->ids[told->tokens] = output->token;
        told->logprobs[told->tokens] = output->logprob;
        if (output->num_top_logprobs > 0 && output->num_top_logprobs <= 4)
            memcpy(told->top[told->tokens], output->top_logprobs,
                   output->num_top_logprobs * sizeof *output->top_logprobs);
    }
    told->tokens++;
    return 0;
}

static int on_token(void* user_data, uint32_t token) {
    struct told* told = user_data;
    told->callbacks++;
    return token == UINT32_MAX;
}

TEST(stop_strings_end_the_text_before_them) {
    gptoss_grammar_t grammar = made(gptoss_grammar_create_from_regex, "abcabcabd[0-9]*");
    gptoss_sampler_t sampler = sampler_of(grammar, 1, 0);
    const struct {
        const char* strings[3];
        size_t n;
        const char* text;
    } cases[] = {
        {{"cabd"}, 1, "abcab"}, {{"zz", "bc"}, 2, "a"}, {{"abcabd", "d"}, 2, "abc"},
        {{"abcabcabd"}, 1, ""}, {{"ab"}, 1, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct told told = {.size = 0};
        gptoss_context_t context = tiny_context();
        struct gptoss_generate_options options = {.struct_size = sizeof options,
                                                  .max_tokens = 20,
                                                  .callback = on_token,
                                                  .user_data = &told,
                                                  .output_callback = on_output,
                                                  .stop_strings = cases[i].strings,
                                                  .num_stop_strings = cases[i].n};
        size_t n = 0;
        enum gptoss_stop_reason reason;
        CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, &reason));
        CHECK(reason == gptoss_stop_reason_stop_string);
        CHECK(told.tokens == n && told.callbacks == n);
        CHECK(strcmp(told.text, cases[i].text) == 0);
        CHECK_OK(gptoss_context_release(context));
    }
    /* a text that might become a stop string is delivered when nothing follows; without callbacks it stops too */
    gptoss_context_t context = tiny_context();
    struct told told = {.size = 0};
    const char* strings[] = {"abcabcabd!", NULL};
    struct gptoss_generate_options options = {.struct_size = sizeof options,
                                              .max_tokens = 5,
                                              .user_data = &told,
                                              .output_callback = on_output,
                                              .stop_strings = strings,
                                              .num_stop_strings = 1};
    size_t n = 0;
    enum gptoss_stop_reason reason;
    const size_t before = num_tokens(context);
    CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, &reason));
    CHECK(reason == gptoss_stop_reason_max_tokens && n == 5);
    CHECK(strcmp(told.text, text_from(context, before)) == 0 && told.size > 0);
    CHECK_OK(gptoss_context_truncate(context, before));
    options.output_callback = NULL;
    strings[0] = "ca";
    CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, &reason));
    CHECK(reason == gptoss_stop_reason_stop_string);
    CHECK_FAILS(gptoss_status_invalid_argument, "stop_strings[1]",
                (options.num_stop_strings = 2, gptoss_context_generate(context, sampler, &options, &n, &reason)));
    strings[1] = "";
    CHECK_FAILS(gptoss_status_invalid_argument, "stop_strings[1]",
                gptoss_context_generate(context, sampler, &options, &n, &reason));
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_sampler_release(sampler));
    CHECK_OK(gptoss_grammar_release(grammar));
}

static double logsumexp(const float* logits, double scale) {
    double sum = 0, top = -INFINITY;
    for (int i = 0; i < VOCABULARY; i++) top = fmax(top, logits[i] * scale);
    for (int i = 0; i < VOCABULARY; i++) sum += exp(logits[i] * scale - top);
    return top + log(sum);
}

TEST(logprobs_are_those_of_the_logits) {
    gptoss_sampler_t sampler = sampler_of(NULL, 0.5f, 11);
    gptoss_context_t context = tiny_context(), at;
    const size_t before = num_tokens(context);
    for (int kind = 0; kind < 3; kind++) {
        static struct told told;
        memset(&told, 0, sizeof told);
        CHECK_OK(gptoss_context_truncate(context, before));
        if (kind == 2) CHECK_OK(gptoss_sampler_set_top_k(sampler, 2));
        struct gptoss_generate_options options = {.struct_size = sizeof options,
                                                  .max_tokens = 12,
                                                  .user_data = &told,
                                                  .output_callback = on_output,
                                                  .logprobs = kind ? gptoss_logprobs_drawn : gptoss_logprobs_model,
                                                  .num_top_logprobs = 4};
        size_t n = 0;
        CHECK_OK(gptoss_context_generate(context, sampler, &options, &n, NULL));
        CHECK(n == 12 && told.tokens == 12);
        for (size_t i = 0; i < 12; i++) {
            float logits[VOCABULARY];
            size_t size;
            CHECK_OK(gptoss_context_fork(context, &at));
            CHECK_OK(gptoss_context_truncate(at, before + i));
            CHECK_OK(gptoss_context_get_logits(at, logits, VOCABULARY, &size));
            CHECK_OK(gptoss_context_release(at));
            const double scale = kind ? 2 : 1;
            const struct gptoss_logprob* top = told.top[i];
            double total = logsumexp(logits, scale);
            if (kind == 2) total = log(exp(logits[top[0].token] * scale) + exp(logits[top[1].token] * scale));
            CHECK(fabs(told.logprobs[i] - (logits[told.ids[i]] * scale - total)) < 1e-2);
            CHECK(fabs(top[0].logprob - (logits[top[0].token] * scale - total)) < 1e-2);
            CHECK(top[0].logprob >= top[1].logprob && top[0].token != top[1].token);
            if (kind < 2) CHECK(top[1].logprob >= top[2].logprob && top[2].logprob >= top[3].logprob);
            for (int v = 0; v < VOCABULARY; v++) CHECK(logits[v] <= logits[top[0].token] + 1e-3f);
        }
        if (kind == 0) { /* the same of tokens that the context holds */
            float values[12];
            struct gptoss_logprob tops[12][2];
            CHECK_OK(gptoss_context_get_logprobs(context, before, 12, 2, values, tops[0]));
            for (size_t i = 0; i < 12; i++) {
                CHECK(fabsf(values[i] - told.logprobs[i]) < 1e-2f);
                CHECK(fabsf(tops[i][1].logprob - told.top[i][1].logprob) < 1e-2f);
            }
            float all[64];
            CHECK_OK(gptoss_context_get_logprobs(context, 1, num_tokens(context) - 1, 0, all, NULL));
            CHECK(fabsf(all[before - 1 + 3] - values[3]) < 1e-2f);
        }
    }
    float one;
    struct gptoss_logprob no_room;
    CHECK_FAILS(gptoss_status_invalid_argument, "0", gptoss_context_get_logprobs(context, 0, 1, 0, &one, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "holds",
                gptoss_context_get_logprobs(context, num_tokens(context), 1, 0, &one, NULL));
    CHECK_FAILS(gptoss_status_invalid_argument, "num_top",
                gptoss_context_get_logprobs(context, 1, 1, 257, &one, &no_room));
    CHECK_FAILS(gptoss_status_invalid_argument, "top_out", gptoss_context_get_logprobs(context, 1, 1, 1, &one, NULL));
    struct gptoss_generate_options options = {.struct_size = sizeof options, .num_top_logprobs = 257};
    CHECK_FAILS(gptoss_status_invalid_argument, "num_top_logprobs",
                gptoss_context_generate(context, sampler, &options, NULL, NULL));
    struct gptoss_usage usage = {.struct_size = 1};
    options.num_top_logprobs = 0;
    options.usage_out = &usage;
    CHECK_FAILS(gptoss_status_invalid_argument, "usage_out",
                gptoss_context_generate(context, sampler, &options, NULL, NULL));
    CHECK_OK(gptoss_context_release(context));
    CHECK_OK(gptoss_sampler_release(sampler));
}
