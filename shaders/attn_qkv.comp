// q, k, v = W·norm(x) + bias; q and k rotated, k and v to the cache. Grid: (query heads + 2 KV heads, groups of tokens):
// a tile of 64 rows is a head, and a lane's pair of rows is a pair that RoPE rotates.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/weights.glsl"
#include "common/norm.glsl"

layout(constant_id = 4) const bool KV_F16 = true;
layout(push_constant) uniform Push { QkvArgs a; };

#include "common/heads.glsl"

uint input_token(uint t) { return min(first_token() + t, a.src.n_tokens - 1); }

void main() {
    uint head = gl_WorkGroupID.x;
    multiply_tokens(a.w, head, a.src.cols, a.src.x, a.src.n_tokens);
    share_norm_scales(a.src);
    share_sums();
    uint i = gl_LocalInvocationID.x;
    if (i >= 32) return;
    vec2 bias = vec2(a.bias.v[head * HEAD_DIM + i], a.bias.v[head * HEAD_DIM + i + 32]);
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        uint index = first_token() + t;
        if (index < a.src.n_tokens)
            finish_head(head, i, index, a.tokens.v[index], tile_pair(t) * shared_norm_scale(t) + bias);
    }
}
