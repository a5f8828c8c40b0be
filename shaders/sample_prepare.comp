// The logits after bias, penalties, temperature and mask, and what sample needs to know of each block of them. Grid: (blocks, rows).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/sample.glsl"

float adjust(SampleRow s, float logit, uint id) {
    // by its bits: a compiler may take for granted that there are no NaNs
    if ((floatBitsToUint(logit) & 0x7fffffffu) > 0x7f800000u) return LOWEST;
    if ((s.flags & SAMPLE_BIASED) != 0) logit += s.bias.v[id];
    if (s.repetition != 1 || s.presence != 0 || s.frequency != 0) {
        uint count = s.counts.v[id];
        if ((count & IN_CONTEXT) != 0) logit = logit > 0 ? logit / s.repetition : logit * s.repetition;
        count &= ~IN_CONTEXT;
        if (count > 0) logit -= s.presence + count * s.frequency;
    }
    if (s.temperature > 0) logit /= s.temperature;
    return clamp(logit, LOWEST, -LOWEST);
}

void main() {
    SampleRow s = settings();
    uint i = gl_WorkGroupID.x * WORKGROUP + gl_LocalInvocationID.x;
    vec4 logit = vec4(PADDING);
    if (4 * i < a.vocab) {
        vec4 given = a.logits.v[first_vec4() + i];
        uint may = (s.flags & SAMPLE_MASKED) != 0 ? s.mask.v[i / 8] >> (i % 8 * 4) : 15;
        [[unroll]] for (uint c = 0; c < 4; c++) {
            if (4 * i + c < a.vocab && (may >> c & 1) != 0) logit[c] = adjust(s, given[c], 4 * i + c);
            a.adjusted.v[row() * a.stride + 4 * i + c] = logit[c];
        }
    }
    vec4 noisy = s.temperature > 0 ? logit + noise(i, a.tokens.v[row()].position + 1) : logit;
    Place drawn = Place(noisy.x, 4 * i);
    [[unroll]] for (uint c = 1; c < 4; c++)
        if (noisy[c] > drawn.logit) drawn = Place(noisy[c], 4 * i + c);
    drawn = workgroup_first(drawn);
    float maximum = workgroup_max(max(max(logit.x, logit.y), max(logit.z, logit.w)));
    float sum = workgroup_sum(dot(exp(logit - maximum), vec4(1)));
    if (gl_LocalInvocationID.x == 0)
        a.blocks.v[first_block() + gl_WorkGroupID.x] = SampleBlock(maximum, sum, drawn.logit, drawn.id);
}
