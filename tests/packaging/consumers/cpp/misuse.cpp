// Handles used after they were moved from and from two threads, values of another model, exceptions out of callbacks:
// each is an Error, and what is left is usable.
#include <gptoss.hpp>

#include <cstdio>
#include <cstdlib>
#include <thread>

#define REQUIRE(condition)                                               \
    do {                                                                 \
        if (!(condition)) {                                              \
            std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            std::exit(1);                                                \
        }                                                                \
    } while (false)

template <typename F>
static gptoss_status status_of(F&& f) {
    try {
        f();
        return gptoss_status_success;
    } catch (const gptoss::Error& error) {
        REQUIRE(*error.what());
        return error.status();
    }
}

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    gptoss::Model model(argv[1]);
    gptoss::Context moved(model), context = std::move(moved);
    const auto invalid = gptoss_status_invalid_argument;
    REQUIRE(status_of([&] { moved.num_tokens(); }) == invalid);
    REQUIRE(status_of([&] { moved.append(1u); }) == invalid);
    REQUIRE(status_of([&] { moved.generate([](uint32_t) {}); }) == invalid);
    REQUIRE(status_of([&] { moved.cancel(); }) == invalid);
    gptoss::Model other = std::move(model);
    REQUIRE(status_of([&] { model.info(); }) == invalid);
    REQUIRE(status_of([&] { gptoss::Context c(model); }) == invalid);
    gptoss::Sampler sampler, gone = std::move(sampler);
    REQUIRE(status_of([&] { sampler.seed(1); }) == invalid);
    gptoss::Tokenizer tokenizer = other.tokenizer(), kept = std::move(tokenizer);
    REQUIRE(status_of([&] { tokenizer.encode("a"); }) == invalid);
    REQUIRE(status_of([&] { gptoss::HarmonyParser p(tokenizer); }) == invalid);
    REQUIRE(kept.decode(kept.encode("Gr\xc3\xbc\xc3\x9f"
                                    "e")) ==
            "Gr\xc3\xbc\xc3\x9f"
            "e");

    REQUIRE(status_of([] { gptoss::Tokenizer t("no/such/tokenizer.json"); }) == gptoss_status_io_error);

    // A token that this model does not have.
    REQUIRE(status_of([&] { context.append(other.info().vocabulary_size); }) == invalid);
    REQUIRE(status_of([&] { context.generate([](uint32_t) {}); }) == gptoss_status_invalid_state);  // empty

    context.append(1u);
    struct Mine {};
    bool caught = false;
    try {
        context.generate([](uint32_t) { throw Mine(); });
    } catch (const Mine&) {
        caught = true;
    }
    REQUIRE(caught && context.num_tokens() == 2);
    std::size_t n = 0;
    REQUIRE(status_of([&] {
                context.generate([&](uint32_t) {
                    if (++n == 2) std::thread([&] { context.cancel(); }).join();
                });
            }) == gptoss_status_cancelled);
    REQUIRE(context.num_tokens() == 2 + n);
    // Stop tokens: one of them ends it; with none at all only the length does.
    context.truncate(1);
    gptoss::GenerateOptions options;
    options.max_tokens = 8;
    std::vector<uint32_t> tokens;
    options.stop_tokens = tokens;
    const auto collect = [&](uint32_t token) { tokens.push_back(token); };
    REQUIRE(context.generate(collect, options).stop_reason == gptoss_stop_reason_max_tokens && tokens.size() == 8);
    const std::vector<uint32_t> stops = {tokens[0]};
    context.truncate(1);
    options.stop_tokens = stops;
    REQUIRE(context.generate(collect, options).stop_reason == gptoss_stop_reason_stop_token && tokens.size() == 9);
    const gptoss_context_stats stats = context.stats();
    REQUIRE(stats.cache_bytes > 0 && stats.step_dispatches > 0);
    for (const gptoss_kernel_time& time : context.profile(1, &gone)) REQUIRE(*time.name && time.dispatches > 0);
    // Another thread, and the callback itself, while the context generates.
    const auto in_use = gptoss_status_invalid_state;
    context.truncate(1);
    n = context
            .generate([&](uint32_t) {
                REQUIRE(context.num_tokens() == context.tokens().size());
                REQUIRE(status_of([&] { context.append(1u); }) == in_use);
                std::thread([&] {
                    REQUIRE(status_of([&] { context.append(1u); }) == in_use);
                    REQUIRE(status_of([&] { context.num_tokens(); }) == in_use);
                    REQUIRE(status_of([&] { context.generate([](uint32_t) {}); }) == in_use);
                }).join();
                return true;
            })
            .num_tokens;
    REQUIRE(n == 1 && context.num_tokens() == 2);
    REQUIRE(context.generate([](uint32_t) { return true; }).stop_reason == gptoss_stop_reason_callback);
    // Several at once: each has its own error, and what keeps all from running is that of each.
    gptoss::Context second(other), third(other);
    context.truncate(1);
    second.append(1u);
    third.append(2u);
    gptoss::GenerateOptions four;
    four.max_tokens = 4;
    const std::vector<uint32_t> none;
    four.stop_tokens = none;
    std::vector<gptoss::Generation> all(3);
    all[0].context = &context, all[1].context = &second, all[2].context = &third;
    for (gptoss::Generation& g : all) g.options = four;
    n = 0;
    all[1].on_token = [&](uint32_t) { return ++n == 2; };
    all[2].on_token = [](uint32_t) -> bool { throw Mine(); };
    gptoss::generate_together(all);
    REQUIRE(!all[0].error && all[0].result.num_tokens == 4 && context.num_tokens() == 5);
    REQUIRE(!all[1].error && all[1].result.stop_reason == gptoss_stop_reason_callback && second.num_tokens() == 3);
    const auto error_of = [](const gptoss::Generation& g) {
        return status_of([&] {
            if (g.error) std::rethrow_exception(g.error);
        });
    };
    try {
        error_of(all[2]);
        REQUIRE(false);
    } catch (const Mine&) {
    }
    all[2].on_token = nullptr;
    third.cancel();
    gptoss::generate_together(all);
    REQUIRE(error_of(all[0]) == gptoss_status_success && error_of(all[2]) == gptoss_status_cancelled);
    all[2].context = &second;
    gptoss::generate_together(all);
    for (const gptoss::Generation& g : all) REQUIRE(error_of(g) == invalid && g.result.num_tokens == 0);
    gptoss::generate_together(std::vector<gptoss::Generation>());
    std::puts("ok");
}
