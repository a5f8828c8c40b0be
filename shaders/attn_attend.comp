// Attention of one token's queries of one KV head over a span of its keys, with the softmax kept running from block to
// block of keys. Grid: (splits, KV heads, tokens).
//
// Scores: an invocation has whole keys. Values: eight invocations have a key's, eight dimensions each, and the block's keys
// are dealt to the workgroup's groups of eight. Either way one load brings 16 bytes that all the queries multiply.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "args.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 32;  // a multiple of 32
layout(constant_id = 1) const uint GROUP = 8;       // query heads of a KV head
layout(constant_id = 2) const bool KV_F16 = true;
layout(constant_id = 3) const uint LANE_KEYS = 4;  // whose rows an invocation reads at once

layout(push_constant) uniform Push { AttentionArgs a; };

const uint BLOCK = WORKGROUP * LANE_KEYS;  // keys
const uint GROUPS = WORKGROUP / 8;
const float MINUS_INFINITY = -3.0e38;

const uint PROBABILITIES = GROUP * BLOCK, SUMS = GROUPS * HEAD_DIM;
shared float probability[PROBABILITIES > SUMS ? PROBABILITIES : SUMS];  // (BLOCK, GROUP); in the end sums, (GROUPS, 64)
shared float subgroup_value[GROUP * WORKGROUP / 4];

float value[GROUP];  // of each query: in and out of reduce

// value[g] = the maximum (or sum) of value[g] over the workgroup
void reduce(bool maximum) {
    [[unroll]] for (uint g = 0; g < GROUP; g++) {
        float v = maximum ? subgroupMax(value[g]) : subgroupAdd(value[g]);
        if (subgroupElect()) subgroup_value[gl_SubgroupID * GROUP + g] = v;
    }
    barrier();
    [[unroll]] for (uint g = 0; g < GROUP; g++) value[g] = subgroup_value[g];
    for (uint s = 1; s < gl_NumSubgroups; s++)
        [[unroll]] for (uint g = 0; g < GROUP; g++) {
            float v = subgroup_value[s * GROUP + g];
            value[g] = maximum ? max(value[g], v) : value[g] + v;
        }
}

// Dimensions 4 w … 4 w + 3 and 4 w + 32 … 4 w + 35 of a key or value.
void load_row(U32 segment, uint row, uint w, out vec4 low, out vec4 high) {
    if (KV_F16) {
        uvec4 words = Tiles(segment).v[row * 8 + w];
        vec2 p = unpackHalf2x16(words.x), q = unpackHalf2x16(words.y);
        vec2 r = unpackHalf2x16(words.z), s = unpackHalf2x16(words.w);
        low = vec4(p.x, q.x, r.x, s.x);
        high = vec4(p.y, q.y, r.y, s.y);
    } else {
        vec4 p = Vec4(segment).v[row * 16 + 2 * w], q = Vec4(segment).v[row * 16 + 2 * w + 1];
        low = vec4(p.xz, q.xz);
        high = vec4(p.yw, q.yw);
    }
}

// The row of a slot that may be past the ring's end, by less than its slots; without a division for each key.
uint key_row(uint slot, uint slots, uint kv_head) {
    return (slot < slots ? slot : slot - slots) * a.n_kv_heads + kv_head;
}

void main() {
    uint split = gl_WorkGroupID.x, kv_head = gl_WorkGroupID.y, index = gl_WorkGroupID.z;
    uint id = gl_LocalInvocationID.x;
    // which of the groups, and which of its eight; a compiler sees that the first is a whole subgroup's, if it is
    bool narrow = gl_SubgroupSize == 8;
    uint group = narrow ? gl_SubgroupID : id / 8, lane = narrow ? gl_SubgroupInvocationID : id % 8;
    Token token = a.tokens.v[index];
    Cache cache = a.caches.v[token.sequence];
    uint first_key = token.position - min(token.position, a.window - 1);
    uint n_keys = token.position + 1 - first_key;
    uint blocks = (n_keys + BLOCK - 1) / BLOCK;
    uint blocks_per_split = (blocks + a.n_splits - 1) / a.n_splits;
    uint first_head = index * a.n_heads + kv_head * GROUP;

    float running_max[GROUP], denominator[GROUP];  // the denominator of this invocation's keys only
    vec4 sum_low[GROUP], sum_high[GROUP];          // of this group's keys: dimensions as of load_row
    [[unroll]] for (uint g = 0; g < GROUP; g++) {
        running_max[g] = MINUS_INFINITY;
        denominator[g] = 0;
        sum_low[g] = sum_high[g] = vec4(0);
    }
    for (uint block = split * blocks_per_split; block < min(blocks, (split + 1) * blocks_per_split); block++) {
        uint block_start = first_key + block * BLOCK;
        uint n_valid = min(BLOCK, token.position + 1 - block_start);
        uint first_slot = block_start % cache.slots;
        U32 segment = cache.segments.v[block_start / cache.slots % cache.n_segments];
        uint row[LANE_KEYS];
        float score[GROUP][LANE_KEYS];
        [[unroll]] for (uint r = 0; r < LANE_KEYS; r++) {
            row[r] = cache.k_row + key_row(first_slot + min(id + r * WORKGROUP, n_valid - 1), cache.slots, kv_head);
            [[unroll]] for (uint g = 0; g < GROUP; g++) score[g][r] = 0;
        }
        for (uint w = 0; w < 8; w++) {
            vec4 low[LANE_KEYS], high[LANE_KEYS];
            [[unroll]] for (uint r = 0; r < LANE_KEYS; r++) load_row(segment, row[r], w, low[r], high[r]);
            [[unroll]] for (uint g = 0; g < GROUP; g++) {
                uint at = (first_head + g) * 16 + w;
                vec4 q_low = Vec4(a.q).v[at], q_high = Vec4(a.q).v[at + 8];
                [[unroll]] for (uint r = 0; r < LANE_KEYS; r++) score[g][r] += dot(q_low, low[r]) + dot(q_high, high[r]);
            }
        }
        [[unroll]] for (uint g = 0; g < GROUP; g++) {
            value[g] = MINUS_INFINITY;
            [[unroll]] for (uint r = 0; r < LANE_KEYS; r++) {
                if (id + r * WORKGROUP >= n_valid) score[g][r] = MINUS_INFINITY;
                value[g] = max(value[g], score[g][r]);
            }
        }
        reduce(true);
        [[unroll]] for (uint g = 0; g < GROUP; g++) {
            float new_max = max(running_max[g], value[g]);
            float shrink = exp(running_max[g] - new_max);
            running_max[g] = new_max;
            denominator[g] *= shrink;
            sum_low[g] *= shrink;
            sum_high[g] *= shrink;
            [[unroll]] for (uint r = 0; r < LANE_KEYS; r++) {
                float p = exp(score[g][r] - new_max);
                denominator[g] += p;
                probability[(r * WORKGROUP + id) * GROUP + g] = p;
            }
        }
        barrier();
        // past the last valid key the probability is 0, and the value any that is finite
        for (uint j = group; j < n_valid; j += LANE_KEYS * GROUPS) {
            vec4 low[LANE_KEYS], high[LANE_KEYS];
            [[unroll]] for (uint i = 0; i < LANE_KEYS; i++) {
                uint slot = first_slot + min(j + i * GROUPS, n_valid - 1);
                load_row(segment, cache.v_row + key_row(slot, cache.slots, kv_head), lane, low[i], high[i]);
            }
            [[unroll]] for (uint i = 0; i < LANE_KEYS; i++)
                [[unroll]] for (uint g = 0; g < GROUP; g++) {
                    float p = probability[(j + i * GROUPS) * GROUP + g];
                    sum_low[g] += p * low[i];
                    sum_high[g] += p * high[i];
                }
        }
        barrier();
    }
    [[unroll]] for (uint g = 0; g < GROUP; g++) value[g] = denominator[g];
    reduce(false);
    [[unroll]] for (uint g = 0; g < GROUP; g++) {
        uint head = first_head + g;
        barrier();
        [[unroll]] for (uint i = 0; i < 4; i++) {
            probability[group * HEAD_DIM + lane * 4 + i] = sum_low[g][i];
            probability[group * HEAD_DIM + lane * 4 + 32 + i] = sum_high[g][i];
        }
        barrier();
        if (id >= 32) continue;
        vec2 total = vec2(0);  // of dimensions id and id + 32
        for (uint p = 0; p < GROUPS; p++)
            total += vec2(probability[p * HEAD_DIM + id], probability[p * HEAD_DIM + id + 32]);
        if (a.n_splits == 1) {
            // the learned sink joins the denominator and carries no value
            float sink = a.sinks.v[kv_head * GROUP + g];
            float top = max(running_max[g], sink);
            float shrink = exp(running_max[g] - top);
            total *= shrink / (value[g] * shrink + exp(sink - top));
            a.y.v[head * HEAD_DIM + id] = total.x;
            a.y.v[head * HEAD_DIM + id + 32] = total.y;
        } else {
            uint at = (head * a.n_splits + split) * 66;
            a.parts.v[at + id] = total.x;
            a.parts.v[at + id + 32] = total.y;
            if (id == 0) {
                a.parts.v[at + 64] = running_max[g];
                a.parts.v[at + 65] = value[g];
            }
        }
    }
}
