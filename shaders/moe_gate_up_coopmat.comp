// As moe_gate_up.comp for a batch grouped by expert. Grid: (tiles of 32 gates and their 32 ups, tiles of slots).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/coopmat.glsl"
#include "common/swiglu.glsl"

layout(push_constant) uniform Push { GateUpCoopmatArgs a; };

uint slot_tile(uint field) { return a.tiles.v[gl_WorkGroupID.y * 3 + field]; }

uint input_row(uint column) { return a.slots.v[slot_tile(1) + column] / a.n_active; }

float finish(uint row, uint column, vec2 sums) {
    uint owner = a.own_bias != 0 ? a.slots.v[slot_tile(1) + column] : slot_tile(0);
    uint bias = (owner * gl_NumWorkGroups.x + gl_WorkGroupID.x) * TILE_ROWS + row;
    vec2 y = sums * a.src.scales.v[input_row(column)] + vec2(a.bias.v[bias], a.bias.v[bias + 32]);
    return swiglu(y, a.limit, a.alpha) * a.y_scale;
}

// Eight rows of a column at a time to memory.
void gather(uint row, uint column, uint n) {
    for (uint i = gl_SubgroupInvocationID; i < M / 8 * n; i += LANES) {
        uint c = i / (M / 8), r = i % (M / 8) * 8, at = results_at() + c * M + r;
        vec4 low = vec4(results[at], results[at + 1], results[at + 2], results[at + 3]);
        vec4 high = vec4(results[at + 4], results[at + 5], results[at + 6], results[at + 7]);
        uint slot = slot_tile(1) + column + c;
        a.y.v[(slot * gl_NumWorkGroups.x + gl_WorkGroupID.x) * 4 + (row + r) / 8] = to_halves(low, high);
    }
}

void main() {
    if (slot_tile(2) == 0) return;
    multiply_coopmat(a.experts.v[slot_tile(0)].gate_up, gl_WorkGroupID.x, a.src, slot_tile(2));
}
