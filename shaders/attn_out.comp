// x += W·attention + bias. Grid: (tiles of 64 rows, groups of TOKENS tokens).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/weights.glsl"
#include "common/residual.glsl"

layout(push_constant) uniform Push { OutArgs a; };

void main() {
    uint tile = gl_WorkGroupID.x, i = gl_LocalInvocationID.x;
    multiply_tokens(a.w, tile, a.cols, a.attention, a.n_tokens);
    share_sums();
    uint row = tile * TILE_ROWS + i;
    vec2 bias = i < 32 ? vec2(a.bias.v[row], a.bias.v[row + 32]) : vec2(0);
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        uint token = first_token() + t;
        pair_squares[t] = 0;
        if (i < 32 && token < a.n_tokens)
            store_residual(a.r, token, tile, t, load_residual(a.r, token, row) + tile_pair(t) + bias);
    }
    store_squares(a.r, first_token(), a.n_tokens - first_token(), tile);
}
