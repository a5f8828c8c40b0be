// The choice of a token's experts from the router's logits, by every subgroup for itself.
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_ballot : require

uint chosen[ACTIVE];
float chosen_weight[ACTIVE];

// The ACTIVE largest logits of the token, ties to the lower index, and the softmax over them alone.
void choose_experts(F32 logits, uint token, uint n_experts) {
    uvec4 invocations = subgroupBallot(true);
    uint first = subgroupBallotExclusiveBitCount(invocations), step = subgroupBallotBitCount(invocations);
    float value[ACTIVE];
    [[unroll]] for (uint j = 0; j < ACTIVE; j++) {
        float best = -3.0e38;
        uint best_index = n_experts;
        for (uint e = first; e < n_experts; e += step) {
            float v = logits.v[token * n_experts + e];
            bool taken = false;
            [[unroll]] for (uint i = 0; i < j; i++) taken = taken || chosen[i] == e;
            if (!taken && v > best) {
                best = v;
                best_index = e;
            }
        }
        value[j] = subgroupMax(best);
        // a NaN among the logits must not become an index out of range
        chosen[j] = min(subgroupMin(best == value[j] ? best_index : n_experts), n_experts - 1);
    }
    float sum = 0;
    [[unroll]] for (uint j = 0; j < ACTIVE; j++) sum += chosen_weight[j] = exp(value[j] - value[0]);
    [[unroll]] for (uint j = 0; j < ACTIVE; j++) chosen_weight[j] /= sum;
}
