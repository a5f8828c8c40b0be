// Which experts are copied to device memory, and that the table always leads to the right bytes.
#include "weights/expert_cache.h"

#include <algorithm>
#include <random>

#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

constexpr uint64_t kBytes = 96, kGateUp = 64;  // of an expert

// A cache over experts whose bytes tell them apart.
struct Fixture {
    Fixture(uint32_t n_experts, uint32_t n_slots, const std::vector<uint32_t>& pinned = {})
        : device(small_model()->device),
          kernels(small_model()->pipelines),
          home(device, n_experts * kBytes, vk::Memory::Host, "homes"),
          slots(device, n_slots * kBytes, vk::Memory::Device, "slots"),
          table(device, n_experts * sizeof(args::Expert), vk::Memory::Device, "table"),
          uses(device, n_experts * 4, vk::Memory::Device, "uses"),
          read_back(device, std::max(table.size(), slots.size()), vk::Memory::Readback, "copy"),
          commands(device, kernels),
          counts(n_experts) {
        for (uint32_t i = 0; i < home.size() / 4; i++) home.as<uint32_t>()[i] = 1000 + i;
        model::ExpertCache::Layout layout{&table, &uses, kGateUp, kBytes};
        std::vector<args::Expert> entries;
        for (uint32_t e = 0; e < n_experts; e++) {
            layout.homes.push_back({&home, e * kBytes});
            layout.pinned.push_back(std::count(pinned.begin(), pinned.end(), e) > 0);
            entries.push_back({home.address() + e * kBytes, home.address() + e * kBytes + kGateUp});
        }
        for (uint32_t s = 0; s < n_slots; s++) layout.slots.push_back({&slots, s * kBytes});
        commands.begin();
        commands.update(table, 0, entries.data(), table.size());
        commands.finish();
        cache = std::make_unique<model::ExpertCache>(device, kernels, layout);
    }

    // Hands in one more use of each, waits until the copies are done, and checks the table and the slots.
    std::vector<uint32_t> use(const std::vector<uint32_t>& experts) {
        for (const uint32_t e : experts) counts[e]++;
        cache->hand_in(counts);
        return on_device();
    }

    // The experts whose entries lead to slots; every entry leads to the expert's bytes.
    std::vector<uint32_t> on_device() {
        const std::vector<args::Expert> entries = read<args::Expert>(table);
        const std::vector<uint32_t> copies = read<uint32_t>(slots);
        std::vector<uint32_t> found;
        for (uint32_t e = 0; e < entries.size(); e++) {
            CHECK(entries[e].down == entries[e].gate_up + kGateUp);
            if (entries[e].gate_up == home.address() + e * kBytes) continue;
            const uint64_t offset = entries[e].gate_up - slots.address();
            REQUIRE(offset % kBytes == 0);
            REQUIRE(offset < slots.size());
            CHECK(std::equal(&copies[offset / 4], &copies[offset / 4] + kBytes / 4,
                             home.as<uint32_t>() + e * kBytes / 4));
            found.push_back(e);
        }
        return found;
    }

    template <typename T>
    std::vector<T> read(const vk::Buffer& from) {
        std::vector<T> values(from.size() / sizeof(T));
        if (values.empty()) return values;
        commands.begin();
        commands.barrier();
        commands.copy(from, 0, read_back, 0, from.size());
        commands.finish();
        std::memcpy(values.data(), read_back.data(), from.size());
        return values;
    }

    const vk::Device& device;
    const vk::Pipelines& kernels;
    vk::Buffer home, slots, table, uses, read_back;
    vk::Commands commands;
    std::vector<uint32_t> counts;
    std::unique_ptr<model::ExpertCache> cache;
};

using List = std::vector<uint32_t>;

}  // namespace

TEST_CASE("expert cache: the least recently used make room") {
    Fixture f(10, 3);
    CHECK(f.on_device() == List{0, 1, 2});  // filled at first
    CHECK(f.use({5}) == List{1, 2, 5});     // never used ones go first
    CHECK(f.use({1, 2}) == List{1, 2, 5});
    CHECK(f.use({7, 7}) == List{1, 2, 7});
    CHECK(f.use({2}) == List{1, 2, 7});
    CHECK(f.use({8}) == List{2, 7, 8});
    // the most used first; what was used at the same time stays
    CHECK(f.use({2, 7, 3, 4, 4}) == List{2, 4, 7});
    CHECK(f.use({0, 1, 3, 5, 6, 6, 0, 1}) == List{0, 1, 6});
    CHECK(f.use({}) == List{0, 1, 6});
    const model::ExpertCache::Stats stats = f.cache->stats();
    CHECK(stats.experts == 10);
    CHECK(stats.on_device == 3);
    CHECK(stats.hits == 5);
    CHECK(stats.misses == 15);
}

TEST_CASE("expert cache: experts that are on the device for good") {
    Fixture f(6, 2, {0, 3});
    CHECK(f.on_device() == List{1, 2});
    CHECK(f.use({0, 3, 3, 4}) == List{2, 4});
    CHECK(f.cache->stats().hits == 3);
    CHECK(f.cache->stats().on_device == 4);
}

TEST_CASE("expert cache: without slots it only counts") {
    Fixture f(4, 0);
    CHECK(f.use({1, 1, 2}).empty());
    CHECK(f.cache->stats().misses == 3);
}

TEST_CASE("expert cache: counts go round, and come in any order") {
    Fixture f(4, 1);
    f.counts = {0xfffffff0, 0, 0, 0x7fffffff};
    f.use({});
    const std::vector<uint32_t> late = f.counts;
    f.counts = {0x7fffffef, 9, 0, 0xfffffff0};
    f.use({});
    const uint64_t before = f.cache->stats().hits + f.cache->stats().misses;
    f.cache->hand_in(late);
    CHECK(f.cache->stats().hits + f.cache->stats().misses == before);
    CHECK(f.use({1, 1, 2}) == List{1});
    CHECK(f.cache->stats().hits + f.cache->stats().misses == before + 3);
}

TEST_CASE("expert cache: at random") {
    Fixture f(100, 17);
    std::mt19937 random(1);
    for (int i = 0; i < 60; i++) {
        List used;
        for (uint32_t n = random() % 30; n > 0; n--) used.push_back(random() % 100);
        const List before = f.on_device(), after = f.use(used);
        CHECK(after.size() == 17);
        for (const uint32_t e : before)
            if (std::count(used.begin(), used.end(), e)) CHECK(std::count(after.begin(), after.end(), e) == 1);
    }
}
