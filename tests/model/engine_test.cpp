// Many sequences at once: each gets the tokens that it gets alone.
#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/error.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

using Tokens = std::vector<uint32_t>;

// A prompt, and how it is answered: greedy, sampled, with filters and with penalties in turn.
struct Request {
    explicit Request(uint32_t i) : prompt(random_tokens(1 + i * 7 % 90, 96, 100 + i)) {
        generate.max_tokens = 6 + i % 5;
        generate.settings.seed = i;
        if (i % 4 == 0) generate.settings.temperature = 0;
        if (i % 4 == 2) generate.settings.top_p = 0.8f, generate.settings.top_k = 20;
        if (i % 4 == 3) generate.settings.presence = 0.7f, generate.settings.repetition = 1.2f;
    }
    Tokens prompt;
    model::GenerateRequest generate;
};

Tokens alone(const Request& request) {
    model::Sequence sequence(small_model(), 300, 32);
    sequence.append(request.prompt);
    uint64_t n = 0;
    sequence.generate(request.generate, &n);
    return sequence.tokens();
}

// Sequences with their prompts, and what they are to become.
struct Company {
    explicit Company(uint32_t n) {
        for (uint32_t i = 0; i < n; i++) {
            requests.emplace_back(i);
            expected.push_back(alone(requests.back()));
            sequences.push_back(std::make_unique<model::Sequence>(small_model(), 300, 32));
            sequences.back()->append(requests.back().prompt);
        }
    }
    std::vector<model::Generation> generations() const {
        std::vector<model::Generation> all;
        for (size_t i = 0; i < requests.size(); i++) all.push_back({sequences[i].get(), &requests[i].generate});
        return all;
    }
    void check() const {
        if (!exact(*small_model())) return;
        for (size_t i = 0; i < requests.size(); i++) {
            CAPTURE(i);
            CHECK(sequences[i]->tokens() == expected[i]);
        }
    }
    std::vector<Request> requests;
    std::vector<Tokens> expected;
    std::vector<std::unique_ptr<model::Sequence>> sequences;
};

}  // namespace

TEST_CASE("engine: any number of sequences at once, each as alone") {
    for (const uint32_t n : {1, 2, 3, 4, 6, 8, 9, 12, 16, 32, 40}) {  // 40 are more than one step takes
        CAPTURE(n);
        Company company(n);
        std::vector<model::Generation> all = company.generations();
        generate_together(all);
        for (const model::Generation& g : all) {
            CHECK(!g.error);
            CHECK(g.n_tokens == g.request->max_tokens);
            CHECK(g.reason == model::StopReason::MaxTokens);
        }
        company.check();
    }
}

// The engine's room for 9 rows is one for 16, which are a batch of 16 tokens too, whatever the sequences' batches are.
TEST_CASE("engine: more rows than any sequence's batch has tokens") {
    const auto model = load(SyntheticCheckpoint(Shape{}, 1).path());  // as small_model(), whose room others make
    for (const uint32_t n : {9, 16}) {
        std::vector<std::unique_ptr<model::Sequence>> sequences;
        std::vector<model::Generation> all;
        const model::GenerateRequest request{.max_tokens = 4};
        for (uint32_t i = 0; i < n; i++) {
            sequences.push_back(std::make_unique<model::Sequence>(model, 8, 1));
            sequences.back()->append(Tokens{i});
            all.push_back({sequences[i].get(), &request});
        }
        generate_together(all);
        CHECK(model->engine->working_bytes() >=
              model::Engine::footprint(model->config, model->tuning, model->kv_f16, 16, 16));
        for (uint32_t i = 0; i < n; i++) {
            REQUIRE(!all[i].error);
            CHECK(logits_of(*sequences[i]) == fresh_logits(small_model(), sequences[i]->tokens()));
        }
    }
}

TEST_CASE("engine: one thread a sequence, some with callbacks") {
    Company company(12);
    std::vector<std::thread> threads;
    std::atomic<int> wrong_threads{0};
    for (size_t i = 0; i < 12; i++)
        threads.emplace_back([&, i] {
            model::GenerateRequest request = company.requests[i].generate;
            const auto me = std::this_thread::get_id();
            if (i % 2)
                request.on_token = [&, me](const model::Drawn&, bool) {
                    wrong_threads += std::this_thread::get_id() != me;
                    return model::StopReason::None;
                };
            // in calls of one token too
            const uint64_t total = request.max_tokens;
            if (i % 3 == 0 && !request.settings.penalizes()) request.max_tokens = 1;
            for (uint64_t done = 0, n = 0; done < total; done += n) company.sequences[i]->generate(request, &n);
        });
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong_threads == 0);
    company.check();
}

// A step waits a moment for callers that may come back at once. Who returns, and when, is certain in a callback.
TEST_CASE("engine: a lone caller waits for nobody") {
    Company company(5);
    const uint64_t before = small_model()->engine->waits();
    for (size_t i = 0; i < 5; i++) {
        model::GenerateRequest request = company.requests[i].generate;
        if (i % 2) request.on_token = [](const model::Drawn&, bool) { return model::StopReason::None; };
        const uint64_t total = request.max_tokens;
        if (!request.settings.penalizes()) request.max_tokens = 1;
        for (uint64_t done = 0, n = 0; done < total; done += n) company.sequences[i]->generate(request, &n);
    }
    std::vector<model::Generation> all = company.generations();
    generate_together(all);
    CHECK(small_model()->engine->waits() == before);
}

TEST_CASE("engine: a caller that stays away is waited for once, and not by many") {
    const auto& model = small_model();
    for (const size_t n : {1, 2})
        for (const std::string end : {"its limit", "an error", "a cancel", "a prompt without an answer"}) {
            CAPTURE(n);
            CAPTURE(end);
            Company company(4);
            model::GenerateRequest brief{.max_tokens = 1};
            auto away = std::make_unique<model::Sequence>(model, 0, 0);
            away->append(random_tokens(20, 96, 9));
            if (end == "an error")
                brief.on_token = [](const model::Drawn&, bool) -> model::StopReason {
                    throw std::runtime_error("its own");
                };
            if (end == "a cancel") {
                brief.max_tokens = 9;
                brief.on_token = [&](const model::Drawn&, bool) {
                    away->cancel();
                    return model::StopReason::None;
                };
            }
            company.requests[3].generate.logprobs = model::Logprobs::Model;  // so that steps are not submitted ahead
            company.requests[3].generate.on_token = [&](const model::Drawn&, bool) {
                if (!away) return model::StopReason::None;
                uint64_t n_tokens = 0;
                try {
                    if (end == "a prompt without an answer")
                        away->process();
                    else
                        away->generate(brief, &n_tokens);
                } catch (...) {
                    CHECK((end == "an error" || end == "a cancel"));
                }
                away.reset();
                return model::StopReason::None;
            };
            const uint64_t before = model->engine->waits();
            std::vector<model::Generation> all = company.generations();
            generate_together(std::span(all).last(n));
            CHECK(model->engine->waits() == before + (n == 1));
            if (!exact(*model)) continue;
            for (size_t i = 4 - n; i < 4; i++) CHECK(company.sequences[i]->tokens() == company.expected[i]);
        }
}

// Some of them stay away, are cancelled or fail; prompts come in chunks meanwhile.
TEST_CASE("engine: threads that come back, and threads that do not") {
    Company company(8);
    const auto& model = small_model();
    model::Sequence slow(model, 0, 8);
    slow.append(random_tokens(300, 96, 5));
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 8; i++)
        threads.emplace_back([&, i] {
            model::GenerateRequest request = company.requests[i].generate;
            const uint64_t total = request.max_tokens;
            if (!request.settings.penalizes()) request.max_tokens = 1;
            for (uint64_t done = 0, n = 0; done < total; done += n) {
                company.sequences[i]->generate(request, &n);
                if (i % 4 != 1) continue;
                model::Sequence other(model, 300, 8);  // which is released while others may wait for this thread
                other.append(company.requests[i].prompt);
                model::GenerateRequest fails{.max_tokens = 3};
                fails.on_token = [&](const model::Drawn&, bool) {
                    if (i == 1) throw std::runtime_error("its own");
                    other.cancel();
                    return model::StopReason::None;
                };
                uint64_t before = 0;
                CHECK_THROWS(other.generate(fails, &before));
            }
        });
    slow.process();
    for (std::thread& thread : threads) thread.join();
    company.check();
    check_same(*model, logits_of(slow), fresh_logits(model, slow.tokens()));
}

// It comes amid the long one's 64 chunks: a third sequence's callback brings it.
TEST_CASE("engine: a short prompt does not wait for a long one") {
    constexpr uint32_t kChunk = 64, kLong = 64 * kChunk;
    const auto& model = small_model();
    model::Sequence slow(model, 0, kChunk), quick(model, 0, kChunk), third(model, 0, kChunk);
    slow.append(random_tokens(kLong, 96, 5));
    quick.append(random_tokens(10, 96, 6));
    third.append(random_tokens(10, 96, 7));
    const auto computed = [&] { return slow.stats().prompt_tokens_computed; };
    uint64_t before = 0, after = 0;
    model::GenerateRequest one{.max_tokens = 1}, some{.max_tokens = 12};
    some.on_token = [&](const model::Drawn&, bool) {
        if (third.tokens().size() != 10 + 8) return model::StopReason::None;
        uint64_t n = 0;
        before = computed();
        quick.generate(one, &n);
        after = computed();
        return model::StopReason::None;
    };
    model::Generation all[] = {{&slow, &one}, {&third, &some}};
    generate_together(all);
    for (const model::Generation& g : all) CHECK(!g.error);
    CHECK(quick.tokens().size() == 11);
    CHECK(before > 0);
    CHECK(after < kLong);
    CHECK(after - before <= 3 * kChunk);
    MESSAGE("the long prompt had " << before << " tokens computed before, and " << after << " after");
    check_same(*model, logits_of(quick), fresh_logits(model, quick.tokens()));
}

TEST_CASE("engine: a sequence that fails, stops or is cancelled leaves the others alone") {
    Company company(6);
    company.sequences[1]->truncate(0);  // nothing to answer
    company.requests[2].generate.on_token = [&](const model::Drawn&, bool) -> model::StopReason {
        throw std::runtime_error("the callback's own");
    };
    company.requests[3].generate.on_token = [&](const model::Drawn&, bool) {
        company.sequences[4]->cancel();
        return model::StopReason::Callback;
    };
    std::vector<model::Generation> all = company.generations();
    generate_together(all);
    const auto status_of = [&](const model::Generation& g) {
        try {
            if (g.error) throw Error(*g.error);
        } catch (const Error& e) {
            return e.status();
        } catch (const std::runtime_error&) {
            return Status::InternalError;
        }
        return Status::Success;
    };
    CHECK(status_of(all[0]) == Status::Success);
    CHECK(status_of(all[1]) == Status::InvalidState);
    CHECK(status_of(all[2]) == Status::InternalError);
    CHECK(all[2].n_tokens == 1);
    CHECK(status_of(all[3]) == Status::Success);
    CHECK(all[3].reason == model::StopReason::Callback);
    CHECK(status_of(all[4]) == Status::Cancelled);
    CHECK(all[5].n_tokens == all[5].request->max_tokens);
    if (exact(*small_model()))
        for (const size_t i : {0, 5}) CHECK(company.sequences[i]->tokens() == company.expected[i]);
    // and they go on
    for (const size_t i : {2, 3, 4})
        check_same(*small_model(), logits_of(*company.sequences[i]),
                   fresh_logits(small_model(), company.sequences[i]->tokens()));
}

TEST_CASE("engine: whoever cancels a call twice cancels no call after it") {
    const auto& model = small_model();
    model::Sequence cancelled(model, 0, 0), other(model, 0, 0);
    cancelled.append(random_tokens(5, 96, 7));
    other.append(random_tokens(5, 96, 8));
    model::GenerateRequest many{.max_tokens = 200}, few{.max_tokens = 30};
    few.on_token = [&](const model::Drawn&, bool) {
        // the first takes effect before the second, while the call runs on for the other one
        if (const size_t n = other.tokens().size(); n == 7 || n == 30) cancelled.cancel();
        return model::StopReason::None;
    };
    model::Generation both[] = {{&cancelled, &many}, {&other, &few}};
    generate_together(both);
    REQUIRE(both[0].error);
    CHECK(both[0].error->status() == Status::Cancelled);
    CHECK(!both[1].error);
    uint64_t n = 0;
    CHECK_NOTHROW(cancelled.generate(few, &n));
    CHECK(n == 30);
    cancelled.cancel();  // a later one does
    CHECK_THROWS_WITH_AS(cancelled.process(), "cancelled", Error);
}

TEST_CASE("engine: forks of one prompt decode together and share its pages") {
    const auto& model = small_model();
    const auto prompt = random_tokens(600, 96, 9);
    model::Sequence first(model, 0, 64);
    first.append(prompt);
    first.process();
    std::vector<std::unique_ptr<model::Sequence>> forks;
    std::vector<model::GenerateRequest> requests(5);
    std::vector<model::Generation> all;
    for (size_t i = 0; i < requests.size(); i++) {
        forks.push_back(std::make_unique<model::Sequence>(first));
        requests[i].max_tokens = 8;
        requests[i].settings.seed = i;
        all.push_back({forks[i].get(), &requests[i]});
    }
    generate_together(all);
    for (size_t i = 0; i < requests.size(); i++) {
        CHECK(!all[i].error);
        model::Sequence fresh(model, 0, 64);
        fresh.append(prompt);
        uint64_t n = 0;
        fresh.generate(requests[i], &n);
        if (exact(*model)) CHECK(forks[i]->tokens() == fresh.tokens());
    }
}

TEST_CASE("engine: an empty sequence takes no device memory; a thousand of them work") {
    const auto& model = small_model();
    model::Sequence first(model, 0, 0);
    const uint64_t before = model->device.allocated();
    std::vector<std::unique_ptr<model::Sequence>> many;
    for (uint32_t i = 0; i < 1000; i++) many.push_back(std::make_unique<model::Sequence>(model, 100, 16));
    CHECK(model->device.allocated() == before);
    static int allocations;
    static PFN_vkAllocateMemory allocate;
    auto& vk = const_cast<VolkDeviceTable&>(model->device.vk);
    allocations = 0;
    allocate = std::exchange(vk.vkAllocateMemory, [](VkDevice device, const VkMemoryAllocateInfo* info,
                                                     const VkAllocationCallbacks* callbacks, VkDeviceMemory* memory) {
        allocations++;
        return allocate(device, info, callbacks, memory);
    });
    std::vector<model::GenerateRequest> requests(1000);
    std::vector<model::Generation> all;
    for (uint32_t i = 0; i < 1000; i++) {
        many[i]->append(random_tokens(3, 96, i));
        requests[i].max_tokens = 2;
        requests[i].settings.temperature = 0;
        all.push_back({many[i].get(), &requests[i]});
    }
    generate_together(all);
    vk.vkAllocateMemory = allocate;
    CHECK(allocations < 1000);  // a driver may stop at 4,096
    for (const uint32_t i : {0u, 499u, 999u}) {
        CHECK(!all[i].error);
        model::Sequence solo(model, 100, 16);
        solo.append(random_tokens(3, 96, i));
        uint64_t n = 0;
        solo.generate(requests[i], &n);
        if (exact(*model)) CHECK(many[i]->tokens() == solo.tokens());
    }
    many.clear();
    all.clear();
    CHECK(model->device.allocated() <= before + (1 << 20));  // steps of more rows may have made the workspace grow
}
