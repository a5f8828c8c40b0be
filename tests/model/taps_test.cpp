// Taps against golden data: what a published implementation computes in float32 on the way to tiny's logits.
#include <algorithm>
#include <cmath>
#include <map>
#include <thread>

#include "forward/taps.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

// Everything that was handed over, in order.
struct Record {
    struct Item {
        model::TapKind kind;
        uint32_t layer, position, rows, columns;
        std::vector<float> values;
    };
    std::vector<Item> items;

    model::Tap tap(uint32_t kinds, uint32_t n_layers, std::vector<uint32_t> positions = {}) {
        model::Tap tap{.kinds = kinds, .layers = std::vector<bool>(n_layers, true), .positions = std::move(positions)};
        tap.on_tapped = [this](const model::Tapped& t) {
            items.push_back({t.kind, t.layer, t.position, t.rows, t.columns, {t.values.begin(), t.values.end()}});
        };
        return tap;
    }
    std::vector<uint32_t> positions(model::TapKind kind) const {
        std::vector<uint32_t> all;
        for (const Item& item : items)
            if (item.kind == kind && item.layer == 0) all.push_back(item.position);
        return all;
    }
    const Item* find(model::TapKind kind, uint32_t layer, uint32_t position) const {
        for (const Item& item : items)
            if (item.kind == kind && item.layer == layer && item.position == position) return &item;
        return nullptr;
    }
};

constexpr double kTolerance = 1e-4;

// tests/golden/taps, of tiny's prompt: the rows that are kept of it.
struct GoldenTaps {
    const std::vector<uint32_t> tokens = read_array<uint32_t>(golden("tiny/tokens.u32"));
    const std::vector<uint32_t> positions = read_array<uint32_t>(golden("taps/positions.u32"));
    const std::vector<uint32_t> attention_positions = read_array<uint32_t>(golden("taps/attention_positions.u32"));
    const std::vector<float> hidden = read_array<float>(golden("taps/hidden.f32"));
    const std::vector<float> final = read_array<float>(golden("taps/final.f32"));
    const std::vector<float> router = read_array<float>(golden("taps/router.f32"));
    const std::vector<float> attention = read_array<float>(golden("taps/attention.f32"));
    static constexpr uint32_t kLayers = 4, kHidden = 96, kExperts = 8, kActive = 4, kHeads = 8, kWindow = 128;

    std::vector<uint32_t> all_positions() const {
        std::vector<uint32_t> all = positions;
        all.insert(all.end(), attention_positions.begin(), attention_positions.end());
        std::sort(all.begin(), all.end());
        all.erase(std::unique(all.begin(), all.end()), all.end());
        return all;
    }

    // Checks what is recorded of the positions from `first` to before `end`.
    void check(const Record& record, uint32_t first, uint32_t end) const {
        std::map<std::string, std::pair<double, double>> worst;  // the largest difference, and the largest value
        const auto compare = [&](const char* what, std::span<const float> got, std::span<const float> expected) {
            REQUIRE(got.size() == expected.size());
            auto& [difference, largest] = worst[what];
            for (size_t i = 0; i < got.size(); i++) {
                difference = std::max(difference, std::isfinite(got[i]) ? std::abs(double(got[i]) - expected[i]) : 1e9);
                largest = std::max(largest, std::abs(double(expected[i])));
            }
        };
        const auto item = [&](model::TapKind kind, uint32_t layer, uint32_t position) -> const std::vector<float>& {
            const Record::Item* found = record.find(kind, layer, position);
            CAPTURE(int(kind));
            CAPTURE(layer);
            CAPTURE(position);
            REQUIRE(found);
            CHECK(found->values.size() == size_t{found->rows} * found->columns);
            return found->values;
        };
        const size_t n = positions.size();
        uint32_t compared = 0;
        for (size_t p = 0; p < n; p++) {
            const uint32_t position = positions[p];
            if (position < first || position >= end) continue;
            compared++;
            const auto row = [&](const std::vector<float>& all, size_t layer, size_t width) {
                return std::span(all).subspan((layer * n + p) * width, width);
            };
            compare("embedding", item(model::kTapEmbedding, 0, position), row(hidden, 0, kHidden));
            compare("final", item(model::kTapFinal, kLayers, position), row(final, 0, kHidden));
            for (uint32_t layer = 0; layer < kLayers; layer++) {
                compare("hidden", item(model::kTapHidden, layer, position), row(hidden, layer + 1, kHidden));
                const auto logits = row(router, layer, kExperts);
                compare("router", item(model::kTapRouter, layer, position), logits);
                std::vector<uint32_t> order(kExperts);
                for (uint32_t e = 0; e < kExperts; e++) order[e] = e;
                std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
                const auto& chosen = item(model::kTapExperts, layer, position);
                double sum = 0;
                for (uint32_t j = 0; j < kActive; j++) sum += std::exp(double(logits[order[j]]) - logits[order[0]]);
                for (uint32_t j = 0; j < kActive; j++) {
                    CHECK(chosen[j] == float(order[j]));
                    const auto weight = float(std::exp(double(logits[order[j]]) - logits[order[0]]) / sum);
                    compare("weights", std::span(chosen).subspan(kActive + j, 1), {&weight, 1});
                }
            }
        }
        const size_t length = tokens.size();
        for (size_t p = 0; p < attention_positions.size(); p++) {
            const uint32_t position = attention_positions[p];
            if (position < first || position >= end) continue;
            compared++;
            for (uint32_t layer = 0; layer < kLayers; layer++) {
                const auto& got = item(model::kTapAttention, layer, position);
                const uint32_t keys = layer % 2 ? position + 1 : std::min(position + 1, kWindow);
                REQUIRE(got.size() == kHeads * keys);
                for (uint32_t head = 0; head < kHeads; head++)
                    compare("attention", std::span(got).subspan(head * keys, keys),
                            std::span(attention).subspan(
                                ((p * kLayers + layer) * kHeads + head) * length + position + 1 - keys, keys));
            }
        }
        REQUIRE(compared > 0);
        for (const auto& [what, of] : worst) {
            MESSAGE(what << ": at most " << of.first / of.second << " of the largest, of " << compared << " rows");
            CHECK_MESSAGE(of.first <= kTolerance * of.second, what);
        }
    }
};

std::shared_ptr<const model::Model> tiny_f32() {
    model::ModelOptions options;
    options.kv_f16 = false;
    return load(golden("tiny"), options);
}

// A step that draws the token which follows in the prompt, whatever the model says.
model::GenerateRequest forced(uint32_t token, uint64_t n = 1) {
    model::GenerateRequest request{.max_tokens = n};
    request.settings.temperature = 0;
    request.bias = {{token, 1e6f}};
    return request;
}

}  // namespace

TEST_CASE("taps: tiny's prompt in batches has the golden insides") {
    const GoldenTaps g;
    for (const uint32_t max_batch : {64u, 300u, 1u}) {
        CAPTURE(max_batch);
        Record record;
        model::Sequence context(tiny_f32(), 0, max_batch);
        context.set_tap(record.tap(model::kTapKinds, g.kLayers, g.all_positions()));
        context.append(g.tokens);
        context.process();
        g.check(record, 0, 300);
        CHECK(record.positions(model::kTapHidden) == g.all_positions());
    }
}

TEST_CASE("taps: decode steps have the golden insides, alone and one of several") {
    const GoldenTaps g;
    const auto model = tiny_f32();
    for (const bool alone : {true, false}) {
        CAPTURE(alone);
        Record record, other_record;
        model::Sequence context(model, 0, 64), other(model, 0, 64), tapped(model, 0, 64);
        context.append(std::span(g.tokens).first(261));
        other.append(std::span(g.tokens).first(100));
        tapped.append(std::span(g.tokens).subspan(5, 60));
        context.set_tap(record.tap(model::kTapKinds, g.kLayers, g.all_positions()));
        model::Tap attention = other_record.tap(model::kTapAttention, g.kLayers);
        attention.first_position = 60;
        tapped.set_tap(attention);
        for (uint32_t i = 260; i < 299; i++) {
            const model::GenerateRequest request = forced(g.tokens[i + 1]), free{.max_tokens = 1};
            std::vector<model::Generation> all;
            if (!alone) all.push_back({&other, &free});
            all.push_back({&context, &request});
            if (!alone) all.push_back({&tapped, &free});
            generate_together(all);
            for (const auto& each : all) REQUIRE(!each.error);
        }
        REQUIRE(context.tokens() == g.tokens);
        CHECK(context.stats().decode_steps >= 38);
        context.process();
        g.check(record, 0, 300);
        if (!alone) {
            // every position once, and a softmax whose sink has the rest
            std::vector<uint32_t> positions(38);
            for (uint32_t i = 0; i < 38; i++) positions[i] = 60 + i;
            CHECK(other_record.positions(model::kTapAttention) == positions);
            for (const auto& item : other_record.items)
                for (uint32_t head = 0; head < item.rows; head++) {
                    double sum = 0;
                    for (uint32_t k = 0; k < item.columns; k++) sum += item.values[head * item.columns + k];
                    CHECK(sum > 0);
                    CHECK(sum < 1 + 1e-5);
                }
        }
    }
}

TEST_CASE("taps: off, a step is the one that it was; on, it draws the same tokens") {
    const auto tokens = read_array<uint32_t>(golden("tiny/tokens.u32"));
    const auto model = load(golden("tiny"));
    const auto run = [&](model::Sequence& context) {
        context.truncate(0);
        context.append(std::span(tokens).first(50));
        uint64_t n = 0;
        context.generate({.settings = {.seed = 3}, .max_tokens = 20}, &n);
        std::vector<uint32_t> drawn(context.tokens().begin() + 50, context.tokens().end());
        return std::pair(drawn, logits_of(context));
    };
    model::Sequence context(model, 0, 64), never(model, 0, 64);
    const auto expected = run(never);
    const uint32_t dispatches = never.stats().step_dispatches, barriers = never.stats().step_barriers;
    // embed, lm_head and the draw's two; a layer's qkv, attention, out, router, gate_up, down, and in full layers the
    // splits' combination. There is no other.
    const uint32_t combined = model->tuning.attention_splits > 1 ? 2 : 0;
    CHECK(dispatches == 4 + 4 * 6 + combined);

    Record record;
    struct Case {
        uint32_t kinds, more;
    };
    for (const Case c : {Case{model::kTapHidden | model::kTapFinal | model::kTapEmbedding, 0},
                         Case{model::kTapRouter | model::kTapExperts, 0}, Case{model::kTapAttention, 4}}) {
        context.set_tap(record.tap(c.kinds, 4));
        CHECK(run(context) == expected);
        CHECK(context.stats().step_dispatches == dispatches + c.more);  // all but attention is copied
        CHECK(context.stats().step_barriers == barriers);
        CHECK(record.items.size() > 0);
    }
    context.set_tap(record.tap(model::kTapKinds, 4, {10, 40}));
    CHECK(run(context) == expected);
    CHECK(context.stats().step_dispatches == dispatches);  // no decoded token is wanted
    context.set_tap(std::nullopt);
    record.items.clear();
    const Counter counter(*model);
    CHECK(run(never) == expected);
    const int submits = Counter::submits;
    CHECK(run(context) == expected);
    CHECK(Counter::submits == 2 * submits);
    CHECK(submits < 30);  // one a token and a few for the prompt; a step that is recorded for its tokens takes two
    CHECK(record.items.empty());
    CHECK(context.stats().step_dispatches == dispatches);
    CHECK(context.stats().step_barriers == barriers);
    CHECK(Counter::pipelines == 0);
}

TEST_CASE("taps: what was computed before is computed again for a tap, once") {
    const auto tokens = read_array<uint32_t>(golden("tiny/tokens.u32"));
    const auto& model = caching_model();
    const auto n_layers = model->config.n_layers;
    const std::vector<uint32_t> prompt = random_tokens(200, model->config.vocab, 5);
    model::Sequence first(model, 0, 64), context(model, 0, 64);
    first.append(prompt);
    first.process();
    Record record;
    context.append(prompt);
    context.process();
    const std::vector<float> logits = logits_of(context);
    model::Tap tap = record.tap(model::kTapFinal, n_layers);
    tap.first_position = 150;
    context.set_tap(tap);
    CHECK(logits_of(context) == logits);
    CHECK(record.items.size() == 50);
    CHECK(record.items.front().position == 150);
    context.process();
    CHECK(record.items.size() == 50);
    // what is cut off and comes again is handed over again
    context.truncate(190);
    context.append(std::span(prompt).subspan(190));
    CHECK(logits_of(context) == logits);
    CHECK(record.items.size() == 60);
    // a fork has no tap
    model::Sequence fork(context);
    fork.append(prompt);
    fork.process();
    CHECK(record.items.size() == 60);
}

TEST_CASE("taps: a tap that throws ends its call alone, and the tokens come again") {
    const auto& model = small_model();
    const std::vector<uint32_t> prompt = random_tokens(100, model->config.vocab, 6);
    model::Sequence context(model, 0, 16), other(model, 0, 16);
    std::vector<uint32_t> positions;
    model::Tap tap{.kinds = model::kTapFinal, .layers = std::vector<bool>(model->config.n_layers, true)};
    uint32_t fail_at = 40;
    tap.on_tapped = [&](const model::Tapped& t) {
        if (t.position == fail_at) throw Error(Status::Cancelled, "the tap had enough");
        positions.push_back(t.position);
    };
    context.set_tap(tap);
    context.append(prompt);
    other.append(prompt);
    const model::GenerateRequest request{.max_tokens = 4};
    std::vector<model::Generation> all = {{&context, &request}, {&other, &request}};
    generate_together(all);
    REQUIRE(all[0].error);
    CHECK(all[0].error->status() == Status::Cancelled);
    CHECK(!all[1].error);
    CHECK(other.tokens().size() == 104);
    CHECK(positions.size() == 40);
    fail_at = UINT32_MAX;
    context.process();
    std::vector<uint32_t> expected(100);
    for (uint32_t i = 0; i < 100; i++) expected[i] = i;
    CHECK(positions == expected);
}

TEST_CASE("taps: where there is no memory for what is tapped, the context that wants it fails alone") {
    const auto& model = small_model();
    const std::vector<uint32_t> prompt = random_tokens(40, model->config.vocab, 8);
    for (const uint32_t first : {10u, 41u}) {  // of the prompt, and of a decode step
        CAPTURE(first);
        Record record;
        model::Sequence context(model, 0, 64), other(model, 0, 64);
        context.append(prompt);
        other.append(prompt);
        const model::GenerateRequest request{.max_tokens = 6};
        std::vector<model::Generation> all = {{&context, &request}, {&other, &request}};
        generate_together(all);  // all other memory is there from now on
        const std::vector<uint32_t> expected = context.tokens();
        for (model::Sequence* each : {&context, &other}) each->truncate(40);
        model::Tap tap = record.tap(model::kTapKinds, model->config.n_layers);
        tap.first_position = first;
        context.set_tap(tap);
        {
            static VolkDeviceTable real;
            static int failed;
            real = model->device.vk;
            failed = 0;
            model->device.vk.vkCreateBuffer = [](VkDevice, const VkBufferCreateInfo*, const VkAllocationCallbacks*,
                                                 VkBuffer*) {
                failed++;
                return VK_ERROR_OUT_OF_DEVICE_MEMORY;
            };
            generate_together(all);
            model->device.vk = real;
            CHECK(failed > 0);
        }
        REQUIRE(all[0].error);
        CHECK(all[0].error->status() == Status::InsufficientMemory);
        CHECK(!all[1].error);
        CHECK(other.tokens() == expected);
        CHECK(record.items.empty());
        // and goes on once there is some
        uint64_t n = 0;
        context.generate({.max_tokens = 46 - context.tokens().size()}, &n);
        CHECK(context.tokens() == expected);
        CHECK(record.positions(model::kTapHidden).front() == first);
    }
}

TEST_CASE("taps: of contexts on several threads, each on its own thread and in order") {
    const auto& model = small_model();
    std::vector<std::thread> threads;
    std::vector<int> wrong(4);
    for (uint32_t t = 0; t < 4; t++)
        threads.emplace_back([&, t] {
            model::Sequence context(model, 0, 16);
            const auto self = std::this_thread::get_id();
            uint32_t next = 0;
            model::Tap tap{.kinds = model::kTapFinal | model::kTapAttention,
                           .layers = std::vector<bool>(model->config.n_layers, true)};
            tap.on_tapped = [&](const model::Tapped& tapped) {
                wrong[t] += std::this_thread::get_id() != self;
                if (tapped.kind == model::kTapFinal) wrong[t] += tapped.position != next++;
            };
            if (t % 2) context.set_tap(tap);
            context.append(random_tokens(50 + t, model->config.vocab, t));
            uint64_t n = 0;
            context.generate({.max_tokens = 20}, &n);
            wrong[t] += n != 20;
            if (t % 2) wrong[t] += next != 50 + t + 19;
        });
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == std::vector<int>(4));
}
