// q, k, v += B·shrunk; q and k rotated, k and v in the cache. Grid: (query heads + 2 KV heads, tokens); 32 invocations.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "common/float16.glsl"
#include "common/lora.glsl"

layout(local_size_x = 32) in;
layout(constant_id = 0) const bool KV_F16 = true;
layout(push_constant) uniform Push { LoraQkvArgs a; };

#define ADD_TO_HEADS true
#include "common/heads.glsl"

void main() {
    uint head = gl_WorkGroupID.x, index = gl_WorkGroupID.y, i = gl_LocalInvocationID.x;
    Token token = a.l.tokens.v[index];
    if (token.adapter == 0) return;
    uint which = head < a.n_heads ? 0 : head < a.n_heads + a.n_kv_heads ? 1 : 2;
    uint tile = head - (which == 0 ? 0 : which == 1 ? a.n_heads : a.n_heads + a.n_kv_heads);
    LoraRow own = a.l.rows.v[token.adapter - 1];
    LoraPair p = own.pairs.v[a.l.pair + which];
    if (p.rank == 0) return;
    finish_head(head, i, index, token, lora_expand(p, a.l.shrunk, (index * 3 + which) * a.l.max_rank, tile, i));
}
