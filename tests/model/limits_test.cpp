// Devices with the least limits that there are: the library keeps to them, and its results stay those of the golden
// data.
#include "limits.h"

#include <cstdlib>

#include "base/error.h"
#include "reference.h"
#include "spirv.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

// As in golden_test.cpp: float32 rounding over a few layers comes to 1e-5.
constexpr double kTolerance = 1e-4;

void check_kept(const SimulatedLimits& simulated) {
    for (const std::string& violation : simulated.violations()) FAIL_CHECK(violation);
    CHECK(simulated.pipelines() > 10);
    CHECK(simulated.dispatches() > 50);
}

void check_golden(const std::string& name, const Limits& limits, model::Tier tier = model::Tier::Default) {
    CAPTURE(name);
    const auto tokens = read_array<uint32_t>(golden(name + "/tokens.u32")),
               positions = read_array<uint32_t>(golden(name + "/positions.u32"));
    load(golden(name));  // the loader is there
    const SimulatedLimits simulated(limits);
    model::ModelOptions options;
    options.kv_f16 = false;
    options.tier = tier;
    const auto model = load(golden(name), options);
    CHECK(model->device.info().subgroup_size == limits.subgroup_size);
    CHECK(model->device.info().max_workgroup == limits.max_workgroup);
    CHECK(model->device.info().max_allocation < limits.max_allocation);
    model::Sequence context(model, 0, 64);
    const double error =
        relative_l2(logits_at(context, tokens, positions), read_array<float>(golden(name + "/logits.f32")));
    MESSAGE(name << ", subgroups of " << limits.subgroup_size << ": relative L2 error " << error);
    CHECK(error <= kTolerance);
    model::GenerateRequest request{.max_tokens = 5};
    request.settings = {.top_k = 20, .top_p = 0.9f, .repetition = 1.1f};
    uint64_t n = 0;
    context.generate(request, &n);
    CHECK(n == 5);
    check_kept(simulated);
}

}  // namespace

TEST_CASE("limits: the watch sees what a kernel takes") {
    // workgroup, lanes, tokens, weight, active, grouped: two rows of eight tokens for each of 128
    const ShaderNeeds gate_up = needs_of(spirv("moe_gate_up"), std::vector<uint32_t>{128, 32, 8, WEIGHT_MXFP4, 4, 1});
    CHECK(gate_up.workgroup[0] == 128);
    CHECK(gate_up.shared_memory == 128 * 2 * 8 * 4 + 8 * 4);  // and the norm of each token
    // a workgroup that needs to share no sums
    CHECK(needs_of(spirv("moe_gate_up"), std::vector<uint32_t>{32, 32, 8, WEIGHT_MXFP4, 4, 1}).shared_memory ==
          4 + 8 * 4);
    // probabilities of two keys each, and what a subgroup of four found for each of eight queries
    const ShaderNeeds attention = needs_of(spirv("attn_attend"), std::vector<uint32_t>{128, 8, 1, 2});
    CHECK(attention.shared_memory == 8 * 2 * 128 * 4 + 8 * 128 / 4 * 4);
    CHECK(needs_of(spirv("moe_group"), {}).workgroup[0] == 128);
}

TEST_CASE("limits: the least of Vulkan 1.2") {
    check_golden("tiny", {});
    check_golden("many-experts", {});
}

TEST_CASE("integer: the least limits of Vulkan 1.2") {
    if (!vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE")).integer_dot) return;
    check_golden("tiny", {}, model::Tier::Integer);
}

TEST_CASE("limits: subgroups of 4 to 128, as the driver says") {
    for (const uint32_t size : {4u, 64u, 128u}) check_golden("tiny", {.subgroup_size = size});
}

TEST_CASE("limits: a processor's device") {
    check_golden("tiny", {.subgroup_size = 8, .type = VK_PHYSICAL_DEVICE_TYPE_CPU});
}

TEST_CASE("limits: matrices that are larger than an allocation may be") {
    const Shape shape{.vocab = 15001};
    const SyntheticCheckpoint synthetic(shape, 40);
    const auto tokens = random_tokens(40, shape.vocab, 40);
    const std::vector<uint32_t> positions = {0, 20, 39};
    const Expected expected = reference_logits(io::Checkpoint(synthetic.path()), tokens, positions);
    REQUIRE(expected.router_gap > 1e-5);
    model::ModelOptions options;
    options.kv_f16 = false;
    load(synthetic.path(), options);  // the self-test, which needs more at once than any device refuses, is cached then
    const SimulatedLimits simulated({.max_allocation = 600 << 10, .type = VK_PHYSICAL_DEVICE_TYPE_CPU});
    const auto model = load(synthetic.path(), options);
    CHECK(model->weights.lm_head.parts.size() == 4);  // of 1.9 MB
    CHECK(model->weights.embedding.parts.size() == 4);
    model::Sequence context(model, 64, 16);
    CHECK(relative_l2(logits_at(context, tokens, positions), expected.logits) <= kTolerance);
    check_kept(simulated);
    // what cannot be parted is refused by name
    check_refused(Status::InsufficientResources, "bytes", [&] { model::Sequence(model, 4096, 4096); });
}

TEST_CASE("limits: more tokens at once than a dispatch has workgroups") {
    const auto& model = small_model();
    CHECK_THROWS_AS(model::Sequence(model, 4096, 4097), Error);
    const SyntheticCheckpoint synthetic({.max_context = 200000}, 42);
    const auto larger = load(synthetic.path());
    check_refused(Status::InvalidArgument, "max_batch_tokens is 70000", [&] { model::Sequence(larger, 0, 70000); });
}

namespace {

// While it lives, devices say what `change` makes of what they say.
class ChangedProperties {
  public:
    explicit ChangedProperties(void (*change)(VkBaseOutStructure*)) {
        keep_instance();
        real = vkGetPhysicalDeviceProperties2;
        changed = change;
        vkGetPhysicalDeviceProperties2 = [](VkPhysicalDevice device, VkPhysicalDeviceProperties2* out) {
            real(device, out);
            for (auto* next = static_cast<VkBaseOutStructure*>(out->pNext); next; next = next->pNext) changed(next);
        };
    }
    ~ChangedProperties() { vkGetPhysicalDeviceProperties2 = real; }

  private:
    static inline PFN_vkGetPhysicalDeviceProperties2 real;
    static inline void (*changed)(VkBaseOutStructure*);
};

}  // namespace

TEST_CASE("limits: a device whose subgroups have no ballots is refused") {
    const ChangedProperties without([](VkBaseOutStructure* next) {
        if (next->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES) return;
        auto& operations = reinterpret_cast<VkPhysicalDeviceVulkan11Properties*>(next)->subgroupSupportedOperations;
        operations &= ~static_cast<VkSubgroupFeatureFlags>(VK_SUBGROUP_FEATURE_BALLOT_BIT);
    });
    for (const vk::DeviceInfo& device : vk::enumerate_devices(false)) {
        CAPTURE(device.unsupported);
        CHECK(device.unsupported.find("ballots") != std::string::npos);
    }
}

TEST_CASE("limits: no allocation is larger than a buffer may be") {
    const ChangedProperties smaller([](VkBaseOutStructure* next) {
        if (next->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES_KHR)
            reinterpret_cast<VkPhysicalDeviceMaintenance4PropertiesKHR*>(next)->maxBufferSize = 100 << 20;
    });
    for (const vk::DeviceInfo& device : vk::enumerate_devices(false)) CHECK(device.max_allocation <= 100 << 20);
}
