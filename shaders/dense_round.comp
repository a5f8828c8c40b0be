// Activations as integers of 16 bits, block by block. Grid: any whose workgroups are as many as the rows, in x and y. See
// RoundArgs.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/weights.glsl"
#include "common/norm.glsl"

layout(buffer_reference, std430, buffer_reference_align = 16) writeonly buffer Written { IntegerBlock v[]; };
layout(push_constant) uniform Push { RoundArgs a; };

const float LARGEST = 32639;  // both of whose digits are 127

uint pack_bytes(ivec4 v) {
    uvec4 bytes = uvec4(v) & 255u;
    return bytes.x | bytes.y << 8 | bytes.z << 16 | bytes.w << 24;
}

void main() {
    uint row = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x, blocks = a.src.cols / 32;
    float norm = norm_scale(a.src, row);
    for (uint b = gl_LocalInvocationID.x; b < blocks; b += WORKGROUP) {
        uint block = row * blocks + b;
        vec4 top = vec4(1e-30);  // what is smaller than that vanishes
        [[unroll]] for (uint i = 0; i < 8; i++) top = max(top, abs(a.src.x.v[block * 8 + i]));
        float largest = max(max(top.x, top.y), max(top.z, top.w));
        IntegerBlock y;
        [[unroll]] for (uint i = 0; i < 4; i++) {
            vec4 low = a.src.x.v[block * 8 + 2 * i] * (LARGEST / largest);
            vec4 high = a.src.x.v[block * 8 + 2 * i + 1] * (LARGEST / largest);
            ivec4 even = ivec4(roundEven(vec4(low.xz, high.xz))), odd = ivec4(roundEven(vec4(low.yw, high.yw)));
            ivec4 even_digit = even + 128 >> 8, odd_digit = odd + 128 >> 8;
            y.high_even[i] = pack_bytes(even_digit);
            y.high_odd[i] = pack_bytes(odd_digit);
            y.low_even[i] = pack_bytes(even - (even_digit << 8));
            y.low_odd[i] = pack_bytes(odd - (odd_digit << 8));
        }
        Written(a.y).v[block] = y;
        a.scales.v[block] = norm * largest / LARGEST;
    }
}
