// The biases of gate_up for each (token, choice): those of its expert, and B·shrunk. Grid: (tiles of 32 gates and their
// 32 ups, tokens, their choices); 32 invocations.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "common/float16.glsl"
#include "common/lora.glsl"

layout(local_size_x = 32) in;
layout(push_constant) uniform Push { LoraGateUpArgs a; };

void main() {
    uint tile = gl_WorkGroupID.x, tiles = gl_NumWorkGroups.x, i = gl_LocalInvocationID.x;
    uint row = gl_WorkGroupID.y * gl_NumWorkGroups.z + gl_WorkGroupID.z;
    uint expert = a.experts.v[row], adapter = a.l.tokens.v[gl_WorkGroupID.y].adapter;
    uint from = (expert * tiles + tile) * TILE_ROWS + i, to = (row * tiles + tile) * TILE_ROWS + i;
    vec2 bias = vec2(a.bias.v[from], a.bias.v[from + 32]);
    if (adapter != 0) {
        LoraRow own = a.l.rows.v[adapter - 1];
        LoraPair p = own.pairs.v[a.l.pair + expert];
        if (p.rank != 0) bias += lora_expand(p, a.l.shrunk, row * a.l.max_rank, tile, i);
    }
    a.y.v[to] = bias.x;
    a.y.v[to + 32] = bias.y;
}
