// The shapes in which kernels run a model on a device.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace gptoss::model {

enum class Tier { Default, Exact, Coopmat, Integer };  // as in the public header

// All values give the same results except for rounding.
struct Tuning {
    uint32_t lanes = 32;         // rows that a group of lanes takes at once; see weights.glsl
    uint32_t decode_splits = 1;  // groups of lanes that share a tile's columns, for one token
    uint32_t batch_splits = 1;   // and for many
    uint32_t batch_tokens = 8;   // tokens that share a weight read
    uint32_t row_tokens = 0;     // and rows of a decode step where that is more: a multiple of 4
    uint32_t attention_workgroup = 32;
    uint32_t attention_keys = 1;          // that an invocation reads at once; all of a workgroup's divide kSegmentSlots
    uint32_t attention_value_lanes = 16;  // invocations that share a value's dimensions
    uint32_t attention_splits = 1;        // the most workgroups that share a query's keys

    // Batches of this many tokens and more multiply float16 cooperative matrices; UINT32_MAX where there are none.
    uint32_t coopmat_batch = UINT32_MAX;
    uint32_t coopmat_subgroups = 4;  // subgroups of a workgroup
    uint32_t coopmat_tokens = 128;   // the most tokens of a workgroup, a power of two from 32
    uint32_t coopmat_groups = 256;   // workgroups that keep the device busy: it gets smaller ones rather than fewer

    // Experts of batches of this many tokens and more multiply activations rounded to integers, by packed dot products.
    uint32_t integer_batch = UINT32_MAX;
    uint32_t integer_tokens = 16;  // that share a weight read there

    bool coopmat() const { return coopmat_batch != UINT32_MAX; }
    bool integer() const { return integer_batch != UINT32_MAX; }
    // Tokens that are processed at once unless a context is asked for another number: enough rows for every expert to
    // be worth its weights' read, and where matrices are multiplied by units of their own, to fill those units' tiles.
    uint32_t default_batch() const { return coopmat() ? 1024 : 256; }
    auto operator<=>(const Tuning&) const = default;
    Tier tier() const { return coopmat() ? Tier::Coopmat : integer() ? Tier::Integer : Tier::Exact; }
    std::string text() const;
};

}  // namespace gptoss::model
