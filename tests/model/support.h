// What the tests of whole models share.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/open.h"
#include "engine/sequence.h"
#include "synthetic.h"

namespace gptoss::test {

// A path below tests/golden.
std::string golden(const std::string& name);

template <typename T>
std::vector<T> read_array(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    REQUIRE_MESSAGE(!bytes.empty(), path);
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
}

// Keeps the Vulkan instance until the process ends: a new one would bring its own functions, and those that a test put
// in their place would be gone.
void keep_instance();

// On the device that GPTOSS_TEST_DEVICE names, or the most capable one. Without a cache of prefixes unless the options
// have one, so that what computes a timeline anew does that.
std::shared_ptr<const model::Model> load(const std::string& path, model::ModelOptions options = {});

// A small random model of two layers with a window of 16, one for all tests, with a float16 cache.
const std::shared_ptr<const model::Model>& small_model();
// The same with a cache of prefixes, an empty one.
const std::shared_ptr<const model::Model>& caching_model();

std::vector<uint32_t> random_tokens(uint32_t count, uint32_t vocab, uint64_t seed);

// Of the token that would follow.
std::vector<float> logits_of(model::Sequence& context);
// The same in a context of its own.
std::vector<float> fresh_logits(const std::shared_ptr<const model::Model>& model, std::span<const uint32_t> tokens,
                                uint64_t max_batch = 0);
// After each of the positions, appending what is between: (positions, vocab).
std::vector<float> logits_at(model::Sequence& context, std::span<const uint32_t> tokens,
                             std::span<const uint32_t> positions);

uint32_t argmax(std::span<const float> logits);

// |got - expected| / |expected|, in float64; NaN counts as infinite.
double relative_l2(std::span<const float> got, std::span<const float> expected);

// Where every result must be the same bits: on the software device, whose kernels compute a token alike in any batch.
// Elsewhere the kernels of one token and of many sum in another order, and results may differ by rounding.
bool exact(const model::Model& model);
void check_same(const model::Model& model, std::span<const float> got, std::span<const float> expected);

// That f fails with the status, in words that name it.
template <typename F>
void check_refused(Status status, const std::string& names, F&& f) {
    try {
        f();
        FAIL_CHECK("accepted: " << names);
    } catch (const Error& e) {
        CHECK(e.status() == status);
        CHECK_MESSAGE(std::string(e.what()).find(names) != std::string::npos, e.what());
    }
}

// Counts what a model submits to its device, allocates on it and compiles for it while it lives.
class Counter {
  public:
    explicit Counter(const model::Model& model) : model_(model) {
        real = model.device.vk;
        submits = 0;
        bytes = 0;
        pipelines = 0;
        model.device.vk.vkQueueSubmit = [](VkQueue queue, uint32_t n, const VkSubmitInfo* info, VkFence fence) {
            submits++;
            return real.vkQueueSubmit(queue, n, info, fence);
        };
        model.device.vk.vkAllocateMemory = [](VkDevice device, const VkMemoryAllocateInfo* info,
                                              const VkAllocationCallbacks* callbacks, VkDeviceMemory* memory) {
            bytes += info->allocationSize;
            return real.vkAllocateMemory(device, info, callbacks, memory);
        };
        model.device.vk.vkCreateComputePipelines = [](VkDevice device, VkPipelineCache cache, uint32_t n,
                                                      const VkComputePipelineCreateInfo* infos,
                                                      const VkAllocationCallbacks* callbacks, VkPipeline* out) {
            pipelines += n;
            return real.vkCreateComputePipelines(device, cache, n, infos, callbacks, out);
        };
    }
    ~Counter() { model_.device.vk = real; }

    static inline int submits = 0;
    static inline uint64_t bytes = 0;
    static inline uint32_t pipelines = 0;

  private:
    static inline VolkDeviceTable real{};
    const model::Model& model_;
};

}  // namespace gptoss::test
