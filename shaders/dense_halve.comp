// Activations as float16, each row times a power of two. Grid: (tokens). See HalveArgs.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "common/weights.glsl"
#include "common/norm.glsl"
#include "common/half.glsl"

layout(push_constant) uniform Push { HalveArgs a; };

shared float largest[WORKGROUP / 4];  // a subgroup has at least 4 invocations

void main() {
    uint token = gl_WorkGroupID.x, id = gl_LocalInvocationID.x, n = a.src.cols / 8, first = token * n;
    vec4 top = vec4(0);
    for (uint i = id; i < n; i += WORKGROUP)
        top = max(top, max(abs(a.src.x.v[2 * (first + i)]), abs(a.src.x.v[2 * (first + i) + 1])));
    float row_top = subgroupMax(max(max(top.x, top.y), max(top.z, top.w)));
    if (subgroupElect()) largest[gl_SubgroupID] = row_top;
    barrier();
    for (uint s = 0; s < gl_NumSubgroups; s++) row_top = max(row_top, largest[s]);
    // 2^14 over the power of two at or below the largest, within what leaves room for products
    uint exponent = clamp(floatBitsToUint(row_top) >> 23, 27u, 227u);
    float scale = uintBitsToFloat(268 - exponent << 23);
    for (uint i = id; i < n; i += WORKGROUP) {
        vec4 low = a.src.x.v[2 * (first + i)] * scale, high = a.src.x.v[2 * (first + i) + 1] * scale;
        if (a.terms == 2) {
            // cut off in the bits: compilers drop a conversion there and back
            vec4 low_top = uintBitsToFloat(floatBitsToUint(low) & 0xffffe000u);
            vec4 high_top = uintBitsToFloat(floatBitsToUint(high) & 0xffffe000u);
            a.y.v[a.src.n_tokens * n + first + i] = to_halves(low - low_top, high - high_top);
            low = low_top;
            high = high_top;
        }
        a.y.v[first + i] = to_halves(low, high);
    }
    float norm = norm_scale(a.src, token);
    if (id == 0) a.scales.v[token] = norm / scale;
}
