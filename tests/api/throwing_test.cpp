// Callbacks written in C++ may throw: the exception becomes a status, and the handles work on.
#include <stdexcept>

#include "check.h"

namespace {

int throw_from_progress(void*, uint64_t, uint64_t) { throw std::runtime_error("a progress callback's own"); }

int throw_from_token(void* calls, uint32_t) {
    if (++*static_cast<int*>(calls) == 3) throw 42;
    return 0;
}

}  // namespace

TEST(exceptions_of_callbacks_become_a_status) {
    gptoss_model_options options = model_options();
    options.progress = throw_from_progress;
    gptoss_model_t model = nullptr;
    CHECK_FAILS(gptoss_status_internal_error, "progress callback's own",
                gptoss_model_create(golden("tiny"), &options, &model));
    CHECK(!model);

    gptoss_context_t context = tiny_context();
    int calls = 0;
    gptoss_generate_options generate{};
    generate.struct_size = sizeof generate;
    generate.callback = throw_from_token;
    generate.user_data = &calls;
    size_t n = 0;
    CHECK_FAILS(gptoss_status_internal_error, "exception",
                gptoss_context_generate(context, nullptr, &generate, &n, nullptr));
    CHECK(n == 3);
    uint32_t tokens[5];
    CHECK_OK(gptoss_context_sample(context, 0, 0, 5, tokens, &n));
    CHECK(n == 5);
    CHECK_OK(gptoss_context_get_num_tokens(context, &n));
    CHECK(n == 13);
    CHECK_OK(gptoss_context_release(context));
}
