// x += Σ weight · B·shrunk. Grid: (tiles of 64 columns, tokens); 32 invocations.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "args.h"
#include "common/float16.glsl"
#include "common/lora.glsl"
layout(local_size_x = 32) in;
const uint WORKGROUP = 32;
const uint TOKENS = 1;
#include "common/residual.glsl"

layout(push_constant) uniform Push { LoraResidualArgs a; };

void main() {
    uint tile = gl_WorkGroupID.x, token = gl_WorkGroupID.y, i = gl_LocalInvocationID.x;
    uint adapter = a.l.tokens.v[token].adapter;
    if (adapter == 0) return;
    LoraRow own = a.l.rows.v[adapter - 1];
    vec2 sum = vec2(0);
    bool any = false;
    for (uint j = 0; j < max(a.n_active, 1); j++) {
        uint row = token, pair = a.l.pair;
        float weight = 1;
        if (a.n_active != 0) {
            row = token * a.n_active + j;
            pair += a.experts.v[row];
            weight = a.weights.v[row];
        }
        LoraPair p = own.pairs.v[pair];
        if (p.rank == 0) continue;
        any = true;
        sum = fma(vec2(weight), lora_expand(p, a.l.shrunk, row * a.l.max_rank, tile, i), sum);
    }
    if (!any) return;
    store_residual(a.r, token, tile, 0, load_residual(a.r, token, tile * TILE_ROWS + i) + sum);
    store_squares(a.r, token, 1, tile);
}
