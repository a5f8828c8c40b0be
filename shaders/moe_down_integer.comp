// As moe_down_slots.comp. Grid: (tiles of 64 rows, tiles of slots).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/integer.glsl"

layout(push_constant) uniform Push { DownIntegerArgs a; };

void main() {
    uint tile = gl_WorkGroupID.x, i = gl_LocalInvocationID.x;
    uint expert = a.tiles.v[gl_WorkGroupID.y * 3];
    uint first_slot = a.tiles.v[gl_WorkGroupID.y * 3 + 1];
    uint n_slots = a.tiles.v[gl_WorkGroupID.y * 3 + 2];
    if (n_slots == 0) return;
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        x_row[t] = first_slot + min(t, n_slots - 1);
        [[unroll]] for (uint r = 0; r < ROWS; r++) sums[r * TOKENS + t] = 0;
    }
    multiply_tile_integer(a.experts.v[expert].down, tile, a.src, n_slots);
    share_sums();
    if (i >= 32) return;
    uint row = tile * TILE_ROWS + i;
    uint bias_row = (expert * gl_NumWorkGroups.x + tile) * TILE_ROWS + i;
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        vec2 y = tile_pair(t) + vec2(a.bias.v[bias_row], a.bias.v[bias_row + 32]);
        uint at = a.slots.v[first_slot + min(t, n_slots - 1)] * a.hidden + row;
        if (t < n_slots && row < a.hidden) a.y.v[at] = y.x;
        if (t < n_slots && row + 32 < a.hidden) a.y.v[at + 32] = y.y;
    }
}
