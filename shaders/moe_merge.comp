// x += the weighted sum of the outputs of a token's slots. Grid: (tiles of 64 columns, tokens); 32 invocations.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "args.h"
layout(local_size_x = 32) in;
const uint WORKGROUP = 32;
const uint TOKENS = 1;
#include "common/residual.glsl"

layout(push_constant) uniform Push { MergeArgs a; };

void main() {
    uint tile = gl_WorkGroupID.x, token = gl_WorkGroupID.y;
    uint row = tile * TILE_ROWS + gl_LocalInvocationID.x;
    vec2 value = load_residual(a.r, token, row);
    for (uint j = 0; j < a.n_active; j++) {
        uint slot = token * a.n_active + j;
        float weight = a.weights.v[slot];
        if (row < a.r.hidden) value.x = fma(weight, a.x.v[slot * a.r.hidden + row], value.x);
        if (row + 32 < a.r.hidden) value.y = fma(weight, a.x.v[slot * a.r.hidden + row + 32], value.y);
    }
    store_residual(a.r, token, tile, 0, value);
    store_squares(a.r, token, 1, tile);
}
