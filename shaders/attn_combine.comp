// Joins the splits of attention. Grid: (heads, tokens); 64 invocations, one a dimension.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "args.h"

layout(local_size_x = 64) in;
layout(push_constant) uniform Push { CombineArgs a; };

void main() {
    uint head = gl_WorkGroupID.y * a.n_heads + gl_WorkGroupID.x, i = gl_LocalInvocationID.x;
    float sink = a.sinks.v[gl_WorkGroupID.x];
    float top = sink;
    uint first = head * a.n_splits * 66;
    for (uint s = 0; s < a.n_splits; s++) top = max(top, a.parts.v[first + s * 66 + 64]);
    float denominator = exp(sink - top), sum = 0;
    for (uint s = 0; s < a.n_splits; s++) {
        uint at = first + s * 66;
        float weight = exp(a.parts.v[at + 64] - top);
        denominator += weight * a.parts.v[at + 65];
        sum += weight * a.parts.v[at + i];
    }
    a.y.v[head * HEAD_DIM + i] = sum / denominator;
}
