// Attention of one token's queries of one KV head over a span of its keys, with the softmax kept running from block to
// block of keys. Grid: (splits, KV heads, tokens).
//
// Scores: an invocation has whole keys. Values: VALUE_LANES invocations have a key's, each some of its dimensions, and the
// block's keys are dealt to the workgroup's groups of so many. Either way all the queries multiply what one load brings.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "args.h"
#include "common/float16.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 32;  // a multiple of 32
layout(constant_id = 1) const uint GROUP = 8;       // query heads of a KV head
layout(constant_id = 2) const bool KV_F16 = true;
layout(constant_id = 3) const uint LANE_KEYS = 4;    // whose rows an invocation reads at once
layout(constant_id = 4) const uint VALUE_LANES = 8;  // that share a value: 8 hold 8 dimensions each, 16 hold 4

layout(push_constant) uniform Push { AttentionArgs a; };

const uint BLOCK = WORKGROUP * LANE_KEYS;  // keys
const uint GROUPS = WORKGROUP / VALUE_LANES;
const uint WORDS = 32 / VALUE_LANES;  // of a value's row, of an invocation; a word has dimensions i and i + 32
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

layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer WordPairs { uvec2 v[]; };

// Words 4 w … 4 w + 3 of a key or value: dimensions 4 w … 4 w + 3 and 4 w + 32 … 4 w + 35.
void load_row(U32 segment, uint row, uint w, out vec2 words[4]) {
    if (KV_F16) {
        uvec4 packed = Tiles(segment).v[row * 8 + w];
        [[unroll]] for (uint i = 0; i < 4; i++) words[i] = unpack_halves(packed[i]);
    } else {
        vec4 first = Vec4(segment).v[row * 16 + 2 * w], second = Vec4(segment).v[row * 16 + 2 * w + 1];
        words = vec2[4](first.xy, first.zw, second.xy, second.zw);
    }
}

// The WORDS words of a value that are the invocation's of its group.
void load_value(U32 segment, uint row, uint lane, out vec2 words[4]) {
    if (WORDS == 4) {
        load_row(segment, row, lane, words);
    } else if (KV_F16) {
        uvec2 packed = WordPairs(segment).v[row * 16 + lane];
        words[0] = unpack_halves(packed.x);
        words[1] = unpack_halves(packed.y);
    } else {
        vec4 two = Vec4(segment).v[row * 16 + lane];
        words[0] = two.xy;
        words[1] = two.zw;
    }
}

// The row of a slot that may be past the ring's end, by less than its slots; without a division for each key.
uint key_row(uint slot, uint slots, uint kv_head) {
    return (slot < slots ? slot : slot - slots) * a.n_kv_heads + kv_head;
}

void main() {
    uint split = gl_WorkGroupID.x, kv_head = gl_WorkGroupID.y, index = gl_WorkGroupID.z;
    uint id = gl_LocalInvocationID.x;
    // which of the groups, and which of its invocations; a compiler sees that the first is a whole subgroup's, if it is
    bool narrow = gl_SubgroupSize == VALUE_LANES;
    uint group = narrow ? gl_SubgroupID : id / VALUE_LANES;
    uint lane = narrow ? gl_SubgroupInvocationID : id % VALUE_LANES;
    Token token = a.tokens.v[index];
    Cache cache = a.caches.v[token.sequence];
    uint first_key = token.position - min(token.position, a.window - 1);
    uint n_keys = token.position + 1 - first_key;
    uint blocks = (n_keys + BLOCK - 1) / BLOCK;
    uint blocks_per_split = (blocks + a.n_splits - 1) / a.n_splits;
    uint first_head = index * a.n_heads + kv_head * GROUP;

    float running_max[GROUP], denominator[GROUP];  // the denominator of this invocation's keys only
    vec2 sum[GROUP * WORDS];                       // of this group's keys: each query's words
    [[unroll]] for (uint g = 0; g < GROUP; g++) {
        running_max[g] = MINUS_INFINITY;
        denominator[g] = 0;
        [[unroll]] for (uint i = 0; i < WORDS; i++) sum[g * WORDS + i] = vec2(0);
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
        // unrolled, it would take all registers for loads under way
        [[dont_unroll]] for (uint w = 0; w < 8; w++) {
            vec4 low[LANE_KEYS], high[LANE_KEYS];
            [[unroll]] for (uint r = 0; r < LANE_KEYS; r++) {
                vec2 words[4];
                load_row(segment, row[r], w, words);
                low[r] = vec4(words[0].x, words[1].x, words[2].x, words[3].x);
                high[r] = vec4(words[0].y, words[1].y, words[2].y, words[3].y);
            }
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
            [[unroll]] for (uint i = 0; i < WORDS; i++) sum[g * WORDS + i] *= shrink;
            [[unroll]] for (uint r = 0; r < LANE_KEYS; r++) {
                float p = exp(score[g][r] - new_max);
                denominator[g] += p;
                probability[(r * WORKGROUP + id) * GROUP + g] = p;
            }
        }
        barrier();
        // past the last valid key the probability is 0, and the value any that is finite
        for (uint j = group; j < n_valid; j += LANE_KEYS * GROUPS) {
            vec2 words[LANE_KEYS][4];
            [[unroll]] for (uint i = 0; i < LANE_KEYS; i++) {
                uint slot = first_slot + min(j + i * GROUPS, n_valid - 1);
                load_value(segment, cache.v_row + key_row(slot, cache.slots, kv_head), lane, words[i]);
            }
            [[unroll]] for (uint i = 0; i < LANE_KEYS; i++)
                [[unroll]] for (uint g = 0; g < GROUP; g++) {
                    float p = probability[(j + i * GROUPS) * GROUP + g];
                    [[unroll]] for (uint word = 0; word < WORDS; word++) sum[g * WORDS + word] += p * words[i][word];
                }
        }
        barrier();
    }
    [[unroll]] for (uint g = 0; g < GROUP; g++) value[g] = denominator[g];
    reduce(false);
    [[unroll]] for (uint g = 0; g < GROUP; g++) {
        uint head = first_head + g;
        barrier();
        [[unroll]] for (uint i = 0; i < WORDS; i++) {
            probability[group * HEAD_DIM + lane * WORDS + i] = sum[g * WORDS + i].x;
            probability[group * HEAD_DIM + lane * WORDS + i + 32] = sum[g * WORDS + i].y;
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
