// activation = swiglu(W·norm(x) + bias), one expert a workgroup. Grid: (tiles of 32 gates and their 32 ups; for a batch
// that is grouped by expert its tiles of slots, else its (token, choice) pairs).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/weights.glsl"
#include "common/norm.glsl"
layout(constant_id = 4) const uint ACTIVE = 4;
layout(constant_id = 5) const bool GROUPED = false;
#include "common/experts.glsl"
#include "common/swiglu.glsl"

layout(push_constant) uniform Push { GateUpArgs a; };

// The workgroup's: one expert, and its (token, choice) slots.
uint expert, first_slot, n_slots;

uint input_token(uint t) {
    uint slot = first_slot + min(t, n_slots - 1);
    return (GROUPED ? a.slots.v[slot] : slot) / ACTIVE;
}

uint own_row(uint t) { return GROUPED ? a.slots.v[first_slot + t] : first_slot; }

vec2 bias_pair(uint row, uint i) {
    uint at = (row * gl_NumWorkGroups.x + gl_WorkGroupID.x) * TILE_ROWS + i;
    return vec2(a.bias.v[at], a.bias.v[at + 32]);
}

void main() {
    uint tile = gl_WorkGroupID.x, i = gl_LocalInvocationID.x;
    if (GROUPED) {
        expert = a.tiles.v[gl_WorkGroupID.y * 3];
        first_slot = a.tiles.v[gl_WorkGroupID.y * 3 + 1];
        n_slots = a.tiles.v[gl_WorkGroupID.y * 3 + 2];
        if (n_slots == 0) return;
    } else {
        expert = choose_expert(a.logits, gl_WorkGroupID.y / ACTIVE, a.n_experts, gl_WorkGroupID.y % ACTIVE).expert;
        if (tile == 0 && i == 0) atomicAdd(a.uses.v[expert], 1);
        first_slot = gl_WorkGroupID.y;
        n_slots = 1;
    }
    [[unroll]] for (uint t = 0; t < TOKENS; t++) x_row[t] = input_token(t) * (a.src.cols / 4);
    [[unroll]] for (uint s = 0; s < ROWS * TOKENS; s++) sums[s] = 0;
    multiply_tile(a.experts.v[expert].gate_up, tile, a.src.cols, a.src.x);
    share_norm_scales(a.src);
    share_sums();
    if (i >= 32) return;
    uint tiles = gl_NumWorkGroups.x;
    vec2 bias = bias_pair(a.own_bias != 0 ? own_row(0) : expert, i);
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        if (t < n_slots) {
            if (a.own_bias != 0) bias = bias_pair(own_row(t), i);
            vec2 y = tile_pair(t) * shared_norm_scale(t) + bias;
            a.y.v[((first_slot + t) * tiles + tile) * 32 + i] = swiglu(y, a.limit, a.alpha);
        }
    }
}
