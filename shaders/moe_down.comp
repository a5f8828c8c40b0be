// x += the weighted sum of the token's experts. Grid: (tiles of 64 rows, tokens).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/weights.glsl"
#include "common/residual.glsl"
layout(constant_id = 4) const uint ACTIVE = 4;
#include "common/experts.glsl"

layout(push_constant) uniform Push { DownArgs a; };

void main() {
    uint tile = gl_WorkGroupID.x, token = gl_WorkGroupID.y, i = gl_LocalInvocationID.x;
    // the first split begins with what is there, so that a batch of one adds up in the order of moe_merge.comp
    float total[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        uint row = tile * TILE_ROWS + lane() + r * LANES;
        total[r] = split() == 0 && row < a.r.hidden ? a.r.x.v[token * a.r.hidden + row] : 0;
    }
    for (uint j = 0; j < ACTIVE; j++) {
        Choice chosen = choose_expert(a.logits, token, a.n_experts, j);
        x_row[0] = (token * ACTIVE + j) * (a.cols / 4);
        [[unroll]] for (uint r = 0; r < ROWS; r++) sums[r] = 0;
        multiply_tile(a.experts.v[chosen.expert].down, tile, a.cols, a.x);
        uint bias_row = (chosen.expert * gl_NumWorkGroups.x + tile) * TILE_ROWS + lane();
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            float bias = split() == 0 ? a.bias.v[bias_row + r * LANES] : 0;
            total[r] = fma(chosen.weight, sums[r] + bias, total[r]);
        }
    }
    [[unroll]] for (uint r = 0; r < ROWS; r++) sums[r] = total[r];
    share_sums();
    pair_squares[0] = 0;
    if (i < 32) store_residual(a.r, token, tile, 0, tile_pair(0));
    store_squares(a.r, token, 1, tile);
}
