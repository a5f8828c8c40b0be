// What sample_prepare and sample share: the noise of a draw, the order of tokens, sums over the workgroup.
//
// A token is drawn as the arg-max of logit + noise, where the noise is Gumbel distributed: that is a draw from the
// softmax of the logits, and over any subset of the tokens it is a draw from the softmax over that subset.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "args.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 128;
layout(push_constant) uniform Push { SampleArgs a; };

// This workgroup's row, and where it begins in what the rows share.
uint row() { return gl_WorkGroupID.y; }
uint first_block() { return row() * gl_NumWorkGroups.x; }
uint first_vec4() { return row() * (a.stride / 4); }
SampleRow settings() { return a.rows.v[row()]; }

const float LOWEST = -3.0e38;   // the least adjusted logit
const float PADDING = -3.3e38;  // of ids past the vocabulary and of masked tokens: less than any other's
const uint NONE = 0xffffffffu;

shared float float_parts[WORKGROUP / 4];  // a subgroup has at least 4 invocations
shared uint uint_parts[WORKGROUP / 4];

// By the whole workgroup, in uniform control flow, like the two below.
float workgroup_max(float value) {
    float part = subgroupMax(value);
    barrier();
    if (subgroupElect()) float_parts[gl_SubgroupID] = part;
    barrier();
    float result = float_parts[0];
    for (uint s = 1; s < gl_NumSubgroups; s++) result = max(result, float_parts[s]);
    return result;
}

float workgroup_sum(float value) {
    float part = subgroupAdd(value);
    barrier();
    if (subgroupElect()) float_parts[gl_SubgroupID] = part;
    barrier();
    float result = 0;
    for (uint s = 0; s < gl_NumSubgroups; s++) result += float_parts[s];
    return result;
}

uint workgroup_min(uint value) {
    uint part = subgroupMin(value);
    barrier();
    if (subgroupElect()) uint_parts[gl_SubgroupID] = part;
    barrier();
    uint result = uint_parts[0];
    for (uint s = 1; s < gl_NumSubgroups; s++) result = min(result, uint_parts[s]);
    return result;
}

// A token's place in the order of likelihood: by logit, ties by id.
struct Place {
    float logit;
    uint id;
};

bool before(float logit, uint id, Place place) {
    return logit > place.logit || (logit == place.logit && id < place.id);
}

// The first in order over the workgroup of one place of each invocation.
Place workgroup_first(Place mine) {
    float logit = workgroup_max(mine.logit);
    return Place(logit, workgroup_min(mine.logit == logit ? mine.id : NONE));
}

// Philox4x32-10 (Salmon and others, 2011): 128 random bits of each (counter, key), integers only.
uvec4 philox(uvec4 counter, uvec2 key) {
    for (uint round = 0; round < 10; round++) {
        uint high_x, low_x, high_z, low_z;
        umulExtended(0xd2511f53u, counter.x, high_x, low_x);
        umulExtended(0xcd9e8d57u, counter.z, high_z, low_z);
        counter = uvec4(high_z ^ counter.y ^ key.x, low_z, high_x ^ counter.w ^ key.y, low_x);
        key += uvec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return counter;
}

// The noise of tokens 4 i … 4 i + 3 at a position, from the row's seed: -log of an exponential variate, which is -log(1 - u). Near 0, where
// the winners come from, the logarithm would lose the variate's digits.
vec4 noise(uint i, uint position) {
    uvec4 bits = philox(uvec4(i, position, 0, 0), uvec2(a.rows.v[row()].seed_low, a.rows.v[row()].seed_high));
    vec4 u = min((vec4(bits) + 0.5) * 2.3283064e-10, 0.99999994);
    vec4 series = u * (1 + u * (1.0 / 2 + u * (1.0 / 3 + u / 4)));
    return -log(mix(-log(1 - u), series, lessThan(u, vec4(0.015625))));
}
