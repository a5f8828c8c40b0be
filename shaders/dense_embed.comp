// x = embedding[token]. Grid: (tiles of 64 columns, tokens); 32 invocations.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/weights.glsl"
#include "common/residual.glsl"

layout(push_constant) uniform Push { EmbedArgs a; };

void main() {
    uint tile = gl_WorkGroupID.x, token = gl_WorkGroupID.y;
    uint row = a.tokens.v[token].id - a.first_row;
    if (row >= a.n_rows) return;  // of another part, also where it wrapped below zero
    uint column = tile * TILE_ROWS + gl_LocalInvocationID.x;
    pair_squares[0] = 0;
    vec2 value = vec2(0);
    if (column < a.r.hidden) value.x = weight_at(a.w, row, column, a.r.hidden);
    if (column + 32 < a.r.hidden) value.y = weight_at(a.w, row, column + 32, a.r.hidden);
    store_residual(a.r, token, tile, 0, value);
    store_squares(a.r, token, 1, tile);
}
