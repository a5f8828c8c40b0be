// Sorts the (token, choice) pairs of a batch by expert and cuts each expert's into tiles. One workgroup.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "args.h"
layout(local_size_x = 128) in;
layout(push_constant) uniform Push { RouteArgs a; };

shared uint count[MAX_EXPERTS];  // slots of an expert, then where its next slot goes

void main() {
    uint id = gl_LocalInvocationID.x, n_slots = a.n_tokens * a.n_active;
    for (uint e = id; e < a.n_experts; e += 128) count[e] = 0;
    barrier();
    for (uint s = id; s < n_slots; s += 128) atomicAdd(count[a.experts.v[s]], 1);
    barrier();
    for (uint e = id; e < a.n_experts; e += 128) a.uses.v[e] += count[e];
    barrier();
    if (id == 0) {
        uint start = 0, tile = 0;
        for (uint e = 0; e < a.n_experts; e++) {
            uint n = count[e];
            count[e] = start;
            for (uint i = 0; i < n; i += a.tile_slots, tile++) {
                a.tiles.v[tile * 3] = e;
                a.tiles.v[tile * 3 + 1] = start + i;
                a.tiles.v[tile * 3 + 2] = min(a.tile_slots, n - i);
            }
            start += n;
        }
        for (; tile < a.n_tiles; tile++) a.tiles.v[tile * 3 + 2] = 0;
    }
    barrier();
    // the order within an expert is left to chance: no result depends on it
    for (uint s = id; s < n_slots; s += 128) a.slots.v[atomicAdd(count[a.experts.v[s]], 1)] = s;
}
