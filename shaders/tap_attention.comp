// What each query head of a token gives each of its keys: the softmax's probabilities, of which the sink has a share
// too, so that a row sums to less than 1. Only what is asked to look inside runs it. Grid: (query heads, tokens).
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "args.h"
#include "common/float16.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64;  // a power of two
layout(constant_id = 1) const bool KV_F16 = true;

layout(push_constant) uniform Push { TapAttentionArgs a; };

shared float lane_max[WORKGROUP];
shared float lane_sum[WORKGROUP];

uint q_at;  // of the workgroup's query, in vec4

float score_of(U32 segment, uint row) {
    float score = 0;
    for (uint w = 0; w < 8; w++) {
        vec4 low, high;  // dimensions 4 w … 4 w + 3, and 32 further
        if (KV_F16) {
            uvec4 packed = Tiles(segment).v[row * 8 + w];
            [[unroll]] for (uint i = 0; i < 4; i++) {
                vec2 pair = unpack_halves(packed[i]);
                low[i] = pair.x;
                high[i] = pair.y;
            }
        } else {
            vec4 first = Vec4(segment).v[row * 16 + 2 * w], second = Vec4(segment).v[row * 16 + 2 * w + 1];
            low = vec4(first.xz, second.xz);
            high = vec4(first.yw, second.yw);
        }
        score += dot(Vec4(a.q).v[q_at + w], low) + dot(Vec4(a.q).v[q_at + 8 + w], high);
    }
    return score;
}

void main() {
    uint head = gl_WorkGroupID.x, index = a.first_token + gl_WorkGroupID.y, id = gl_LocalInvocationID.x;
    Token token = a.tokens.v[index];
    uint first_key = token.position - min(token.position, a.window - 1);
    uint n_keys = token.position + 1 - first_key;
    Cache cache = a.caches.v[token.sequence];
    uint kv_head = head / (a.n_heads / a.n_kv_heads);
    q_at = (index * a.n_heads + head) * 16;
    // the scores are computed twice: y may be memory that is slow to read
    float largest = -3.0e38, sum = 0;
    for (uint k = id; k < n_keys; k += WORKGROUP) {
        uint position = first_key + k;
        U32 segment = cache.segments.v[position / cache.slots % cache.n_segments];
        float score = score_of(segment, cache.k_row + position % cache.slots * a.n_kv_heads + kv_head);
        float top = max(largest, score);
        sum = sum * exp(largest - top) + exp(score - top);
        largest = top;
    }
    lane_max[id] = largest;
    lane_sum[id] = sum;
    barrier();
    for (uint n = WORKGROUP / 2; n > 0; n /= 2) {
        if (id < n) {
            float top = max(lane_max[id], lane_max[id + n]);
            lane_sum[id] = lane_sum[id] * exp(lane_max[id] - top) + lane_sum[id + n] * exp(lane_max[id + n] - top);
            lane_max[id] = top;
        }
        barrier();
    }
    float sink = a.sinks.v[head], top = max(lane_max[0], sink);
    float scale = 1 / (lane_sum[0] * exp(lane_max[0] - top) + exp(sink - top));
    uint row = gl_WorkGroupID.y * a.y_stride + head * n_keys;
    for (uint k = id; k < n_keys; k += WORKGROUP) {
        uint position = first_key + k;
        U32 segment = cache.segments.v[position / cache.slots % cache.n_segments];
        float score = score_of(segment, cache.k_row + position % cache.slots * a.n_kv_heads + kv_head);
        a.y.v[row + k] = exp(score - top) * scale;
    }
}
