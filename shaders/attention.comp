// Attention of one token's queries of one KV head over a span of its keys, with the softmax kept running from block to
// block of WORKGROUP keys. Grid: (splits, KV heads, tokens).
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "args.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 32;  // a multiple of 32: keys of a block
layout(constant_id = 1) const uint GROUP = 8;       // query heads of a KV head
layout(constant_id = 2) const bool KV_F16 = true;

layout(push_constant) uniform Push { AttentionArgs a; };

const uint PARTS = WORKGROUP / 32;  // the block's keys are dealt to this many groups of 32 lanes for the values
const uint KEYS = 8;  // whose values are read before any is used
const float MINUS_INFINITY = -3.0e38;

shared float probability[GROUP * WORKGROUP];
shared float subgroup_value[GROUP * WORKGROUP / 4];
shared vec2 part_sum[PARTS == 1 ? 1 : WORKGROUP];

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

// Dimensions 4 w … 4 w + 3 and 4 w + 32 … 4 w + 35 of a key.
void load_key(U32 segment, uint row, uint w, out vec4 low, out vec4 high) {
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

vec2 load_value(U32 segment, uint row, uint i) {
    if (KV_F16) return unpackHalf2x16(segment.v[row * 32 + i]);
    return vec2(uintBitsToFloat(segment.v[row * 64 + 2 * i]), uintBitsToFloat(segment.v[row * 64 + 2 * i + 1]));
}

// The row of a slot that may be past the ring's end, by less than its slots; without a division for each key.
uint key_row(uint slot, uint slots, uint kv_head) {
    return (slot < slots ? slot : slot - slots) * a.n_kv_heads + kv_head;
}

void main() {
    uint split = gl_WorkGroupID.x, kv_head = gl_WorkGroupID.y, index = gl_WorkGroupID.z;
    uint id = gl_LocalInvocationID.x, lane = id % 32;
    uint part = PARTS == 1 ? 0 : id / 32;  // a compiler may not see that id is below 32
    Token token = a.tokens.v[index];
    Cache cache = a.caches.v[token.sequence];
    uint first_key = token.position - min(token.position, a.window - 1);
    uint n_keys = token.position + 1 - first_key;
    uint blocks = (n_keys + WORKGROUP - 1) / WORKGROUP;
    uint blocks_per_split = (blocks + a.n_splits - 1) / a.n_splits;
    uint first_head = index * a.n_heads + kv_head * GROUP;

    float running_max[GROUP], denominator[GROUP];  // the denominator of this invocation's keys only
    vec2 sum[GROUP];                               // of dimensions lane and lane + 32, over this part's keys
    [[unroll]] for (uint g = 0; g < GROUP; g++) {
        running_max[g] = MINUS_INFINITY;
        denominator[g] = 0;
        sum[g] = vec2(0);
    }
    for (uint block = split * blocks_per_split; block < min(blocks, (split + 1) * blocks_per_split); block++) {
        uint block_start = first_key + block * WORKGROUP;
        uint n_valid = min(WORKGROUP, token.position + 1 - block_start);
        uint first_slot = block_start % cache.slots;
        U32 segment = cache.segments.v[block_start / cache.slots % cache.n_segments];
        uint row = cache.k_row + key_row(first_slot + min(id, n_valid - 1), cache.slots, kv_head);
        float score[GROUP];
        [[unroll]] for (uint g = 0; g < GROUP; g++) score[g] = 0;
        for (uint w = 0; w < 8; w++) {
            vec4 low, high;
            load_key(segment, row, w, low, high);
            [[unroll]] for (uint g = 0; g < GROUP; g++) {
                uint at = (first_head + g) * 16 + w;
                score[g] += dot(Vec4(a.q).v[at], low) + dot(Vec4(a.q).v[at + 8], high);
            }
        }
        [[unroll]] for (uint g = 0; g < GROUP; g++) value[g] = score[g] = id < n_valid ? score[g] : MINUS_INFINITY;
        reduce(true);
        [[unroll]] for (uint g = 0; g < GROUP; g++) {
            float new_max = max(running_max[g], value[g]);
            float shrink = exp(running_max[g] - new_max);
            running_max[g] = new_max;
            float p = id < n_valid ? exp(score[g] - new_max) : 0;
            denominator[g] = denominator[g] * shrink + p;
            sum[g] *= shrink;
            probability[g * WORKGROUP + id] = p;
        }
        barrier();
        // past the last valid key the probability is 0, and the value any that is finite
        for (uint j = KEYS * part; j < n_valid; j += KEYS * PARTS) {
            vec2 v[KEYS];
            [[unroll]] for (uint i = 0; i < KEYS; i++) {
                uint slot = first_slot + min(j + i, n_valid - 1);
                v[i] = load_value(segment, cache.v_row + key_row(slot, cache.slots, kv_head), lane);
            }
            [[unroll]] for (uint g = 0; g < GROUP; g++)
                [[unroll]] for (uint i = 0; i < KEYS; i++) sum[g] += probability[g * WORKGROUP + j + i] * v[i];
        }
        barrier();
    }
    [[unroll]] for (uint g = 0; g < GROUP; g++) value[g] = denominator[g];
    reduce(false);
    [[unroll]] for (uint g = 0; g < GROUP; g++) {
        uint head = first_head + g;
        vec2 total = sum[g];
        if (PARTS > 1) {
            barrier();
            part_sum[id] = sum[g];
            barrier();
            total = vec2(0);
            for (uint p = 0; p < PARTS; p++) total += part_sum[p * 32 + lane];
        }
        if (id >= 32) continue;
        if (a.n_splits == 1) {
            // the learned sink joins the denominator and carries no value
            float sink = a.sinks.v[kv_head * GROUP + g];
            float top = max(running_max[g], sink);
            float shrink = exp(running_max[g] - top);
            total *= shrink / (value[g] * shrink + exp(sink - top));
            a.y.v[head * HEAD_DIM + lane] = total.x;
            a.y.v[head * HEAD_DIM + lane + 32] = total.y;
        } else {
            uint at = (head * a.n_splits + split) * 66;
            a.parts.v[at + lane] = total.x;
            a.parts.v[at + lane + 32] = total.y;
            if (lane == 0) {
                a.parts.v[at + 64] = running_max[g];
                a.parts.v[at + 65] = value[g];
            }
        }
    }
}
