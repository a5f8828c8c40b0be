// The inner product of a tile's MXFP4 rows with activations rounded to integers (see RoundArgs), by dot products of four
// signed bytes. A sum of a block, at most 32 * 32639 * 12, is exact in an int and in a float32.
#include "weights.glsl"
#extension GL_EXT_spirv_intrinsics : require

// OpSDot of SPV_KHR_integer_dot_product, for which older compilers of GLSL have no name; format 0 is four bytes.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int dot_product(int a, int b, spirv_literal uint format);

const uint TOGETHER = TOKENS < 2 ? TOKENS : 2;  // tokens between two looks at how many there are

// Eight E2M1 values times two, as bytes: 0, 1, 2, 3, 4, 6, 8, 12 and their negatives.
void unpack_bytes(uint codes, out int even, out int odd) {
    // The magnitudes, nibble by nibble: from 4 on the two low bits count twice, and both together two more.
    uint code = codes & 0x77777777u, large = codes >> 2 & 0x11111111u, more = code & (large << 1 | large);
    uint magnitude = code + more + (more + 0x11111111u >> 1 & 0x22222222u);
    // The signs, but that of a zero: that way the complement carries nothing from a byte into the next.
    uint sign = (codes & code + 0x77777777u) >> 3 & 0x11111111u;
    uvec2 m = uvec2(magnitude, magnitude >> 4) & 0x0f0f0f0fu, s = uvec2(sign, sign >> 4) & 0x01010101u;
    uvec2 bytes = (m ^ (s << 8) - s) + s;
    even = int(bytes.x);
    odd = int(bytes.y);
}

// Half of a block's scale of 2^(e - 127), for weights that are twice theirs.
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
            [[unroll]] for (uint i = 0; i < 4; i++) unpack_bytes(codes[i], even[r][i], odd[r][i]);
        }
        [[unroll]] for (uint first = 0; first < TOKENS; first += TOGETHER) {
            if (first < n) [[unroll]] for (uint j = 0; j < TOGETHER; j++) {
                uint t = first + j, at = x_row[t] * blocks + block;
                IntegerBlock x = src.x.v[at];
                float x_scale = src.scales.v[at];
                [[unroll]] for (uint r = 0; r < ROWS; r++) {
                    int sum = 0;
                    [[unroll]] for (uint i = 0; i < 4; i++) {
                        sum += dot_product(even[r][i], int(x.high_even[i]), 0u);
                        sum += dot_product(odd[r][i], int(x.high_odd[i]), 0u);
                    }
                    sum <<= 8;
                    [[unroll]] for (uint i = 0; i < 4; i++) {
                        sum += dot_product(even[r][i], int(x.low_even[i]), 0u);
                        sum += dot_product(odd[r][i], int(x.low_odd[i]), 0u);
                    }
                    sums[r * TOKENS + t] = fma(float(sum), scale[r] * x_scale, sums[r * TOKENS + t]);
                }
            }
        }
    }
}
