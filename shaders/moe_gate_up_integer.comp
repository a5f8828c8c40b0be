// As moe_gate_up.comp for a batch grouped by expert. Grid: (tiles of 32 gates and their 32 ups, tiles of slots).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/integer.glsl"
#include "common/swiglu.glsl"

layout(push_constant) uniform Push { GateUpIntegerArgs a; };

vec2 bias_pair(uint row, uint i) {
    uint at = (row * gl_NumWorkGroups.x + gl_WorkGroupID.x) * TILE_ROWS + i;
    return vec2(a.bias.v[at], a.bias.v[at + 32]);
}

void main() {
    uint tile = gl_WorkGroupID.x, tiles = gl_NumWorkGroups.x, i = gl_LocalInvocationID.x;
    uint expert = a.tiles.v[gl_WorkGroupID.y * 3];
    uint first_slot = a.tiles.v[gl_WorkGroupID.y * 3 + 1];
    uint n_slots = a.tiles.v[gl_WorkGroupID.y * 3 + 2];
    if (n_slots == 0) return;
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        x_row[t] = a.slots.v[first_slot + min(t, n_slots - 1)] / a.n_active;
        [[unroll]] for (uint r = 0; r < ROWS; r++) sums[r * TOKENS + t] = 0;
    }
    multiply_tile_integer(a.experts.v[expert].gate_up, tile, a.src, n_slots);
    share_sums();
    if (i >= 32) return;
    vec2 bias = bias_pair(a.own_bias != 0 ? a.slots.v[first_slot] : expert, i);
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        if (t < n_slots) {
            if (a.own_bias != 0) bias = bias_pair(a.slots.v[first_slot + t], i);
            a.y.v[((first_slot + t) * tiles + tile) * 32 + i] = swiglu(tile_pair(t) + bias, a.limit, a.alpha);
        }
    }
}
