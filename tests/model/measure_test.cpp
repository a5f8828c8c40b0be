// Shapes of kernels chosen by measurement.
#include "tuning/autotune.h"

#include <algorithm>
#include <cstdlib>

#include "support.h"

using namespace gptoss;
using namespace gptoss::test;
using model::Tuning;

namespace {

struct Case {
    const SyntheticCheckpoint synthetic{Shape{}, 80};
    const io::Checkpoint checkpoint{synthetic.path()};
    const model::KernelNeeds needs{checkpoint, UINT32_MAX, true};

    std::shared_ptr<vk::Gpu> gpu(const std::string& cache = "") const {
        return std::make_shared<vk::Gpu>(vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE")), cache);
    }
};

}  // namespace

TEST_CASE("measured tuning: only what is clearly faster replaces the default") {
    const Case c;
    const auto gpu = c.gpu();
    const Tuning given{.decode_splits = 4, .batch_splits = 2};
    const auto with = [&](double other) {
        return model::measured_tuning(*gpu, c.needs, given, [&](const Tuning& t, bool batch) {
            return batch ? (t.batch_splits == 4 ? other : 100) : (t.decode_splits == 2 ? other : 100);
        });
    };
    CHECK(with(96) == given);
    CHECK(with(200) == given);
    CHECK(with(90) == Tuning{.decode_splits = 2, .batch_splits = 4});
    // a clock that says nothing changes nothing
    CHECK(model::measured_tuning(*gpu, c.needs, given, [](const Tuning&, bool) { return 0.0; }) == given);
}

TEST_CASE("measured tuning: every shape that is tried keeps the device's limits") {
    const Case c;
    const auto gpu = c.gpu();
    for (const uint32_t lanes : {32u, 64u}) {
        int tried = 0;
        model::measured_tuning(*gpu, c.needs, Tuning{.lanes = lanes}, [&](const Tuning& t, bool batch) {
            tried++;
            const uint32_t splits = batch ? t.batch_splits : t.decode_splits, tokens = batch ? t.batch_tokens : 1;
            CHECK(lanes * splits <= gpu->device.info().max_workgroup);
            // what weights.glsl and residual.glsl share
            CHECK(splits * 64 * tokens * 4 + lanes * splits / 4 * tokens * 4 <= 16384);
            return 1.0;
        });
        CHECK(tried >= 5);
    }
}

TEST_CASE("measured tuning: on the device, once") {
    const Case c;
    const std::string cache = c.synthetic.path() + "/cache";
    const Tuning given{.decode_splits = 2, .batch_splits = 2};
    const auto gpu = c.gpu(cache);
    if (gpu->device.info().timestamp_period == 0) return;
    const model::Stopwatch stopwatch = device_stopwatch(gpu, c.needs);
    int runs = 0;
    const auto counted = [&](const Tuning& t, bool batch) {
        runs++;
        const double time = stopwatch(t, batch);
        CHECK(time > 0);
        return time;
    };
    const Tuning first = model::measured_tuning(*gpu, c.needs, given, counted);
    CHECK(runs >= 6);
    const int before = runs;
    CHECK(model::measured_tuning(*gpu, c.needs, given, counted) == first);
    CHECK(runs == before);
}

TEST_CASE("tuning: what attention shares fits into 16 kB, for any number of queries a key") {
    vk::DeviceInfo device = vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE"));
    device.type = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
    device.shared_memory = 16384;
    device.max_workgroup = 128;
    for (const uint32_t subgroup : {4u, 8u, 16u, 32u, 64u, 128u})
        for (const uint32_t group : {1u, 4u, 8u, 16u, 32u, 64u}) {
            device.subgroup_size = subgroup;
            for (const Tuning& t : model::tuning_candidates(device, group, model::Tier::Default)) {
                const uint32_t block = t.attention_workgroup * t.attention_keys;
                CHECK(std::max(block * group * 4, t.attention_workgroup * 32) + t.attention_workgroup * group <= 16384);
                CHECK(t.attention_workgroup % 32 == 0);
                CHECK(model::kSegmentSlots % block == 0);
                CHECK(std::max({t.attention_workgroup, t.lanes * t.decode_splits, t.lanes * t.batch_splits}) <= 128);
            }
        }
}
