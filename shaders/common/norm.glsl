// The scales of RMSNorm, which the kernels apply that read a residual's normed rows; include after weights.glsl.
// A token row's norm: what its sums of squares make of the scale 1 / sqrt(mean + eps). By whole subgroups, each for itself;
// one may have fewer invocations than its size.
float norm_scale(Input a, uint token) {
    if (a.n_squares == 0) return 1;
    uvec4 invocations = subgroupBallot(true);
    uint first = subgroupBallotExclusiveBitCount(invocations), step = subgroupBallotBitCount(invocations);
    float sum = 0;
    for (uint i = first; i < a.n_squares; i += step) sum += a.squares.v[token * a.n_squares + i];
    return inversesqrt(subgroupAdd(sum) / a.cols + a.eps);
}

shared float norm_scales[TOKENS];
float only_norm_scale;

// By the whole workgroup, before share_sums: the norms of the rows that its tokens are.
uint input_token(uint t);
void share_norm_scales(Input a) {
    if (TOKENS == 1) {
        only_norm_scale = norm_scale(a, input_token(0));
        return;
    }
    for (uint t = gl_SubgroupID; t < TOKENS; t += gl_NumSubgroups) {
        float scale = norm_scale(a, input_token(t));
        if (subgroupElect()) norm_scales[t] = scale;
    }
    if (DIRECT) barrier();  // else share_sums has one
}
float shared_norm_scale(uint t) { return TOKENS == 1 ? only_norm_scale : norm_scales[t]; }
