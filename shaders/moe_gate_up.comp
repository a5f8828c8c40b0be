// activation = swiglu(W·norm(x) + bias), one expert a workgroup. Grid: (tiles of 32 gates and their 32 ups; for a batch
// that is grouped by expert its tiles of slots, else its (token, choice) pairs).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/weights.glsl"
layout(constant_id = 4) const uint ACTIVE = 4;
layout(constant_id = 5) const bool GROUPED = false;
#include "common/experts.glsl"
#include "common/swiglu.glsl"

layout(push_constant) uniform Push { GateUpArgs a; };

void main() {
    uint tile = gl_WorkGroupID.x, i = gl_LocalInvocationID.x;
    uint expert, first_slot, n_slots;
    if (GROUPED) {
        expert = a.tiles.v[gl_WorkGroupID.y * 3];
        first_slot = a.tiles.v[gl_WorkGroupID.y * 3 + 1];
        n_slots = a.tiles.v[gl_WorkGroupID.y * 3 + 2];
        if (n_slots == 0) return;
    } else {
        choose_experts(a.logits, gl_WorkGroupID.y / ACTIVE, a.n_experts);
        uint choice = gl_WorkGroupID.y % ACTIVE;
        [[unroll]] for (uint j = 0; j < ACTIVE; j++)
            if (j == choice) expert = chosen[j];
        if (tile == 0 && i == 0) atomicAdd(a.uses.v[expert], 1);
        first_slot = gl_WorkGroupID.y;
        n_slots = 1;
    }
    uint token[TOKENS];
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        uint slot = first_slot + min(t, n_slots - 1);
        token[t] = (GROUPED ? a.slots.v[slot] : slot) / ACTIVE;
        x_row[t] = token[t] * (a.src.cols / 4);
    }
    [[unroll]] for (uint s = 0; s < ROWS * TOKENS; s++) sums[s] = 0;
    multiply_tile(a.experts.v[expert].gate_up, tile, a.src.cols, a.src.x);
    share_sums();
    if (i >= 32) return;
    uint tiles = gl_NumWorkGroups.x;
    uint row = (expert * tiles + tile) * TILE_ROWS + i;
    vec2 bias = vec2(a.bias.v[row], a.bias.v[row + 32]);
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        if (t >= n_slots) break;
        vec2 y = tile_pair(t) * norm_scale(a.src, token[t]) + bias;
        a.y.v[((first_slot + t) * tiles + tile) * 32 + i] = swiglu(y, a.limit, a.alpha);
    }
}
