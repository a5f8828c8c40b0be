// As moe_down_slots.comp. Grid: (tiles of 64 rows, tiles of slots).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/coopmat.glsl"

layout(push_constant) uniform Push { DownCoopmatArgs a; };

uint slot_tile(uint field) { return a.tiles.v[gl_WorkGroupID.y * 3 + field]; }

uint input_row(uint column) { return slot_tile(1) + column; }

float finish(uint row, uint column, vec2 sums) {
    uint bias = (slot_tile(0) * gl_NumWorkGroups.x + gl_WorkGroupID.x) * TILE_ROWS + row;
    row += gl_WorkGroupID.x * TILE_ROWS;
    uint at = a.slots.v[slot_tile(1) + column] * a.hidden + row;
    if (row < a.hidden) a.y.v[at] = sums.x + a.bias.v[bias];
    if (row + 32 < a.hidden) a.y.v[at + 32] = sums.y + a.bias.v[bias + 32];
    return 0;
}

void gather(uint row, uint column, uint n) {}

void main() {
    if (slot_tile(2) == 0) return;
    multiply_coopmat(a.experts.v[slot_tile(0)].down, gl_WorkGroupID.x, a.src, slot_tile(2));
}
