#include "tuning/candidates.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/join.h"
#include "spirv.h"
#include "tuning/self_test.h"
#include "weights/tiles.h"

namespace gptoss::model {

namespace {

uint32_t stored_as(const io::Matrix& matrix, uint32_t dense) {
    return dense == UINT32_MAX ? weight_of(matrix.type) : dense;
}

// What a cached result says: the candidate's index on the first line, then as many lines: why each before it is left
// out.
std::optional<Choice> parse_choice(const std::string& text, const std::vector<Tuning>& candidates, const Log& log) {
    uint32_t index = 0;
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, index);
    if (error != std::errc() || at == end || *at != '\n' || index >= candidates.size()) return {};
    if (std::count(at, end, '\n') != index + 1 || text.back() != '\n') return {};
    for (size_t start = at + 1 - text.data(), stop; start < text.size(); start = stop + 1) {
        stop = text.find('\n', start);
        if (log) log(kLogWarning, text.substr(start, stop - start));
    }
    return Choice{candidates[index], index};
}

}  // namespace

void use_coopmat(Tuning& t, const vk::DeviceInfo& device) {
    if (device.coopmat.m == 0 || spirv("attn_qkv_coopmat").empty()) return;
    const auto too_large = [&] { return t.coopmat_subgroups * device.coopmat.subgroup > device.max_workgroup; };
    t.coopmat_subgroups = std::clamp(128 / device.coopmat.subgroup, 4u, 16u);
    while (t.coopmat_subgroups > 2 && too_large()) t.coopmat_subgroups /= 2;
    // what the largest kernel shares: blocks of weights and activations, of 80 bytes a row, and a part of the sums of
    // each subgroup; rows of two terms fill as much with half the tokens, but not with fewer than 32
    const auto shared = [&](uint32_t tokens) {
        const uint32_t results = t.coopmat_subgroups * 2 * device.coopmat.m * device.coopmat.n * 4;
        return (64 + std::max(tokens, 64u)) * 80 + results + 32 / device.coopmat.m * tokens * 4;
    };
    while (t.coopmat_tokens > 32 && shared(t.coopmat_tokens) > device.shared_memory) t.coopmat_tokens /= 2;
    while (t.coopmat_subgroups > 2 && shared(t.coopmat_tokens) > device.shared_memory) t.coopmat_subgroups /= 2;
    if (!too_large() && shared(t.coopmat_tokens) <= device.shared_memory) t.coopmat_batch = 32;
}

void use_integer(Tuning& t, const vk::DeviceInfo& device) {
    if (!device.integer_dot) return;
    t.coopmat_batch = UINT32_MAX;
    t.integer_batch = 32;
}

Tuning tuning_for_device(const vk::DeviceInfo& device, uint32_t group) {
    Tuning t;
    // what attn_attend.comp shares: a float a query and key, or a group's sums, and one a query and subgroup
    const auto shared = [&] { return t.attention_workgroup * (std::max(group * t.attention_keys * 4, 32u) + group); };
    const auto fit_attention = [&](uint32_t workgroup, uint32_t keys) {
        t.attention_workgroup = workgroup;
        t.attention_keys = keys;
        while (t.attention_keys > 1 && shared() > device.shared_memory) t.attention_keys /= 2;
        while (t.attention_workgroup > 32 && shared() > device.shared_memory) t.attention_workgroup /= 2;
    };
    if (device.type == VK_PHYSICAL_DEVICE_TYPE_CPU) {  // a workgroup is a thread's: sharing it only costs
        fit_attention(32, 4);
        t.attention_value_lanes = 8;
        t.row_tokens = 16;  // a tile's weights cost as much to unpack as ten tokens to multiply
        return t;
    }
    t.lanes = device.subgroup_size == 64 ? 64 : 32;
    if (device.few_registers) t.batch_tokens = 4, t.integer_tokens = 4;
    const uint32_t groups = std::min(device.max_workgroup, 256u) / t.lanes;
    t.decode_splits = groups;
    t.batch_splits = std::min(groups, 2u);
    fit_attention(64, 2);
    t.attention_splits = 32;
    use_coopmat(t, device);
    return t;
}

std::vector<Tuning> tuning_candidates(const vk::DeviceInfo& device, uint32_t group, Tier tier) {
    Tuning best = tuning_for_device(device, group), exact = best, plain, plainest;
    exact.coopmat_batch = UINT32_MAX;
    if (tier == Tier::Coopmat) {
        use_coopmat(best, device);
        if (!best.coopmat())
            throw Error(Status::UnsupportedArgument, "options.tier: device \"" + device.name +
                                                         "\" has no cooperative matrices that the kernels can use");
        return {best};
    }
    if (tier == Tier::Integer) {
        use_integer(best, device);
        if (!best.integer())
            throw Error(Status::UnsupportedArgument,
                        "options.tier: device \"" + device.name + "\" has no integer dot products");
        return {best};
    }
    plain.batch_tokens = best.batch_tokens;
    // one group of lanes a workgroup, so that nothing is shared between subgroups of 32; then without sharing a weight
    plainest.batch_tokens = 1;
    std::vector<Tuning> list;
    if (tier == Tier::Default && best.coopmat()) list.push_back(best);
    for (const Tuning& t : {exact, plain, plainest})
        if (list.empty() || t != list.back()) list.push_back(t);
    return list;
}

KernelNeeds::KernelNeeds(const io::Checkpoint& checkpoint, uint32_t dense, bool f16)
    : config(checkpoint.config),
      kv_f16(f16),
      embedding(stored_as(checkpoint.embedding, dense)),
      qkv(stored_as(checkpoint.layers.front().q, dense)),
      out(stored_as(checkpoint.layers.front().out, dense)),
      router(weight_of(checkpoint.layers.front().router.type)),
      lm_head(stored_as(checkpoint.lm_head, dense)) {}

std::string KernelNeeds::text() const {
    return join({config.n_heads / config.n_kv_heads, config.n_experts, config.n_active_experts, kv_f16, embedding, qkv,
                 out, router, lm_head});
}

Choice choose_tuning(const std::shared_ptr<vk::Gpu>& gpu, const KernelNeeds& needs,
                     const std::vector<Tuning>& candidates, const Log& log, const Pulse& pulse) {
    std::string key = gpu->identity + "self-test\n" + needs.text() + "\n";
    for (const Tuning& t : candidates) key += t.text() + "\n";
    if (const auto known = gpu->cache.read(key))
        if (const auto choice = parse_choice(*known, candidates, log)) return *choice;

    const auto start = std::chrono::steady_clock::now();
    const vk::DeviceInfo& device = gpu->device.info();
    const std::string name = "device \"" + device.name + "\" (" + device.driver + ")";
    if (log) log(kLogInfo, "testing " + name + ", once");
    std::string findings, last;
    for (uint32_t i = 0; i < candidates.size(); i++) {
        last = self_test(gpu, needs, candidates[i], pulse);
        if (last.empty()) {
            gpu->cache.write(key, std::to_string(i) + "\n" + findings);
            gpu->save();
            const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
            if (log)
                log(kLogInfo, name + " passed its self-test in " + std::to_string(std::lround(took.count())) + " ms");
            return {candidates[i], i};
        }
        const std::string finding = name + " fails its self-test with the kernels' shape " + candidates[i].text() +
                                    ", which is left out: " + last;
        findings += finding + "\n";
        if (log) log(kLogWarning, finding);
    }
    throw Error(Status::UnsupportedSystem, name + " gives wrong results, also with the plainest kernels: " + last);
}

}  // namespace gptoss::model
