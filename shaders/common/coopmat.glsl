// The product of a tile of weights with many rows of activations by cooperative matrices: float16 with float32 sums.
//
// A workgroup has a tile of 64 rows and TOKENS columns, the activations of as many tokens. It goes through the matrix's
// columns in blocks of 32: the weights of a block are made float16 on their way to shared memory, the activations are
// copied there, and the next block is on its way from memory while the subgroups multiply this one. Subgroups share the
// rows in pairs of parts 32 rows apart, so that a subgroup ends up with both rows of what RoPE or SwiGLU joins.
//
// Of weights.glsl's constants LANES is the size of a subgroup here, and TOKENS a multiple of 32. WORKGROUP divides 256.
#include "weights.glsl"
#include "half.glsl"
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require

layout(constant_id = 5) const uint TERMS = 1;  // that the activations are sums of; see HalveArgs
layout(constant_id = 6) const uint M = 16;  // the device's product is (M, K) x (K, N)
layout(constant_id = 7) const uint N = 16;
layout(constant_id = 8) const uint K = 16;
layout(constant_id = 9) const uint ROW_GROUPS = 2;  // the subgroups are this many by COLUMN_GROUPS

// What a kernel says: which row of the activations a column of the workgroup is, what becomes of rows `row` and
// `row` + 32 of the tile in a column, and what of that is to be kept in `results` for gather: by a subgroup together, for
// M rows from `row` and n columns from `column` on.
uint input_row(uint column);
float finish(uint row, uint column, vec2 sums);
void gather(uint row, uint column, uint n);

const uint BLOCK = 32;                            // columns of the matrix at a time
const uint STRIDE = BLOCK / 8 + 1;                // vectors of 8 of a row in shared memory; odd, so that banks differ
const uint WEIGHT_PARTS = TILE_ROWS * 4 / WORKGROUP;  // vectors that an invocation brings
const uint INPUT_PARTS = (TERMS * TOKENS * 4 + WORKGROUP - 1) / WORKGROUP;
const uint COLUMN_GROUPS = SPLITS / ROW_GROUPS;
const uint ROW_PARTS = 32 / ROW_GROUPS / M;         // matrices of a subgroup: twice these down,
const uint COLUMN_PARTS = TOKENS / COLUMN_GROUPS / N;  // these across

const uint PARTS = ROW_PARTS * COLUMN_PARTS;  // pairs of matrices of a subgroup, at most 8

shared uvec4 weight_block[TILE_ROWS * STRIDE];
shared uvec4 input_block[TERMS * TOKENS * STRIDE];
shared float results[SPLITS * 2 * M * N];  // of each subgroup: M rows and the M rows 32 further, column by column

uint row_group() { return gl_SubgroupID % ROW_GROUPS; }
uint column_group() { return gl_SubgroupID / ROW_GROUPS; }
uint results_at() { return gl_SubgroupID * 2 * M * N; }

void sync_subgroup() {
    memoryBarrierShared();
    subgroupBarrier();
}

// Which row and which eight of a block's columns part u is: lanes next to each other read vectors next to each other.
uint part_row(uint u) { return WEIGHT == WEIGHT_MXFP4 ? u / 4 : WEIGHT == WEIGHT_Q8 ? u / 2 % 64 : u % 64; }
uint part_column(uint u) {
    return WEIGHT == WEIGHT_MXFP4 ? u % 4 : WEIGHT == WEIGHT_Q8 ? u / 128 * 2 + u % 2 : u / 64;
}

// A part of a block as it is stored, and the block's scale.
struct Part {
    uvec4 low;
    uvec4 high;
    float scale;
};

Part load_part(Tiles w, uint tile_start, uint block, uint u, float weight_scale) {
    uint row = part_row(u), column = part_column(u), b = block % 4;
    uint chunk = tile_start + block / 4 * (SCALE_VECTORS + 4 * GROUPS * 64);
    uint group = chunk + SCALE_VECTORS + b * GROUPS * 64 + row;
    Part part;
    part.scale = weight_scale;
    if (WEIGHT == WEIGHT_MXFP4) {
        part.low.x = U32(w).v[group * 4 + column];
        // over the 2^-10 that e2m1_pair leaves out, not the 4 of unpack_e2m1
        part.scale *= 4096 * mxfp4_scale(U32(w).v[chunk * 4 + row] >> (8 * b) & 255u);
    } else if (WEIGHT == WEIGHT_Q8) {
        uint at = (group + column / 2 * 64) * 4 + column % 2 * 2;
        part.low.x = U32(w).v[at];
        part.low.y = U32(w).v[at + 1];
        part.scale *= unpack_scale(U32(w).v[chunk * 4 + 2 * row + b / 2] >> (16 * (b & 1)));
    } else if (WEIGHT == WEIGHT_F32) {
        part.low = w.v[group + 2 * column * 64];
        part.high = w.v[group + (2 * column + 1) * 64];
    } else {
        part.low = w.v[group + column * 64];
    }
    return part;
}

// Values 2 j and 2 j + 1 of eight E2M1 values, times 2^-10; see spread_e2m1.
f16vec2 e2m1_pair(uint top, uint bits, int j) {
    uint top_two = bitfieldExtract(top, 8 * j, 8), low_two = bitfieldExtract(bits, 8 * j, 8);
    top_two |= top_two << 12;
    low_two |= low_two << 12;
    return unpackFloat2x16((top_two << 12 & 0x80008000u) | (top_two << 10 & 0x10001000u) | (low_two << 9 & 0x0e000e00u));
}

uvec4 part_halves(Part part) {
    if (WEIGHT == WEIGHT_MXFP4) {
        uint top, bits;
        spread_e2m1(part.low.x, top, bits);
        // exact: two bits times a power of two
        f16vec2 scale = unpackFloat2x16(flush_halves(packFloat2x16(f16vec2(float16_t(part.scale)))));
        uvec4 halves;
        [[unroll]] for (int j = 0; j < 4; j++)
            halves[j] = flush_halves(packFloat2x16(e2m1_pair(top, bits, j) * scale));
        return halves;
    }
    vec4 low, high;
    if (WEIGHT == WEIGHT_Q8) {
        low = unpack_i8(part.low.x);
        high = unpack_i8(part.low.y);
    } else if (WEIGHT == WEIGHT_F32) {
        low = uintBitsToFloat(part.low);
        high = uintBitsToFloat(part.high);
    } else if (WEIGHT == WEIGHT_BF16) {
        low = vec4(unpack_bf16(part.low.x), unpack_bf16(part.low.y));
        high = vec4(unpack_bf16(part.low.z), unpack_bf16(part.low.w));
    } else {
        low = vec4(unpack_halves(part.low.x), unpack_halves(part.low.y));
        high = vec4(unpack_halves(part.low.z), unpack_halves(part.low.w));
    }
    return to_halves(low * part.scale, high * part.scale);
}

// Whether part u of the activations exists and belongs to a column that is used.
bool brought(uint u, uint used) { return u < TERMS * TOKENS * 4 && u / 4 % TOKENS < used; }

// finish() for pair `part` of the subgroup's matrices, and the first n_columns columns of the workgroup.
void finish_part(uint part, coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> top,
                 coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> bottom, float sum_scale,
                 uint n_columns) {
    uint c = part / ROW_PARTS, r = part % ROW_PARTS;
    // all subgroups take as many steps: there are drivers that make a subgroup's barrier one of the whole workgroup
    if (c * COLUMN_GROUPS * N >= n_columns) return;
    uint column = (c * COLUMN_GROUPS + column_group()) * N, n = column < n_columns ? min(N, n_columns - column) : 0;
    uint row = (row_group() * ROW_PARTS + r) * M, at = results_at();
    if (n > 0) {
        coopMatStore(top, results, at, M, gl_CooperativeMatrixLayoutColumnMajor);
        coopMatStore(bottom, results, at + M * N, M, gl_CooperativeMatrixLayoutColumnMajor);
    }
    sync_subgroup();
    for (uint i = gl_SubgroupInvocationID; i < n * M; i += LANES) {
        vec2 pair = vec2(results[at + i], results[at + M * N + i]) * sum_scale;
        results[at + i] = finish(row + i % M, column + i / M, pair);
    }
    sync_subgroup();
    gather(row, column, n);
    sync_subgroup();
}

// finish() for every pair of rows and the first n_columns columns of the workgroup.
void multiply_coopmat(Tiles w, uint tile, HalfInput src, uint n_columns) {
    uint id = gl_LocalInvocationID.x, tile_start = tile * tile_vectors(src.cols), blocks = src.cols / BLOCK;
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sums[2 * ROW_PARTS * COLUMN_PARTS];
    [[unroll]] for (uint i = 0; i < 2 * ROW_PARTS * COLUMN_PARTS; i++)
        sums[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);

    // columns are dealt to the column groups N at a time, so that a few of them keep all subgroups busy
    uint parts = (n_columns + N - 1) / N;
    uint my_parts = (parts + COLUMN_GROUPS - 1 - column_group()) / COLUMN_GROUPS;
    uint used = parts * N;

    Part weight_part[WEIGHT_PARTS];
    uvec4 input_part[INPUT_PARTS];
    uint input_at[INPUT_PARTS];
    [[unroll]] for (uint i = 0; i < INPUT_PARTS; i++) {
        uint u = id + i * WORKGROUP, row = input_row(min(u / 4 % TOKENS, n_columns - 1));
        input_at[i] = (u / 4 / TOKENS * src.n_tokens + row) * (src.cols / 8) + u % 4;
    }
    for (uint block = 0; block <= blocks; block++) {
        if (block > 0) {
            barrier();  // what was there has been used
            [[unroll]] for (uint i = 0; i < WEIGHT_PARTS; i++) {
                uint u = id + i * WORKGROUP;
                weight_block[part_row(u) * STRIDE + part_column(u)] = part_halves(weight_part[i]);
            }
            [[unroll]] for (uint i = 0; i < INPUT_PARTS; i++) {
                uint u = id + i * WORKGROUP;
                if (brought(u, used)) input_block[u / 4 * STRIDE + u % 4] = input_part[i];
            }
            barrier();
        }
        if (block < blocks) {
            [[unroll]] for (uint i = 0; i < WEIGHT_PARTS; i++)
                weight_part[i] = load_part(w, tile_start, block, id + i * WORKGROUP, src.weight_scale);
            [[unroll]] for (uint i = 0; i < INPUT_PARTS; i++)
                if (brought(id + i * WORKGROUP, used)) input_part[i] = src.x.v[input_at[i] + block * 4];
        }
        if (block == 0) continue;
        [[unroll]] for (uint k = 0; k < BLOCK / 8; k += K / 8) {
            coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a[2 * ROW_PARTS];
            [[unroll]] for (uint r = 0; r < 2 * ROW_PARTS; r++) {
                uint row = (r % 2) * 32 + (row_group() * ROW_PARTS + r / 2) * M;
                coopMatLoad(a[r], weight_block, row * STRIDE + k, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            }
            [[unroll]] for (uint c = 0; c < COLUMN_PARTS; c++) {
                // a loop that could end early would keep the sums in memory, for their indices would not be known
                if (c < my_parts) [[unroll]] for (uint term = 0; term < TERMS; term++) {
                    coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b;
                    uint column = term * TOKENS + (c * COLUMN_GROUPS + column_group()) * N;
                    coopMatLoad(b, input_block, column * STRIDE + k, STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
                    [[unroll]] for (uint r = 0; r < 2 * ROW_PARTS; r++)
                        sums[c * 2 * ROW_PARTS + r] = coopMatMulAdd(a[r], b, sums[c * 2 * ROW_PARTS + r]);
                }
            }
        }
    }
    // Written out, because compilers unroll no loop that has another in it, and then keep the matrices in memory.
#define FINISH(part)                                                                                      \
    if (part < PARTS)                                                                                     \
        finish_part(part, sums[part < PARTS ? 2 * part : 0], sums[part < PARTS ? 2 * part + 1 : 1], src.sum_scale, \
                    n_columns);
    FINISH(0)
    FINISH(1)
    FINISH(2)
    FINISH(3)
    FINISH(4)
    FINISH(5)
    FINISH(6)
    FINISH(7)
}
