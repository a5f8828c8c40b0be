// The experts of every token of a batch and their weights. Grid: (tokens).
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "args.h"
layout(local_size_x = 32) in;
layout(constant_id = 0) const uint ACTIVE = 4;
#include "common/experts.glsl"

layout(push_constant) uniform Push { RouteArgs a; };

void main() {
    uint token = gl_WorkGroupID.x;
    for (uint j = 0; j < ACTIVE; j++) {
        Choice chosen = choose_expert(a.logits, token, a.n_experts, j);
        if (gl_LocalInvocationID.x != 0) continue;
        a.experts.v[token * ACTIVE + j] = chosen.expert;
        a.weights.v[token * ACTIVE + j] = chosen.weight;
    }
}
