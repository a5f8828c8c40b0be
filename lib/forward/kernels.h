// The kernels of the forward pass and of sampling. Each is specialized by a struct of constants, whose fields stand in
// the order of the shader's constant_id.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "vk/pipelines.h"

namespace gptoss::model {

struct NoConstants {
    bool operator==(const NoConstants&) const = default;
};

// Products of a weight matrix with rows of activations; see weights.glsl.
struct ProductConstants {
    uint32_t workgroup;
    uint32_t lanes;
    uint32_t tokens;  // rows of activations that share a weight read
    uint32_t weight;  // a WEIGHT_…
    bool operator==(const ProductConstants&) const = default;
};
struct QkvConstants {
    ProductConstants product;
    uint32_t kv_f16;
    bool operator==(const QkvConstants&) const = default;
};
struct GateUpConstants {
    ProductConstants product;
    uint32_t n_active;
    uint32_t grouped;  // by expert
    bool operator==(const GateUpConstants&) const = default;
};
struct DownConstants {
    ProductConstants product;
    uint32_t n_active;
    bool operator==(const DownConstants&) const = default;
};
// Products by cooperative matrices; see coopmat.glsl. The subgroups have the size that `subgroup` says.
struct CoopmatConstants {
    uint32_t workgroup;
    uint32_t subgroup;
    uint32_t tokens;
    uint32_t weight;
    uint32_t kv_f16;  // qkv_coopmat alone reads it
    uint32_t terms;
    uint32_t m, n, k;
    uint32_t row_groups;
    bool operator==(const CoopmatConstants&) const = default;
};
struct AttentionConstants {
    uint32_t workgroup;
    uint32_t group;  // query heads of a KV head
    uint32_t kv_f16;
    uint32_t keys;         // that an invocation reads at once
    uint32_t value_lanes;  // that share a value's dimensions: 8 or 16
    bool operator==(const AttentionConstants&) const = default;
};
struct TapAttentionConstants {
    uint32_t workgroup;
    uint32_t kv_f16;
    bool operator==(const TapAttentionConstants&) const = default;
};
struct TopkConstants {
    uint32_t n_active;
    bool operator==(const TopkConstants&) const = default;
};
struct RoundConstants {
    uint32_t workgroup;
    uint32_t lanes;
    bool operator==(const RoundConstants&) const = default;
};
struct LoraQkvConstants {
    uint32_t kv_f16;
    bool operator==(const LoraQkvConstants&) const = default;
};
struct SampleConstants {
    uint32_t workgroup;
    bool operator==(const SampleConstants&) const = default;
};

// One kernel in the variants that were asked for so far; a variant's pipeline is built when it is first asked for. Safe
// from many threads.
template <typename Constants>
class KernelVariants {
  public:
    KernelVariants(vk::Pipelines& pipelines, const char* name) : pipelines_(pipelines), name_(name) {}

    // Throws what building the pipeline throws.
    const vk::Kernel& operator()(const Constants& constants = {}) {
        const std::lock_guard lock(mutex_);
        for (const auto& [known, kernel] : variants_)
            if (known == constants) return *kernel;
        const vk::Kernel& kernel = pipelines_.get(name_, words(constants), subgroup(constants));
        variants_.emplace_back(constants, &kernel);
        return kernel;
    }

  private:
    static std::vector<uint32_t> words(const Constants& constants) {
        if constexpr (std::is_empty_v<Constants>) {
            return {};
        } else {
            const auto all = std::bit_cast<std::array<uint32_t, sizeof(Constants) / 4>>(constants);
            return {all.begin(), all.end()};
        }
    }
    // The size that the kernel's subgroups must have; 0 where any will do.
    static uint32_t subgroup(const Constants& constants) {
        if constexpr (requires { constants.subgroup; })
            return constants.subgroup;
        else
            return 0;
    }

    vk::Pipelines& pipelines_;
    const char* const name_;
    std::mutex mutex_;
    std::vector<std::pair<Constants, const vk::Kernel*>> variants_;
};

struct Kernels {
    explicit Kernels(vk::Pipelines& pipelines) : pipelines_(pipelines) {}

  private:
    vk::Pipelines& pipelines_;  // the initializers below read it

  public:
    KernelVariants<ProductConstants> embed{pipelines_, "dense_embed"};
    KernelVariants<ProductConstants> linear{pipelines_, "dense_linear"};
    KernelVariants<QkvConstants> qkv{pipelines_, "attn_qkv"};
    KernelVariants<CoopmatConstants> qkv_coopmat{pipelines_, "attn_qkv_coopmat"};
    KernelVariants<AttentionConstants> attention{pipelines_, "attn_attend"};
    KernelVariants<NoConstants> combine{pipelines_, "attn_combine"};
    KernelVariants<ProductConstants> out{pipelines_, "attn_out"};
    KernelVariants<CoopmatConstants> out_coopmat{pipelines_, "attn_out_coopmat"};
    KernelVariants<TopkConstants> topk{pipelines_, "moe_topk"};
    KernelVariants<NoConstants> group{pipelines_, "moe_group"};
    KernelVariants<GateUpConstants> gate_up{pipelines_, "moe_gate_up"};
    KernelVariants<CoopmatConstants> gate_up_coopmat{pipelines_, "moe_gate_up_coopmat"};
    KernelVariants<ProductConstants> gate_up_integer{pipelines_, "moe_gate_up_integer"};
    KernelVariants<DownConstants> down{pipelines_, "moe_down"};
    KernelVariants<ProductConstants> down_slots{pipelines_, "moe_down_slots"};
    KernelVariants<CoopmatConstants> down_coopmat{pipelines_, "moe_down_coopmat"};
    KernelVariants<ProductConstants> down_integer{pipelines_, "moe_down_integer"};
    KernelVariants<NoConstants> merge{pipelines_, "moe_merge"};
    KernelVariants<RoundConstants> halve{pipelines_, "dense_halve"};
    KernelVariants<RoundConstants> round{pipelines_, "dense_round"};
    KernelVariants<RoundConstants> lora_shrink{pipelines_, "lora_shrink"};
    KernelVariants<LoraQkvConstants> lora_qkv{pipelines_, "lora_qkv"};
    KernelVariants<NoConstants> lora_residual{pipelines_, "lora_residual"};
    KernelVariants<NoConstants> lora_gate_up{pipelines_, "lora_gate_up"};
    KernelVariants<TapAttentionConstants> tap_attention{pipelines_, "tap_attention"};
    KernelVariants<SampleConstants> sample_prepare{pipelines_, "sample_prepare"};
    KernelVariants<SampleConstants> sample{pipelines_, "sample"};
};

}  // namespace gptoss::model
