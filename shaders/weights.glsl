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
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_ballot : require

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 32;
layout(constant_id = 1) const uint LANES = 32;     // 32: a lane has two rows; 64: one
layout(constant_id = 2) const uint TOKENS = 1;     // rows of activations that share a weight read
layout(constant_id = 3) const uint WEIGHT = WEIGHT_BF16;

const uint SPLITS = WORKGROUP / LANES;  // the columns of a tile are dealt to this many groups of lanes
const uint ROWS = TILE_ROWS / LANES;    // rows of a lane: lane, and lane + 32

uint lane() { return gl_LocalInvocationID.x % LANES; }
uint split() { return SPLITS == 1 ? 0 : subgroupBroadcastFirst(gl_LocalInvocationID.x / LANES); }

// uvec4 vectors of one tile
uint tile_vectors(uint cols) {
    if (WEIGHT == WEIGHT_MXFP4) return (cols + 127) / 128 * 16 + cols / 32 * 64;
    if (WEIGHT == WEIGHT_Q8) return (cols + 127) / 128 * 32 + cols / 16 * 64;
    if (WEIGHT == WEIGHT_F32) return cols / 4 * 64;
    return cols / 8 * 64;
}

vec2 unpack_bf16(uint two) { return uintBitsToFloat(uvec2(two << 16, two & 0xffff0000u)); }

vec4 unpack_i8(uint four) {
    ivec4 v = ivec4(int(four << 24), int(four << 16), int(four << 8), int(four)) >> 24;
    return vec4(v);
}

// Eight E2M1 values times 2^-14: moved to where a float16 has its sign, its two low exponent bits and its high mantissa
// bit, they are just that, the subnormal 0.5 included.
void unpack_e2m1(uint eight, out vec4 low, out vec4 high) {
    const uint sign = 0x80008000u, magnitude = 0x0e000e00u;
    vec2 a = unpackHalf2x16((eight << 12 & sign) | (eight << 9 & magnitude));  // values 0 and 4
    vec2 b = unpackHalf2x16((eight << 8 & sign) | (eight << 5 & magnitude));   // 1 and 5
    vec2 c = unpackHalf2x16((eight << 4 & sign) | (eight << 1 & magnitude));   // 2 and 6
    vec2 d = unpackHalf2x16((eight & sign) | (eight >> 3 & magnitude));        // 3 and 7
    low = vec4(a.x, b.x, c.x, d.x);
    high = vec4(a.y, b.y, c.y, d.y);
}

// The scale of a block, 2^(e - 127), times the 2^14 that unpack_e2m1 leaves out.
float mxfp4_scale(uint e) { return uintBitsToFloat(min(e + 14u, 254u) << 23); }

// What a lane adds up: row r of the lane times token t at sums[r * TOKENS + t]. x_row: where each token's row of
// activations begins, in vec4. Globals, because a function cannot take arrays sized by a specialization constant.
float sums[ROWS * TOKENS];
uint x_row[TOKENS];

// sums += four weights of each of the lane's rows x the same four columns of every token
void multiply4(vec4 w[2], Vec4 x, uint column4) {
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        vec4 a = x.v[x_row[t] + column4];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            float s = sums[r * TOKENS + t];
            s = fma(w[r].x, a.x, s);
            s = fma(w[r].y, a.y, s);
            s = fma(w[r].z, a.z, s);
            sums[r * TOKENS + t] = fma(w[r].w, a.w, s);
        }
    }
}

// Unpacks the group of vectors g (one of each row of the lane) and multiplies it; scale applies to all of it.
void multiply_group(uvec4 g[2], float scale[2], Vec4 x, uint column4) {
    vec4 w[2];
    if (WEIGHT == WEIGHT_F32) {
        [[unroll]] for (uint r = 0; r < ROWS; r++) w[r] = uintBitsToFloat(g[r]);
        multiply4(w, x, column4);
    } else if (WEIGHT == WEIGHT_BF16 || WEIGHT == WEIGHT_F16) {
        [[unroll]] for (uint i = 0; i < 2; i++) {
            [[unroll]] for (uint r = 0; r < ROWS; r++)
                w[r] = WEIGHT == WEIGHT_BF16 ? vec4(unpack_bf16(g[r][2 * i]), unpack_bf16(g[r][2 * i + 1]))
                                             : vec4(unpackHalf2x16(g[r][2 * i]), unpackHalf2x16(g[r][2 * i + 1]));
            multiply4(w, x, column4 + i);
        }
    } else if (WEIGHT == WEIGHT_Q8) {
        [[unroll]] for (uint i = 0; i < 4; i++) {
            [[unroll]] for (uint r = 0; r < ROWS; r++) w[r] = unpack_i8(g[r][i]) * scale[r];
            multiply4(w, x, column4 + i);
        }
    } else {
        [[unroll]] for (uint i = 0; i < 4; i++) {
            vec4 high[2];
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                unpack_e2m1(g[r][i], w[r], high[r]);
                w[r] *= scale[r];
                high[r] *= scale[r];
            }
            multiply4(w, x, column4 + 2 * i);
            multiply4(high, x, column4 + 2 * i + 1);
        }
    }
}

// sums += the rows of a tile x TOKENS rows of x, as much of it as falls to the lane's split.
void multiply_tile(Tiles w, uint tile, uint cols, Vec4 x) {
    uint tile_start = tile * tile_vectors(cols);
    uvec4 g[2];
    float scale[2];
    if (WEIGHT == WEIGHT_MXFP4 || WEIGHT == WEIGHT_Q8) {
        const uint groups = WEIGHT == WEIGHT_MXFP4 ? 1 : 2;         // of a block of 32 columns
        const uint scale_vectors = WEIGHT == WEIGHT_MXFP4 ? 16 : 32;  // of a chunk
        const uint chunk_vectors = scale_vectors + 4 * groups * 64;
        uint chunks = (cols + 127) / 128;
        for (uint chunk = split(); chunk < chunks; chunk += SPLITS) {
            uint at = tile_start + chunk * chunk_vectors;
            uvec2 scales[2];
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                uint row = lane() + r * LANES;
                if (WEIGHT == WEIGHT_MXFP4)
                    scales[r].x = U32(w).v[at * 4 + row];
                else
                    scales[r] = uvec2(U32(w).v[at * 4 + 2 * row], U32(w).v[at * 4 + 2 * row + 1]);
            }
            uint blocks = min(4, cols / 32 - chunk * 4);
            for (uint b = 0; b < blocks; b++) {
                [[unroll]] for (uint r = 0; r < ROWS; r++)
                    scale[r] = WEIGHT == WEIGHT_MXFP4 ? mxfp4_scale(scales[r].x >> (8 * b) & 255u)
                                                      : unpackHalf2x16((b < 2 ? scales[r].x : scales[r].y) >> (16 * (b & 1))).x;
                [[unroll]] for (uint i = 0; i < groups; i++) {
                    uint group = at + scale_vectors + (b * groups + i) * 64 + lane();
                    [[unroll]] for (uint r = 0; r < ROWS; r++) g[r] = w.v[group + r * LANES];
                    multiply_group(g, scale, x, chunk * 32 + b * 8 + i * 4);
                }
            }
        }
    } else {
        const uint columns4 = WEIGHT == WEIGHT_F32 ? 1 : 2;
        for (uint i = split(); i < cols / 4 / columns4; i += SPLITS) {
            [[unroll]] for (uint r = 0; r < ROWS; r++) g[r] = w.v[tile_start + i * 64 + lane() + r * LANES];
            multiply_group(g, scale, x, i * columns4);
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

// A token row's norm: what its sums of squares make of the scale 1 / sqrt(mean + eps).
float norm_scale(Input a, uint token) {
    if (a.n_squares == 0) return 1;
    vec4 sum = vec4(0);
    for (uint i = 0; i < a.n_squares / 4; i++) sum += a.squares.v[token * (a.n_squares / 4) + i];
    return inversesqrt((sum.x + sum.y + sum.z + sum.w) / a.cols + a.eps);
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
        float scale = unpackHalf2x16(scales >> (16 * (column / 32 & 1))).x;
        return unpack_i8(w.v[at + 32 + column % 128 / 16 * 64 + r][column / 4 % 4])[column % 4] * scale;
    }
    uint two = w.v[at + column / 8 * 64 + r][column / 2 % 4];
    vec2 pair = WEIGHT == WEIGHT_BF16 ? unpack_bf16(two) : unpackHalf2x16(two);
    return pair[column % 2];
}
