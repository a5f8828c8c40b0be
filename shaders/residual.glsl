// How kernels end that add to the residual; see Residual in args.h. Include after weights.glsl or a local size.
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require

shared float subgroup_squares[WORKGROUP / 4 * TOKENS];  // a subgroup has at least 4 invocations
float pair_squares[TOKENS];

// By invocations i < 32, for each t: rows i and i + 32 of the tile are now `value`; pair_squares[t] gets their squares.
void store_residual(Residual r, uint token, uint tile, uint t, vec2 value) {
    uint row = tile * TILE_ROWS + gl_LocalInvocationID.x;
    float squares = 0;
    [[unroll]] for (uint half_tile = 0; half_tile < 2; half_tile++, row += 32)
        if (row < r.hidden) {
            uint at = token * r.hidden + row;
            float x = value[half_tile];
            r.x.v[at] = x;
            r.normed.v[at] = x * r.norm.v[row];
            squares += x * x;
        }
    pair_squares[t] = squares;
}

vec2 load_residual(Residual r, uint token, uint tile) {
    uint row = tile * TILE_ROWS + gl_LocalInvocationID.x;
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
