// y = W·norm(x) + bias. Grid: (tiles of 64 rows, groups of TOKENS tokens).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/weights.glsl"
#include "common/norm.glsl"

layout(push_constant) uniform Push { LinearArgs a; };

uint input_token(uint t) { return min(first_token() + t, a.src.n_tokens - 1); }

void main() {
    uint tile = gl_WorkGroupID.x;
    multiply_tokens(a.w, tile, a.src.cols, a.src.x, a.src.n_tokens);
    share_norm_scales(a.src);
    share_sums();
    if (gl_LocalInvocationID.x >= 32) return;
    uint row = tile * TILE_ROWS + gl_LocalInvocationID.x;
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        uint token = first_token() + t;
        if (token < a.src.n_tokens) {
            vec2 y = tile_pair(t) * shared_norm_scale(t);
            uint at = token * a.y_stride + row;
            if (row < a.rows) a.y.v[at] = y.x + (a.has_bias != 0 ? a.bias.v[row] : 0);
            if (row + 32 < a.rows) a.y.v[at + 32] = y.y + (a.has_bias != 0 ? a.bias.v[row + 32] : 0);
        }
    }
}
