// How kernels end that add to the residual; see Residual in args.h. Include after weights.glsl or a local size.
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require

shared float subgroup_squares[WORKGROUP / 4 * TOKENS];  // a subgroup has at least 4 invocations
float pair_squares[TOKENS];

// Row `row` of the token is now x; the square of it, 0 past the last row.
float store_row(Residual r, uint token, uint row, float x) {
    if (row >= r.hidden) return 0;
    uint at = token * r.hidden + row;
    r.x.v[at] = x;
    r.normed.v[at] = x * r.norm.v[row];
    return x * x;
}

// By invocations i < 32, for each t: rows i and i + 32 of the tile are now `value`; pair_squares[t] gets their squares.
void store_residual(Residual r, uint token, uint tile, uint t, vec2 value) {
    uint row = tile * TILE_ROWS + gl_LocalInvocationID.x;
    pair_squares[t] = store_row(r, token, row, value.x) + store_row(r, token, row + 32, value.y);
}

// Rows `row` and `row` + 32 of the token.
vec2 load_residual(Residual r, uint token, uint row) {
    uint at = token * r.hidden + row;
    return vec2(row < r.hidden ? r.x.v[at] : 0, row + 32 < r.hidden ? r.x.v[at + 32] : 0);
}

// By the whole workgroup, in uniform control flow, after pair_squares is set (0 where an invocation has no rows): stores
// the tile's sums of squares of tokens first … first + n - 1.
void store_squares(Residual r, uint first, uint n, uint tile) {
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        float sum = subgroupAdd(pair_squares[t]);
        if (subgroupElect()) subgroup_squares[gl_SubgroupID * TOKENS + t] = sum;
    }
    barrier();
    uint t = gl_LocalInvocationID.x;
    if (t >= min(n, TOKENS)) return;
    float sum = 0;
    for (uint s = 0; s < gl_NumSubgroups; s++) sum += subgroup_squares[s * TOKENS + t];
    r.squares.v[(first + t) * r.n_squares + tile] = sum;
}
