// Weight tiles: how matrices lie in device memory, and the inner product of a tile's rows with activations.
//
// A matrix (rows, cols) is cut into tiles of 64 rows, the last one padded with zeros; a tile follows the other. A tile
// is a sequence of groups: 16 bytes of each of its 64 rows, row after row, 1024 bytes in all. A lane holds one row of
// each half tile, so that lanes read consecutive 16-byte vectors and activations are the same for all of them.
//
//   F32    4 values a group            F16, BF16   8 values a group
//   Q8     chunks of 128 columns: 64 rows x 4 float16 scales (512 bytes), then 16 int8 values a group
//   MXFP4  chunks of 128 columns: 64 rows x 4 biased exponents (256 bytes), then 32 values a group, value 2j in the
//          low nibble of byte j
#include "args.h"
#include "float16.glsl"
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_arithmetic : require

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 32;
layout(constant_id = 1) const uint LANES = 32;     // 32: a lane has two rows; 64: one
layout(constant_id = 2) const uint TOKENS = 1;     // rows of activations that share a weight read
layout(constant_id = 3) const uint WEIGHT = WEIGHT_BF16;

const uint SPLITS = WORKGROUP / LANES;  // the columns of a tile are dealt to this many groups of lanes
const uint ROWS = TILE_ROWS / LANES;    // rows of a lane: lane, and lane + 32

// Groups of a block of 32 columns, and vectors that hold the scales of a chunk of four blocks.
const uint GROUPS = WEIGHT == WEIGHT_MXFP4 ? 1 : WEIGHT == WEIGHT_Q8 ? 2 : WEIGHT == WEIGHT_F32 ? 8 : 4;
const uint SCALE_VECTORS = WEIGHT == WEIGHT_MXFP4 ? 16 : WEIGHT == WEIGHT_Q8 ? 32 : 0;

// Unrolling all four blocks of a chunk doubles the speed of one token on a CPU, and takes long to compile for many.
const bool UNROLL = WEIGHT == WEIGHT_MXFP4 && TOKENS == 1;

// So many tokens, a multiple of PART, that their sums would fill more registers than there are: a block's weights are
// unpacked as a whole, and then multiplied by a part of the tokens at a time. For processors.
const bool BY_PARTS = TOKENS > 8;
const uint PART = 4;

uint lane() { return gl_LocalInvocationID.x % LANES; }
// Said to be the same for a subgroup where it is, so that what depends on it alone is loaded once.
uint split() {
    uint split = SPLITS == 1 ? 0 : gl_LocalInvocationID.x / LANES;
    return gl_SubgroupSize <= LANES ? subgroupBroadcastFirst(split) : split;
}

// uvec4 vectors of one tile
uint tile_vectors(uint cols) { return (cols + 127) / 128 * SCALE_VECTORS + cols / 32 * GROUPS * 64; }

vec2 unpack_bf16(uint two) { return uintBitsToFloat(uvec2(two << 16, two & 0xffff0000u)); }

vec4 unpack_i8(uint four) {
    ivec4 v = ivec4(int(four << 24), int(four << 16), int(four << 8), int(four)) >> 24;
    return vec4(v);
}

// Eight E2M1 codes in the form from which floats are cut out: a nibble each of sign, whether it is not 0, two bits; and a
// nibble each of 0, exponent, mantissa. 0.5, which E2M1 has as a subnormal, becomes the power of two below 1 that it is,
// so that the floats are normal: devices may take subnormal ones for 0.
void spread_e2m1(uint eight, out uint top, out uint bits) {
    uint magnitude = eight & 0x77777777u;
    top = (eight & 0x88888888u) | (magnitude + 0x77777777u >> 1 & 0x44444444u);
    bits = magnitude & (magnitude >> 1 | magnitude >> 2 | 0x66666666u);
}

// Value i of them times 4, as a float32 with the bit for a value other than 0 at the top of the exponent.
float e2m1(uint top, uint bits, uint i) {
    uint sign_top = top << 28 - 4 * i & 0xc0000000u;
    uint low = (i < 6 ? bits << 22 - 4 * i : bits >> 4 * i - 22) & 0x01c00000u;
    return uintBitsToFloat(sign_top | low);
}

// Eight E2M1 values times 4.
void unpack_e2m1(uint eight, out vec4 low, out vec4 high) {
    uint top, bits;
    spread_e2m1(eight, top, bits);
    low = vec4(e2m1(top, bits, 0), e2m1(top, bits, 1), e2m1(top, bits, 2), e2m1(top, bits, 3));
    high = vec4(e2m1(top, bits, 4), e2m1(top, bits, 5), e2m1(top, bits, 6), e2m1(top, bits, 7));
}

// The scale of a block, 2^(e - 127), over the 4 that unpack_e2m1 multiplies by.
float mxfp4_scale(uint e) { return uintBitsToFloat(max(e, 3u) - 2 << 23); }

// What a lane adds up: row r of the lane times token t at sums[r * TOKENS + t], and apart the block of 32 columns at
// hand, which its scale is applied to as a whole. x_row: where each token's row of activations begins, in vec4. Globals,
// because a function cannot take arrays sized by a specialization constant.
float sums[ROWS * TOKENS];
float block_sums[ROWS * TOKENS];
uint x_row[TOKENS];

// block_sums += four weights of each of the lane's rows x the same four columns of every token
void multiply4(vec4 w[2], Vec4 x, uint column4) {
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        vec4 a = x.v[x_row[t] + column4];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            float s = block_sums[r * TOKENS + t];
            s = fma(w[r].x, a.x, s);
            s = fma(w[r].y, a.y, s);
            s = fma(w[r].z, a.z, s);
            block_sums[r * TOKENS + t] = fma(w[r].w, a.w, s);
        }
    }
}

// Unpacks the group of vectors g (one of each row of the lane) and multiplies it.
void multiply_group(uvec4 g[2], Vec4 x, uint column4) {
    vec4 w[2];
    if (WEIGHT == WEIGHT_F32) {
        [[unroll]] for (uint r = 0; r < ROWS; r++) w[r] = uintBitsToFloat(g[r]);
        multiply4(w, x, column4);
    } else if (WEIGHT == WEIGHT_BF16 || WEIGHT == WEIGHT_F16) {
        [[unroll]] for (uint i = 0; i < 2; i++) {
            [[unroll]] for (uint r = 0; r < ROWS; r++)
                w[r] = WEIGHT == WEIGHT_BF16 ? vec4(unpack_bf16(g[r][2 * i]), unpack_bf16(g[r][2 * i + 1]))
                                             : vec4(unpack_halves(g[r][2 * i]), unpack_halves(g[r][2 * i + 1]));
            multiply4(w, x, column4 + i);
        }
    } else if (WEIGHT == WEIGHT_Q8) {
        [[unroll]] for (uint i = 0; i < 4; i++) {
            [[unroll]] for (uint r = 0; r < ROWS; r++) w[r] = unpack_i8(g[r][i]);
            multiply4(w, x, column4 + i);
        }
    } else {
        [[unroll]] for (uint i = 0; i < 4; i++) {
            vec4 high[2];
            [[unroll]] for (uint r = 0; r < ROWS; r++) unpack_e2m1(g[r][i], w[r], high[r]);
            multiply4(w, x, column4 + 2 * i);
            multiply4(high, x, column4 + 2 * i + 1);
        }
    }
}

// The scale of each of the lane's rows for a chunk of 128 columns, as stored: 4 exponents, or 4 float16.
uvec2 chunk_scales(Tiles w, uint at, uint row) {
    if (WEIGHT == WEIGHT_MXFP4) return uvec2(U32(w).v[at * 4 + row], 0);
    if (WEIGHT == WEIGHT_Q8) return uvec2(U32(w).v[at * 4 + 2 * row], U32(w).v[at * 4 + 2 * row + 1]);
    return uvec2(0);
}

float block_scale(uvec2 scales, uint block) {
    if (WEIGHT == WEIGHT_MXFP4) return mxfp4_scale(scales.x >> (8 * block) & 255u);
    if (WEIGHT == WEIGHT_Q8) return unpack_scale((block < 2 ? scales.x : scales.y) >> (16 * (block & 1)));
    return 1;
}

// What vector i of a row's block of 32 columns holds.
void unpack_vector(uvec4 g, uint i, inout vec4 w[8]) {
    if (WEIGHT == WEIGHT_F32) {
        w[i] = uintBitsToFloat(g);
    } else if (WEIGHT == WEIGHT_BF16) {
        [[unroll]] for (uint j = 0; j < 2; j++) w[2 * i + j] = vec4(unpack_bf16(g[2 * j]), unpack_bf16(g[2 * j + 1]));
    } else if (WEIGHT == WEIGHT_F16) {
        [[unroll]] for (uint j = 0; j < 2; j++)
            w[2 * i + j] = vec4(unpack_halves(g[2 * j]), unpack_halves(g[2 * j + 1]));
    } else if (WEIGHT == WEIGHT_Q8) {
        [[unroll]] for (uint j = 0; j < 4; j++) w[4 * i + j] = unpack_i8(g[j]);
    } else {
        [[unroll]] for (uint j = 0; j < 4; j++) unpack_e2m1(g[j], w[2 * j], w[2 * j + 1]);
    }
}

// As multiply_block below, and in the same order for each sum.
void multiply_block_by_parts(Tiles w, uint at, uint b, uvec2 scales[2], Vec4 x, uint column4) {
    vec4 unpacked[2][8];
    float scale[2];
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        uint group = at + SCALE_VECTORS + b * GROUPS * 64 + lane() + r * LANES;
        [[unroll]] for (uint i = 0; i < GROUPS; i++) unpack_vector(w.v[group + i * 64], i, unpacked[r]);
        scale[r] = block_scale(scales[r], b);
    }
    [[unroll]] for (uint first = 0; first < TOKENS; first += PART) {
        float s[ROWS * PART];
        [[unroll]] for (uint t = 0; t < ROWS * PART; t++) s[t] = 0;
        [[unroll]] for (uint i = 0; i < 8; i++) {
            [[unroll]] for (uint t = 0; t < PART; t++) {
                vec4 a = x.v[x_row[first + t] + column4 + b * 8 + i];
                [[unroll]] for (uint c = 0; c < 4; c++)
                    [[unroll]] for (uint r = 0; r < ROWS; r++)
                        s[r * PART + t] = fma(unpacked[r][i][c], a[c], s[r * PART + t]);
            }
        }
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            [[unroll]] for (uint t = 0; t < PART; t++)
                sums[r * TOKENS + first + t] = fma(s[r * PART + t], scale[r], sums[r * TOKENS + first + t]);
    }
}

// sums += block b of a chunk, which begins at vector `at` of w and at vec4 column4 of the activations' rows.
void multiply_block(Tiles w, uint at, uint b, uvec2 scales[2], Vec4 x, uint column4) {
    if (BY_PARTS) {
        multiply_block_by_parts(w, at, b, scales, x, column4);
        return;
    }
    [[unroll]] for (uint s = 0; s < ROWS * TOKENS; s++) block_sums[s] = 0;
    [[unroll]] for (uint i = 0; i < GROUPS; i++) {
        uvec4 g[2];
        uint group = at + SCALE_VECTORS + (b * GROUPS + i) * 64 + lane();
        [[unroll]] for (uint r = 0; r < ROWS; r++) g[r] = w.v[group + r * LANES];
        multiply_group(g, x, column4 + b * 8 + i * (8 / GROUPS));
    }
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        float scale = block_scale(scales[r], b);
        [[unroll]] for (uint t = 0; t < TOKENS; t++)
            sums[r * TOKENS + t] = fma(block_sums[r * TOKENS + t], scale, sums[r * TOKENS + t]);
    }
}

// sums += the rows of a tile x TOKENS rows of x, as much of it as falls to the lane's split.
void multiply_tile(Tiles w, uint tile, uint cols, Vec4 x) {
    uint tile_start = tile * tile_vectors(cols);
    uint chunks = (cols + 127) / 128;
    for (uint chunk = split(); chunk < chunks; chunk += SPLITS) {
        uint at = tile_start + chunk * (SCALE_VECTORS + 4 * GROUPS * 64);
        uvec2 scales[2];
        [[unroll]] for (uint r = 0; r < ROWS; r++) scales[r] = chunk_scales(w, at, lane() + r * LANES);
        uint blocks = min(4, cols / 32 - chunk * 4);
        if (UNROLL) {
            [[unroll]] for (uint b = 0; b < 4; b++) {
                if (b >= blocks) break;
                multiply_block(w, at, b, scales, x, chunk * 32);
            }
        } else {
            for (uint b = 0; b < blocks; b++) multiply_block(w, at, b, scales, x, chunk * 32);
        }
    }
}

const bool DIRECT = SPLITS == 1 && ROWS == 2;  // a lane already holds what tile_pair gives
shared float split_sums[DIRECT ? 1 : WORKGROUP * ROWS * TOKENS];

// Before tile_pair, by the whole workgroup.
void share_sums() {
    if (DIRECT) return;
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++) split_sums[i * WORKGROUP + gl_LocalInvocationID.x] = sums[i];
    barrier();
}

// Rows i and i + 32 of the tile for token t: for invocations i < 32 only, t a constant after unrolling.
vec2 tile_pair(uint t) {
    if (DIRECT) return vec2(sums[t], sums[(ROWS - 1) * TOKENS + t]);
    uint i = gl_LocalInvocationID.x;
    vec2 pair = vec2(0);
    for (uint s = 0; s < SPLITS; s++) {
        uint at = t * WORKGROUP + s * LANES + i;
        pair += ROWS == 2 ? vec2(split_sums[at], split_sums[at + TOKENS * WORKGROUP])
                          : vec2(split_sums[at], split_sums[at + 32]);
    }
    return pair;
}

// For a batch in order: the workgroup's tokens are first_token() + t; the ones past the end repeat the last.
uint first_token() { return gl_WorkGroupID.y * TOKENS; }

void multiply_tokens(Tiles w, uint tile, uint cols, Vec4 x, uint n_tokens) {
    [[unroll]] for (uint t = 0; t < TOKENS; t++) x_row[t] = min(first_token() + t, n_tokens - 1) * (cols / 4);
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++) sums[i] = 0;
    multiply_tile(w, tile, cols, x);
}

// One weight of a dense matrix.
float weight_at(Tiles w, uint row, uint column, uint cols) {
    uint at = row / TILE_ROWS * tile_vectors(cols), r = row % TILE_ROWS;
    if (WEIGHT == WEIGHT_F32) return uintBitsToFloat(w.v[at + column / 4 * 64 + r][column % 4]);
    if (WEIGHT == WEIGHT_Q8) {
        at += column / 128 * (32 + 8 * 64);
        uint scales = U32(w).v[at * 4 + 2 * r + column % 128 / 64];
        float scale = unpack_scale(scales >> (16 * (column / 32 & 1)));
        return unpack_i8(w.v[at + 32 + column % 128 / 16 * 64 + r][column / 4 % 4])[column % 4] * scale;
    }
    uint two = w.v[at + column / 8 * 64 + r][column / 2 % 4];
    vec2 pair = WEIGHT == WEIGHT_BF16 ? unpack_bf16(two) : unpack_halves(two);
    return pair[column % 2];
}
