// One timeline of tokens: however it came about, its logits are those of a fresh run.
#include <algorithm>
#include <thread>

#include "base/error.h"
#include "engine/engine.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

std::span<const uint32_t> part(const std::vector<uint32_t>& tokens, size_t begin, size_t end) {
    return std::span(tokens).subspan(begin, end - begin);
}

void append_in_chunks(model::Sequence& context, std::span<const uint32_t> tokens, size_t chunk) {
    for (size_t i = 0; i < tokens.size(); i += chunk) {
        context.append(tokens.subspan(i, std::min(chunk, tokens.size() - i)));
        context.process();
    }
}

}  // namespace

TEST_CASE("prefill in chunks of 1, 7, 64 and all gives the same logits") {
    const auto& model = small_model();
    const auto tokens = random_tokens(150, model->config.vocab, 2);
    const auto all = fresh_logits(model, tokens, 150);
    for (const uint32_t batch : {1, 7, 64}) {
        CAPTURE(batch);
        check_same(*model, fresh_logits(model, tokens, batch), all);
        model::Sequence context(model, 0, 150);
        append_in_chunks(context, tokens, batch);
        check_same(*model, logits_of(context), all);
    }
}

TEST_CASE("prefill in chunks: tiny, past its window") {
    const auto model = load(golden("tiny"));
    auto tokens = read_array<uint32_t>(golden("tiny/tokens.u32"));
    tokens.resize(150);
    const auto all = fresh_logits(model, tokens, 150);
    check_same(*model, fresh_logits(model, tokens, 7), all);
    check_same(*model, fresh_logits(model, tokens, 64), all);
    check_same(*model, fresh_logits(model, tokens, 1), all);
}

TEST_CASE("truncating gives what a fresh run of the rest gives") {
    const auto& model = small_model();
    const auto tokens = random_tokens(200, model->config.vocab, 3), other = random_tokens(30, model->config.vocab, 4);
    model::Sequence context(model, 0, 16);
    context.append(tokens);
    context.process();
    for (const size_t keep : {199, 190, 120, 70, 1}) {
        CAPTURE(keep);
        context.truncate(keep);
        CHECK(context.tokens().size() == keep);
        check_same(*model, logits_of(context), fresh_logits(model, part(tokens, 0, keep)));
        context.append(other);
        std::vector<uint32_t> expected(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(keep));
        expected.insert(expected.end(), other.begin(), other.end());
        CHECK(context.tokens() == expected);
        check_same(*model, logits_of(context), fresh_logits(model, expected));
        context.truncate(keep);
    }
    CHECK_THROWS_AS(context.truncate(2), Error);
    context.truncate(0);
    CHECK_THROWS_AS(context.process(), Error);
}

TEST_CASE("what was computed before a reset is not computed again") {
    const auto& model = small_model();
    const auto tokens = random_tokens(150, model->config.vocab, 5);
    model::Sequence context(model, 0, 32);
    context.append(tokens);
    const auto logits = logits_of(context);
    context.truncate(0);
    context.append(tokens);
    {
        const Counter counter(*model);
        context.process();
        CHECK(counter.submits == 0);
    }
    check_same(*model, logits_of(context), logits);

    // another ending: only that is computed, in one batch
    auto changed = tokens;
    changed[140] = (changed[140] + 1) % model->config.vocab;
    context.truncate(0);
    context.append(changed);
    {
        const Counter counter(*model);
        context.process();
        CHECK(counter.submits == 1);
    }
    check_same(*model, logits_of(context), fresh_logits(model, changed));

    // a shorter prompt of the same beginning
    context.truncate(0);
    context.append(part(tokens, 0, 135));
    check_same(*model, logits_of(context), fresh_logits(model, part(tokens, 0, 135)));
}

TEST_CASE("a profile leaves the timeline as it is, after going back too") {
    const auto& model = caching_model();
    const auto tokens = random_tokens(250, model->config.vocab, 13);
    model::Sequence context(model, 0, 30);
    append_in_chunks(context, tokens, 100);
    context.truncate(201);  // what is kept of 200 tokens is a window and no more
    context.process();
    CHECK(context.profile(30, {}).size() < 100);
    context.append(part(tokens, 201, 250));
    check_same(*model, logits_of(context), fresh_logits(small_model(), tokens));
    CHECK_THROWS_AS(context.profile(31, {}), Error);
    CHECK_THROWS_AS(context.profile(0, {}), Error);
}

TEST_CASE("a cache says how far back it can go") {
    const auto& model = small_model();
    model::KvPages cache(model->engine->layout(), model->engine->pool(), 4096, 8);  // a ring of 16 + 8 + 32 slots
    cache.reserve(0, 200);
    cache.will_write(0, 40);
    CHECK(cache.has_window(3));  // nothing is overwritten yet
    cache.will_write(3, 97);
    const model::Window window = cache.copy_window(100);
    cache.will_write(100, 50);
    CHECK(cache.has_window(130));
    CHECK(!cache.has_window(101));  // its window begins at 86, and 149 took the slot of 93
    CHECK(!cache.reaches(window, 101));
    CHECK(cache.reaches(window, 100));
    CHECK(cache.reaches(window, 99));  // where the logits after 100 are wanted
    CHECK(!cache.reaches(window, 98));
    cache.go_back(window, 99);
    CHECK(cache.has_window(99));
    CHECK(!cache.has_window(98));
}

TEST_CASE("a cache goes on writing behind what it has lent, and copies what is in front") {
    const auto& model = small_model();
    model::KvPages cache(model->engine->layout(), model->engine->pool(), 4096, 8);
    cache.reserve(0, 700);
    const auto lent = cache.lend(600);
    REQUIRE(lent.size() == 2);
    CHECK(cache.holds(600, 1024));
    CHECK(!cache.holds(599, 1024));
    const uint64_t version = cache.version();
    cache.reserve(600, 1024);
    CHECK(cache.version() == version);
    cache.lend(650);
    CHECK(!cache.holds(649, 700));
    cache.reserve(620, 700);
    CHECK(cache.version() != version);
    CHECK(cache.holds(620, 700));
    model::KvPages other(model->engine->layout(), model->engine->pool(), 4096, 8);
    other.borrow(lent);
    other.reserve(600, 601);  // a ring
    CHECK(!other.holds(511, 512));
    CHECK(other.holds(600, 700));  // in a copy: it was another's to write
    CHECK(cache.holds(620, 700));
}

TEST_CASE("contexts of one model do not touch each other") {
    const auto& model = small_model();
    const auto a_tokens = random_tokens(80, model->config.vocab, 7),
               b_tokens = random_tokens(90, model->config.vocab, 8);
    model::Sequence a(model, 0, 16), b(model, 100, 5);
    for (size_t i = 0; i < 80; i += 10) {
        a.append(part(a_tokens, i, i + 10));
        a.process();
        b.append(part(b_tokens, i, i + 10));
        b.process();
        if (i % 20 == 0) check_same(*model, logits_of(a), fresh_logits(model, part(a_tokens, 0, i + 10)));
    }
    check_same(*model, logits_of(a), fresh_logits(model, a_tokens));
    check_same(*model, logits_of(b), fresh_logits(model, part(b_tokens, 0, 80)));

    model::GenerateRequest request{.max_tokens = 6};
    request.settings.seed = 9;
    uint64_t n = 0;
    model::Sequence alone(model, 0, 0);
    alone.append(a_tokens);
    for (int i = 0; i < 3; i++) alone.generate(request, &n);
    for (int i = 0; i < 3; i++) {
        a.generate(request, &n);
        b.generate(request, &n);
    }
    if (exact(*model)) CHECK(a.tokens() == alone.tokens());
}

TEST_CASE("two threads, each with a context of one model") {
    const auto& model = small_model();
    std::vector<uint32_t> results[2];
    const auto generate = [&](int which) {
        model::Sequence context(model, 0, 8);
        context.append(random_tokens(40, model->config.vocab, 20 + static_cast<uint64_t>(which)));
        model::GenerateRequest request{.max_tokens = 40};
        request.settings.seed = 3;
        uint64_t n = 0;
        context.generate(request, &n);
        return context.tokens();
    };
    std::thread first([&] { results[0] = generate(0); }), second([&] { results[1] = generate(1); });
    first.join();
    second.join();
    CHECK(results[0] == generate(0));
    CHECK(results[1] == generate(1));
}

TEST_CASE("the cache grows while a prompt is read and while tokens are generated") {
    const auto& model = small_model();
    const auto tokens = random_tokens(1040, model->config.vocab, 10);
    model::Sequence context(model, 0, 64);
    append_in_chunks(context, part(tokens, 0, 480), 240);
    check_same(*model, logits_of(context), fresh_logits(model, part(tokens, 0, 480)));
    model::GenerateRequest request{.max_tokens = 45};  // over the first 512 slots
    request.settings.temperature = 0;
    uint64_t n = 0;
    const uint64_t held = context.stats().page_bytes;
    context.generate(request, &n);
    REQUIRE(n == 45);
    CHECK(context.stats().page_bytes > held);
    check_same(*model, logits_of(context), fresh_logits(model, context.tokens()));
    context.truncate(480);
    context.append(part(tokens, 480, 1040));
    check_same(*model, logits_of(context), fresh_logits(model, tokens));
}

TEST_CASE("a context refuses what it cannot hold, and appends nothing") {
    const auto& model = small_model();
    model::Sequence context(model, 10, 4);
    context.append(random_tokens(8, 96, 1));
    const auto refused = [&](std::vector<uint32_t> tokens, Status status, const char* names) {
        try {
            context.append(tokens);
            FAIL("appended");
        } catch (const Error& e) {
            CHECK(e.status() == status);
            CHECK(std::string(e.what()).find(names) != std::string::npos);
        }
        CHECK(context.tokens().size() == 8);
    };
    refused({1, 2, 3}, Status::ContextOverflow, "at most 10");
    refused({1, 96}, Status::InvalidArgument, "token 96");
    refused({UINT32_MAX}, Status::InvalidArgument, "4294967295");
    context.append(std::vector<uint32_t>{1, 2});
    check_same(*model, logits_of(context), fresh_logits(model, context.tokens()));
    CHECK_THROWS_AS(model::Sequence(model, model->config.max_context + 1ull, 0), Error);
    CHECK_THROWS_AS(model::Sequence(model, 10, 11), Error);
    CHECK_THROWS_AS(model::Sequence(model, UINT64_MAX, UINT64_MAX), Error);
}
