// shrunk = scale · A·norm(x), a few rows of A a workgroup. Grid: (groups of RANKS rows, tokens, pairs of one input or
// choices of a token); see LoraShrinkArgs.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/weights.glsl"
#include "common/norm.glsl"
#include "common/lora.glsl"

layout(push_constant) uniform Push { LoraShrinkArgs a; };

const uint RANKS = 4;
shared float subgroup_sums[RANKS * WORKGROUP / 4];  // a subgroup has at least 4 invocations

// Four columns of a row of x.
vec4 input_quad(uint i) {
    if (a.halves == 0) return a.src.x.v[i];
    return vec4(unpack_halves(U32(a.src.x).v[2 * i]), unpack_halves(U32(a.src.x).v[2 * i + 1])) * a.x_scale;
}

void main() {
    uint id = gl_LocalInvocationID.x, first = gl_WorkGroupID.x * RANKS;
    // the row of shrunk
    uint row = gl_WorkGroupID.y * gl_NumWorkGroups.z + gl_WorkGroupID.z;
    uint token = gl_WorkGroupID.y, x_row = token, pair = a.l.pair;
    if (a.n_active == 0) {
        pair += gl_WorkGroupID.z;
    } else {
        if (a.by_slot != 0) {
            x_row = row;
            if (a.grouped != 0) row = a.slots.v[x_row];
            token = row / a.n_active;
        }
        pair += a.experts.v[row];
    }
    uint adapter = a.l.tokens.v[token].adapter;
    if (adapter == 0) return;
    LoraRow own = a.l.rows.v[adapter - 1];
    LoraPair p = own.pairs.v[pair];
    if (first >= p.rank) return;

    uint quads = a.src.cols / 4, x_first = x_row * quads;
    float sums[RANKS];
    [[unroll]] for (uint k = 0; k < RANKS; k++) sums[k] = 0;
    for (uint c = id; c < quads; c += WORKGROUP) {
        vec4 x = input_quad(x_first + c);
        [[unroll]] for (uint k = 0; k < RANKS; k++)
            sums[k] += dot(lora_quad(p, min(first + k, p.rank - 1) * quads + c), x);
    }
    float scale = p.scale * own.scale * norm_scale(a.src, token);
    [[unroll]] for (uint k = 0; k < RANKS; k++) {
        float sum = subgroupAdd(sums[k]);
        if (subgroupElect()) subgroup_sums[gl_SubgroupID * RANKS + k] = sum;
    }
    barrier();
    if (id >= min(RANKS, p.rank - first)) return;
    float sum = 0;
    for (uint s = 0; s < gl_NumSubgroups; s++) sum += subgroup_sums[s * RANKS + id];
    a.l.shrunk.v[row * a.l.max_rank + first + id] = sum * scale;
}
