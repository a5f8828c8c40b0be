// Embeddings against golden data, and against what taps tell of each text by itself.
#include <algorithm>
#include <cmath>
#include <thread>

#include "engine/embed.h"
#include "engine/engine.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

// The states after the final norm of one text, (tokens, hidden).
std::vector<float> states_of(const std::shared_ptr<const model::Model>& model, std::span<const uint32_t> text) {
    std::vector<float> states;
    model::Sequence context(model, 0, 0);
    model::Tap tap{.kinds = model::kTapFinal, .layers = std::vector<bool>(model->config.n_layers)};
    tap.on_tapped = [&](const model::Tapped& t) { states.insert(states.end(), t.values.begin(), t.values.end()); };
    context.set_tap(std::move(tap));
    context.append(text);
    context.process();
    return states;
}

double largest_difference(std::span<const float> got, std::span<const float> expected) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < got.size(); i++) {
        worst = std::max(worst, std::isfinite(got[i]) ? std::abs(double(got[i]) - expected[i]) : 1e9);
        largest = std::max(largest, std::abs(double(expected[i])));
    }
    return worst / largest;
}

}  // namespace

TEST_CASE("embeddings: tiny's are the golden final states, the last one and the mean") {
    const auto tokens = read_array<uint32_t>(golden("tiny/tokens.u32"));
    const auto positions = read_array<uint32_t>(golden("taps/positions.u32"));
    const auto final = read_array<float>(golden("taps/final.f32"));
    model::ModelOptions options;
    options.kv_f16 = false;
    const auto model = load(golden("tiny"), options);
    // texts that end where the golden states are; and the mean of the first three tokens, which are all kept
    std::vector<std::span<const uint32_t>> texts;
    for (const uint32_t position : positions) texts.push_back(std::span(tokens).first(position + 1));
    std::vector<float> got(final.size());
    embed(model, texts, model::Pooling::Last, false, got.data());
    CHECK(largest_difference(got, final) <= 1e-4);
    REQUIRE(positions[2] == 2);
    std::vector<float> mean(96), expected(96);
    for (size_t i = 0; i < 96; i++) expected[i] = (final[i] + final[96 + i] + final[192 + i]) / 3;
    embed(model, std::span(texts).subspan(2, 1), model::Pooling::Mean, false, mean.data());
    CHECK(largest_difference(mean, expected) <= 1e-4);
}

TEST_CASE("embeddings: many texts share batches, and are what each is alone") {
    const auto& model = caching_model();
    const uint32_t hidden = model->config.hidden;
    std::vector<std::vector<uint32_t>> all;
    for (uint32_t i = 0; i < 70; i++) all.push_back(random_tokens(1 + i * 7 % 23, model->config.vocab, i));
    all.push_back(random_tokens(700, model->config.vocab, 99));  // more than a batch
    all.push_back(all[5]);
    const std::vector<std::span<const uint32_t>> texts(all.begin(), all.end());
    for (const auto pooling : {model::Pooling::Last, model::Pooling::Mean}) {
        std::vector<float> raw(texts.size() * hidden), normalized(raw.size());
        int submits;
        {
            const Counter counter(*model);
            const uint64_t kept = model->engine->prefixes().bytes();
            embed(model, texts, pooling, false, raw.data());
            submits = Counter::submits;
            CHECK(model->engine->prefixes().bytes() == kept);  // texts are no prefixes of anything
        }
        MESSAGE(submits << " submits");
        CHECK(submits < 70);  // that many texts alone would take more, and each text's table is written besides
        embed(model, texts, pooling, true, normalized.data());
        for (size_t t = 0; t < texts.size(); t++) {
            const std::vector<float> states = states_of(model, texts[t]);
            const size_t n = texts[t].size();
            REQUIRE(states.size() == n * hidden);
            std::vector<float> expected(hidden);
            double squares = 0;
            for (size_t i = 0; i < hidden; i++) {
                double sum = 0;
                for (size_t p = pooling == model::Pooling::Last ? n - 1 : 0; p < n; p++) sum += states[p * hidden + i];
                expected[i] = static_cast<float>(sum / (pooling == model::Pooling::Last ? 1 : double(n)));
                squares += double(expected[i]) * expected[i];
            }
            check_same(*model, std::span(raw).subspan(t * hidden, hidden), expected);
            for (float& x : expected) x = static_cast<float>(x / std::sqrt(squares));
            CHECK(largest_difference(std::span(normalized).subspan(t * hidden, hidden), expected) < 1e-6);
        }
    }
}

TEST_CASE("embeddings: refused texts are named by their number") {
    const auto& model = small_model();
    const std::vector<uint32_t> good = random_tokens(9, model->config.vocab, 3), bad = {1, model->config.vocab}, none;
    std::vector<float> out(3 * model->config.hidden);
    const auto refused = [&](const std::vector<uint32_t>& text, const char* names) {
        const std::vector<std::span<const uint32_t>> texts = {good, text};
        check_refused(Status::InvalidArgument, names, [&] { embed(model, texts, {}, true, out.data()); });
    };
    refused(bad, "text 1: token");
    refused(none, "text 1: it has no token");
}

TEST_CASE(
    "unembedding: tiny's golden hidden states have the logits of float64 arithmetic, after the last layer the "
    "model's") {
    const auto hidden = read_array<float>(golden("taps/hidden.f32")),
               final = read_array<float>(golden("taps/final.f32"));
    const auto model = load(golden("tiny"));
    const io::Config& c = model->config;
    const size_t n = hidden.size() / c.hidden, last = n - final.size() / c.hidden;
    REQUIRE(n > 17);  // more than are computed at once
    const io::Checkpoint checkpoint(golden("tiny"));
    const auto norm = checkpoint.final_norm.read_f32(), lm_head = checkpoint.lm_head.read_f32();
    for (const size_t count : {n, size_t{1}}) {
        std::vector<float> got(count * c.vocab), expected;
        unembed(*model, std::span(hidden).last(count * c.hidden), got.data());
        for (size_t i = n - count; i < n; i++) {
            const float* x = &hidden[i * c.hidden];
            double squares = 0;
            for (uint32_t d = 0; d < c.hidden; d++) squares += double(x[d]) * x[d];
            const double scale = 1 / std::sqrt(squares / c.hidden + c.norm_eps);
            for (uint32_t t = 0; t < c.vocab; t++) {
                double sum = 0;
                for (uint32_t d = 0; d < c.hidden; d++) {
                    const double normed = i < last ? scale * x[d] * norm[d] : final[(i - last) * c.hidden + d];
                    sum += normed * lm_head[t * c.hidden + d];
                }
                expected.push_back(static_cast<float>(sum));
            }
        }
        CHECK(largest_difference(got, expected) <= 1e-5);
    }
}

TEST_CASE("unembedding: a tapped state after the last layer has the context's logits, beside steps of other threads") {
    const auto& model = small_model();
    const io::Config& c = model->config;
    const std::vector<uint32_t> prompt = random_tokens(40, c.vocab, 9);
    std::vector<float> state;
    model::Sequence context(model, 0, 16);
    model::Tap tap{.kinds = model::kTapHidden, .layers = std::vector<bool>(c.n_layers), .first_position = 39};
    tap.layers.back() = true;
    tap.on_tapped = [&](const model::Tapped& t) { state.assign(t.values.begin(), t.values.end()); };
    context.set_tap(tap);
    context.append(prompt);
    const std::vector<float> expected = logits_of(context);
    REQUIRE(state.size() == c.hidden);
    std::vector<double> differences(3);
    std::vector<std::thread> threads;
    for (double& difference : differences)
        threads.emplace_back([&] {
            model::Sequence other(model, 0, 16);
            other.append(prompt);
            uint64_t generated;
            other.generate({.max_tokens = 20}, &generated);
            std::vector<float> logits(c.vocab);
            for (int i = 0; i < 10; i++) {
                unembed(*model, state, logits.data());
                difference = std::max(difference, largest_difference(logits, expected));
            }
        });
    for (std::thread& thread : threads) thread.join();
    for (const double difference : differences) CHECK(difference <= 1e-5);
}

TEST_CASE("unembedding: what is kept of prompts makes room for it, and without room it fails by name") {
    const auto& model = caching_model();
    const std::vector<float> states(model->config.hidden, 1.0f);
    std::vector<float> logits(model->config.vocab);
    {
        model::Sequence context(model, 0, 64);
        context.append(random_tokens(200, model->config.vocab, 5));
        context.process();
    }
    static VolkDeviceTable real;
    static int refuse;
    real = model->device.vk;
    refuse = 1;
    model->device.vk.vkCreateBuffer = [](VkDevice device, const VkBufferCreateInfo* info,
                                         const VkAllocationCallbacks* callbacks, VkBuffer* buffer) {
        return refuse-- > 0 ? VK_ERROR_OUT_OF_DEVICE_MEMORY : real.vkCreateBuffer(device, info, callbacks, buffer);
    };
    unembed(*model, states, logits.data());
    CHECK(refuse < 0);
    refuse = 1 << 20;
    try {
        unembed(*model, states, logits.data());
        FAIL("there was no room for it");
    } catch (const Error& e) {
        CHECK(e.status() == Status::InsufficientMemory);
        CHECK(std::string(e.what()).find("states") != std::string::npos);
    }
    model->device.vk = real;
    unembed(*model, states, logits.data());
}
