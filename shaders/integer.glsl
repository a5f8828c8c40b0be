// The inner product of a tile's MXFP4 rows with activations rounded to integers (see RoundArgs), by dot products of four
// signed bytes. A sum of a block, at most 32 * 32639 * 12, is exact in an int and in a float32.
#include "weights.glsl"
#extension GL_EXT_spirv_intrinsics : require

// OpSDot of SPV_KHR_integer_dot_product, for which older compilers of GLSL have no name; format 0 is four bytes.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int dot_product(int a, int b, spirv_literal uint format);

// The E2M1 values in the low nibbles of four bytes times two: 0, 1, 2, 3, 4, 6, 8, 12 and their negatives.
int unpack_bytes(uint codes) {
    uint c = codes & 0x07070707u, large = codes >> 2 & 0x01010101u, sign = codes >> 3 & 0x01010101u;
    // from 4 on, two bits of mantissa or exponent count twice, and both together two more
    uint more = c & (large << 1 | large);
    uint magnitude = c + more + (more + 0x01010101u >> 1 & 0x02020202u);
    // twice the negative ones off, with a bit in every byte that nothing is borrowed across
    uint negative = magnitude & ((sign << 4) - sign);
    return int((magnitude | 0x80808080u) - (negative << 1) ^ 0x80808080u);
}

// Half the scale of a block, 2^(e - 127).
float half_scale(uint e) { return uintBitsToFloat(max(e, 1u) - 1 << 23); }

// sums += the rows of a tile x rows x_row of the activations, as much of it as falls to the lane's split. Of the TOKENS
// rows n count, and a few more are taken.
void multiply_tile_integer(Tiles w, uint tile, IntegerInput src, uint n) {
    uint tile_start = tile * tile_vectors(src.cols), blocks = src.cols / 32;
    for (uint block = split(); block < blocks; block += SPLITS) {
        uint chunk = tile_start + block / 4 * (SCALE_VECTORS + 4 * 64), b = block % 4;
        int even[2][4], odd[2][4];
        float scale[2];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            uint row = lane() + r * LANES;
            uvec4 codes = w.v[chunk + SCALE_VECTORS + b * 64 + row];
            scale[r] = half_scale(U32(w).v[chunk * 4 + row] >> (8 * b) & 255u);
            [[unroll]] for (uint i = 0; i < 4; i++) {
                even[r][i] = unpack_bytes(codes[i]);
                odd[r][i] = unpack_bytes(codes[i] >> 4);
            }
        }
        [[unroll]] for (uint four = 0; four < TOKENS; four += 4) {
            if (four >= n) break;
            [[unroll]] for (uint t = four; t < min(four + 4, TOKENS); t++) {
                uint at = x_row[t] * blocks + block;
                uvec4 digits[4];
                [[unroll]] for (uint i = 0; i < 4; i++) digits[i] = src.x.v[at * 4 + i];
                float x_scale = src.scales.v[at];
                [[unroll]] for (uint r = 0; r < ROWS; r++) {
                    int sum = 0;
                    [[unroll]] for (uint i = 0; i < 4; i++) {
                        sum += dot_product(even[r][i], int(digits[0][i]), 0u);
                        sum += dot_product(odd[r][i], int(digits[1][i]), 0u);
                    }
                    sum <<= 8;
                    [[unroll]] for (uint i = 0; i < 4; i++) {
                        sum += dot_product(even[r][i], int(digits[2][i]), 0u);
                        sum += dot_product(odd[r][i], int(digits[3][i]), 0u);
                    }
                    sums[r * TOKENS + t] = fma(float(sum), scale[r] * x_scale, sums[r * TOKENS + t]);
                }
            }
        }
    }
}
