#include "support.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

#include "at_end.h"
#include "engine/engine.h"

namespace gptoss::test {

std::string golden(const std::string& name) { return GPTOSS_SOURCE_DIR "/tests/golden/" + name; }

void keep_instance() { static const auto devices = vk::enumerate_devices(false); }

std::shared_ptr<const model::Model> load(const std::string& path, model::ModelOptions options) {
    if (!options.device) options.device = std::getenv("GPTOSS_TEST_DEVICE");
    if (options.prefix_bytes == 0) options.prefix_bytes = 1;
    return model::open_model(io::Checkpoint(path), options);
}

const std::shared_ptr<const model::Model>& small_model() {
    static std::shared_ptr<const model::Model> model;
    if (!model) {
        model = load(SyntheticCheckpoint(Shape{}, 1).path());
        at_end().push_back([] { model.reset(); });
    }
    return model;
}

const std::shared_ptr<const model::Model>& caching_model() {
    static std::shared_ptr<const model::Model> model;
    if (!model) {
        model = load(SyntheticCheckpoint(Shape{}, 1).path(), {.prefix_bytes = 1 << 30});
        at_end().push_back([] { model.reset(); });
    }
    while (model->engine->prefixes().evict()) {
    }
    return model;
}

std::vector<uint32_t> random_tokens(uint32_t count, uint32_t vocab, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::uniform_int_distribution<uint32_t> token(0, vocab - 1);
    std::vector<uint32_t> tokens(count);
    for (uint32_t& t : tokens) t = token(random);
    return tokens;
}

std::vector<float> logits_of(model::Sequence& context) {
    std::vector<float> logits(context.model().config.vocab);
    context.read_logits(logits);
    return logits;
}

std::vector<float> fresh_logits(const std::shared_ptr<const model::Model>& model, std::span<const uint32_t> tokens,
                                uint64_t max_batch) {
    model::Sequence context(model, 0, max_batch);
    context.append(tokens);
    return logits_of(context);
}

std::vector<float> logits_at(model::Sequence& context, std::span<const uint32_t> tokens,
                             std::span<const uint32_t> positions) {
    std::vector<float> all;
    for (const uint32_t p : positions) {
        const size_t have = context.tokens().size();
        context.append(tokens.subspan(have, p + 1 - have));
        const std::vector<float> logits = logits_of(context);
        all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
}

uint32_t argmax(std::span<const float> logits) {
    return static_cast<uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double relative_l2(std::span<const float> got, std::span<const float> expected) {
    REQUIRE(got.size() == expected.size());
    double difference = 0, norm = 0;
    for (size_t i = 0; i < got.size(); i++) {
        const double d = double{got[i]} - expected[i];
        difference += d * d;
        norm += double{expected[i]} * expected[i];
    }
    const double error = std::sqrt(difference / norm);
    return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

bool exact(const model::Model& model) { return model.device.info().type == VK_PHYSICAL_DEVICE_TYPE_CPU; }

void check_same(const model::Model& model, std::span<const float> got, std::span<const float> expected) {
    REQUIRE(got.size() == expected.size());
    const double error = relative_l2(got, expected);
    CAPTURE(error);
    if (exact(model))
        CHECK(std::memcmp(got.data(), expected.data(), got.size_bytes()) == 0);
    else
        CHECK(error < 1e-3);
}

}  // namespace gptoss::test
