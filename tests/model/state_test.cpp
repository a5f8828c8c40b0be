// Contexts that are saved, restored and forked: each goes on as the original does, bit for bit where the device is
// exact.
#include <algorithm>
#include <thread>

#include "base/error.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

std::vector<std::byte> saved(const model::Sequence& context) {
    std::vector<std::byte> state(context.save({}));
    context.save(state);
    return state;
}

std::vector<uint32_t> generated(model::Sequence& context, uint64_t n, uint64_t seed = 5) {
    model::GenerateRequest request{.max_tokens = n};
    request.settings.seed = seed;
    request.settings.presence = 0.5f;  // so that it matters where the answer began
    uint64_t got = 0;
    const size_t before = context.tokens().size();
    context.generate(request, &got);
    REQUIRE(got == n);
    return {context.tokens().begin() + static_cast<ptrdiff_t>(before), context.tokens().end()};
}

}  // namespace

TEST_CASE("state: a restored context goes on as the saved one") {
    const auto& model = small_model();
    const auto tokens = random_tokens(700, model->config.vocab, 70);
    for (const size_t length : {1, 15, 16, 130, 700}) {
        for (const uint32_t max_batch : {8u, 300u}) {  // a smaller ring than the saved one, and a larger one
            CAPTURE(length);
            CAPTURE(max_batch);
            model::Sequence context(model, 0, 40);
            context.append(std::span(tokens).first(length));
            context.process();
            generated(context, 5);
            const auto state = saved(context);
            CHECK(saved(context) == state);

            model::Sequence restored(model, 0, max_batch);
            restored.append(std::span(tokens).last(50));  // of which nothing may remain
            generated(restored, 3);
            restored.restore(state);
            CHECK(restored.tokens() == context.tokens());
            check_same(*model, logits_of(restored), logits_of(context));
            if (exact(*model)) CHECK(generated(restored, 40) == generated(context, 40));
            check_same(*model, logits_of(restored), fresh_logits(model, restored.tokens()));
        }
    }
}

TEST_CASE("state: nothing is computed again") {
    const auto& model = small_model();
    const auto tokens = random_tokens(300, model->config.vocab, 71);
    model::Sequence context(model, 0, 64);
    context.append(tokens);
    const auto logits = logits_of(context);
    const auto state = saved(context);
    model::Sequence restored(model, 0, 64);
    restored.restore(state);
    {
        const Counter counter(*model);
        restored.process();
        CHECK(counter.submits == 0);
    }
    check_same(*model, logits_of(restored), logits);
    // going back too uses what was saved: the ring, and the snapshots
    for (const size_t keep : {290, 120}) {
        CAPTURE(keep);
        for (model::Sequence* c : {&context, &restored}) {
            c->truncate(keep);
            check_same(*model, logits_of(*c), fresh_logits(model, std::span(tokens).first(keep)));
            c->append(std::span(tokens).subspan(keep));
            check_same(*model, logits_of(*c), logits);
        }
    }
    // what is appended and not computed yet, and an answer's beginning
    context.truncate(200);
    context.append(std::vector<uint32_t>{1, 2, 3});
    restored.restore(saved(context));
    CHECK(restored.tokens() == context.tokens());
    if (exact(*model)) CHECK(generated(restored, 20) == generated(context, 20));
    // nothing at all
    model::Sequence empty(model, 0, 0);
    restored.restore(saved(empty));
    CHECK(restored.tokens().empty());
    CHECK_THROWS_AS(restored.process(), Error);
    restored.append(tokens);
    check_same(*model, logits_of(restored), logits);
}

TEST_CASE("state: going back after going back, from a snapshot of the window alone") {
    const auto& model = caching_model();
    const auto tokens = random_tokens(400, model->config.vocab, 72);
    model::Sequence context(model, 0, 8);  // a ring of 16 + 8 + 32 slots
    for (const size_t end : {100, 200, 400}) {
        context.append(std::span(tokens).subspan(context.tokens().size(), end - context.tokens().size()));
        context.process();
    }
    context.truncate(200);
    context.append(std::vector<uint32_t>{1});
    context.process();  // from the snapshot at 200
    context.truncate(195);
    check_same(*model, logits_of(context), fresh_logits(small_model(), std::span(tokens).first(195)));
}

TEST_CASE("state: damage is refused, and the context stays as it was") {
    const auto& model = small_model();
    const auto tokens = random_tokens(90, model->config.vocab, 73);
    model::Sequence context(model, 0, 0), other(model, 0, 0);
    context.append(tokens);
    context.process();
    const auto state = saved(context);
    other.append(std::span(tokens).first(7));
    const auto logits = logits_of(other);
    const auto refuses = [&](std::span<const std::byte> bytes, Status status, const std::string& names) {
        check_refused(status, names, [&] { other.restore(bytes); });
        CHECK(other.tokens().size() == 7);
    };
    for (size_t size : {size_t{0}, size_t{1}, size_t{87}, size_t{88}, size_t{92}, state.size() / 2, state.size() - 1})
        refuses(std::span(state).first(size), Status::InvalidArgument, "truncated");
    auto changed = state;
    changed.push_back({});
    refuses(changed, Status::InvalidArgument, "damaged");
    for (size_t i = 0; i < state.size(); i += 1 + i / 8) {
        CAPTURE(i);
        changed = state;
        changed[i] ^= std::byte{1};
        const Status status = i >= 8 && i < 12 ? Status::UnsupportedArgument : Status::InvalidArgument;
        refuses(changed, status, "the saved state");
    }
    check_same(*model, logits_of(other), logits);

    model::ModelOptions options;
    options.kv_f16 = false;
    const SyntheticCheckpoint same(Shape{}, 1), another(Shape{}, 2);
    const auto f32 = load(same.path(), options), different = load(another.path());
    const auto q8 = load(same.path(), {.load = {.dense = WEIGHT_Q8}});
    CHECK(load(same.path())->fingerprint == model->fingerprint);
    CHECK_MESSAGE(q8->fingerprint != model->fingerprint, "other weights");
    model::Sequence of_f32(f32, 0, 0), of_another(different, 0, 0), small(model, 89, 0);
    check_refused(Status::InvalidArgument, "16-bit", [&] { of_f32.restore(state); });
    check_refused(Status::InvalidArgument, "another model", [&] { of_another.restore(state); });
    check_refused(Status::ContextOverflow, "90 tokens; the context holds at most 89", [&] { small.restore(state); });
}

TEST_CASE("fork: both go on from where it was, and neither touches the other") {
    const auto& model = small_model();
    const auto tokens = random_tokens(1100, model->config.vocab, 74),
               others = random_tokens(40, model->config.vocab, 75);
    for (const size_t length : {0, 3, 130, 511, 512, 1100}) {
        CAPTURE(length);
        model::Sequence context(model, 0, 64);
        context.append(std::span(tokens).first(length));
        if (length > 0) context.process();
        model::Sequence fork(context);
        CHECK(fork.tokens() == context.tokens());
        fork.append(others);
        context.append(std::span(tokens).first(30));
        std::vector<uint32_t> expected(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(length));
        auto expected_fork = expected;
        expected.insert(expected.end(), tokens.begin(), tokens.begin() + 30);
        expected_fork.insert(expected_fork.end(), others.begin(), others.end());
        check_same(*model, logits_of(fork), fresh_logits(model, expected_fork));
        check_same(*model, logits_of(context), fresh_logits(model, expected));
        // a fork of a fork that goes back into what all three share
        model::Sequence third(fork);
        third.truncate(length / 2 + 1);
        third.append(others);
        check_same(*model, logits_of(third), fresh_logits(model, third.tokens()));
        check_same(*model, logits_of(fork), fresh_logits(model, expected_fork));
        fork.append(std::vector<uint32_t>{9});
        context.append(std::vector<uint32_t>{9});
        expected.push_back(9);
        expected_fork.push_back(9);
        check_same(*model, logits_of(fork), fresh_logits(model, expected_fork));
        check_same(*model, logits_of(context), fresh_logits(model, expected));
    }
}

TEST_CASE("fork: it takes no memory for the tokens, and computes nothing") {
    const auto& model = small_model();
    const auto tokens = random_tokens(1500, model->config.vocab, 76);
    auto context = std::make_unique<model::Sequence>(model, 0, 64);
    context->append(tokens);
    const auto logits = logits_of(*context);
    const Counter counter(*model);
    const model::Sequence empty(model, 0, 64);
    const uint64_t bytes_of_empty = counter.bytes;
    counter.bytes = 0;
    model::Sequence fork(*context);
    CHECK(counter.bytes == bytes_of_empty);
    CHECK(fork.stats().page_bytes == context->stats().page_bytes);
    counter.submits = 0;
    fork.process();
    CHECK(counter.submits == 0);
    context.reset();  // what was shared stays
    check_same(*model, logits_of(fork), logits);
    // alone, it writes on without a copy
    counter.bytes = 0;
    fork.append(std::vector<uint32_t>{4});
    fork.process();
    CHECK(counter.bytes == 0);
}

TEST_CASE("fork: forks on threads of their own") {
    const auto& model = small_model();
    const auto tokens = random_tokens(600, model->config.vocab, 77);
    auto context = std::make_unique<model::Sequence>(model, 0, 64);
    context->append(tokens);
    context->process();
    std::vector<std::unique_ptr<model::Sequence>> forks;
    for (int i = 0; i < 3; i++) forks.push_back(std::make_unique<model::Sequence>(*context));
    std::vector<std::vector<uint32_t>> results(3);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 3; i++) threads.emplace_back([&, i] { results[i] = generated(*forks[i], 10, i); });
    context.reset();
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < 3; i++) {
        model::Sequence alone(model, 0, 64);
        alone.append(tokens);
        if (exact(*model)) CHECK(generated(alone, 10, i) == results[i]);
    }
}
