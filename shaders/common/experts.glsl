// The choice of a token's experts from the router's logits, by every subgroup for itself. Include after ACTIVE is declared.
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_ballot : require

// A token's expert and its weight: the softmax over the logits of the chosen ones alone.
struct Choice {
    uint expert;
    float weight;
};

// The expert with the next smaller logit, ties to the lower index: a walk through the order needs no list of those that
// were taken, which compilers would keep in memory.
struct Ranked {
    float logit;
    uint expert;
};

Ranked next_expert(F32 logits, uint token, uint n_experts, bool any, Ranked last) {
    uvec4 invocations = subgroupBallot(true);
    uint first = subgroupBallotExclusiveBitCount(invocations), step = subgroupBallotBitCount(invocations);
    Ranked best = Ranked(-3.0e38, n_experts);
    for (uint e = first; e < n_experts; e += step) {
        float v = logits.v[token * n_experts + e];
        bool left = any || v < last.logit || (v == last.logit && e > last.expert);
        if (left && v > best.logit) best = Ranked(v, e);
    }
    float top = subgroupMax(best.logit);
    // a NaN among the logits must not become an index out of range
    return Ranked(top, min(subgroupMin(best.logit == top ? best.expert : n_experts), n_experts - 1));
}

// The token's expert number `choice` of ACTIVE, the likeliest first.
Choice choose_expert(F32 logits, uint token, uint n_experts, uint choice) {
    Ranked last = Ranked(0, 0);
    Choice chosen = Choice(0, 0);
    float largest = 0, sum = 0;
    for (uint j = 0; j < ACTIVE; j++) {
        last = next_expert(logits, token, n_experts, j == 0, last);
        if (j == 0) largest = last.logit;
        float weight = exp(last.logit - largest);
        sum += weight;
        if (j == choice) chosen = Choice(last.expert, weight);
    }
    chosen.weight /= sum;
    return chosen;
}
