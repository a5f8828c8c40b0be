// The low-rank pairs of adapters; see LoraPair in args.h. Include after float16.glsl.

// Two 16-bit weights of a word. Float16 subnormals count: adapters' weights may all be that small.
vec2 lora_halves(LoraPair p, uint two) {
    if (p.weight == WEIGHT_F16) return vec2(unpack_scale(two & 0xffffu), unpack_scale(two >> 16));
    return uintBitsToFloat(uvec2(two << 16, two & 0xffff0000u));
}

// Weights 4 i … 4 i + 3 of A, counted from its first.
vec4 lora_quad(LoraPair p, uint i) {
    if (p.weight == WEIGHT_F32)
        return uintBitsToFloat(uvec4(p.a.v[4 * i], p.a.v[4 * i + 1], p.a.v[4 * i + 2], p.a.v[4 * i + 3]));
    return vec4(lora_halves(p, p.a.v[2 * i]), lora_halves(p, p.a.v[2 * i + 1]));
}

// Rows i and i + 32 of a tile of B times a row of `shrunk`, which begins at `at`.
vec2 lora_expand(LoraPair p, F32 shrunk, uint at, uint tile, uint i) {
    vec2 sum = vec2(0);
    uint first = tile * p.rank * 32 + i;
    for (uint k = 0; k < p.rank; k++) {
        uint word = first + k * 32;
        vec2 w;
        if (p.weight == WEIGHT_F32)
            w = uintBitsToFloat(uvec2(p.b.v[2 * word], p.b.v[2 * word + 1]));
        else
            w = lora_halves(p, p.b.v[word]);
        sum = fma(w, vec2(shrunk.v[at + k]), sum);
    }
    return sum;
}
