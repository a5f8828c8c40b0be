#include "weights/tiles.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/error.h"

namespace gptoss::model {

uint16_t to_f16(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
    if (magnitude < 0x38800000) {  // subnormal: in units of 2^-24
        const float scaled = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24f);
        return static_cast<uint16_t>(sign | static_cast<uint32_t>(scaled));
    }
    return static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

namespace {

// To the nearest, ties to even.
uint16_t to_bf16(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // stays a NaN
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float f16_value(uint16_t half) {
    float value;
    io::to_f32(io::DType::F16, reinterpret_cast<const std::byte*>(&half), 1, &value);
    return value;
}

// A row of 8-bit blocks: 32 integers and a float16 scale each.
struct Q8Row {
    std::vector<int8_t> values;
    std::vector<uint16_t> scales;
};

Q8Row quantize(const float* row, uint32_t cols) {
    Q8Row out{std::vector<int8_t>(cols), std::vector<uint16_t>(cols / 32)};
    for (uint32_t b = 0; b < cols / 32; b++) {
        float largest = 0;
        for (uint32_t i = 0; i < 32; i++) largest = std::max(largest, std::abs(row[32 * b + i]));
        out.scales[b] = to_f16(largest / 127);
        const float scale = f16_value(out.scales[b]);
        for (uint32_t i = 0; i < 32; i++) {
            const float q = scale > 0 ? std::nearbyint(row[32 * b + i] / scale) : 0;
            out.values[32 * b + i] = static_cast<int8_t>(std::clamp(q, -127.0f, 127.0f));
        }
    }
    return out;
}

Q8Row split_q8_0(const std::byte* row, uint32_t cols) {
    Q8Row out{std::vector<int8_t>(cols), std::vector<uint16_t>(cols / 32)};
    for (uint32_t b = 0; b < cols / 32; b++, row += 34) {
        std::memcpy(&out.scales[b], row, 2);
        std::memcpy(&out.values[32 * b], row + 2, 32);
    }
    return out;
}

// Where a chunk of 128 columns begins, and how many blocks of 32 it has.
struct Chunk {
    std::byte* start;
    uint32_t blocks;
};

Chunk chunk_at(std::byte* tile, uint32_t chunk, uint32_t cols, uint32_t scale_bytes, uint32_t block_bytes) {
    return {tile + uint64_t{chunk} * (scale_bytes + 4 * block_bytes), std::min(4u, cols / 32 - chunk * 4)};
}

void place_q8_row(const Q8Row& row, uint32_t r, uint32_t cols, std::byte* tile) {
    for (uint32_t c = 0; c < (cols + 127) / 128; c++) {
        const Chunk chunk = chunk_at(tile, c, cols, 512, 2048);
        std::memcpy(chunk.start + r * 8, &row.scales[c * 4], chunk.blocks * 2);
        for (uint32_t g = 0; g < chunk.blocks * 2; g++)
            std::memcpy(chunk.start + 512 + g * 1024 + r * 16, &row.values[c * 128 + g * 16], 16);
    }
}

// Groups of 16 bytes of 64 rows of equal length, row after row; the rows' values are already what the tile stores.
void place_plain_rows(const std::byte* rows, uint32_t n_rows, uint64_t row_bytes, std::byte* tile) {
    for (uint64_t g = 0; g < row_bytes / 16; g++) {
        std::byte* to = tile + g * 1024;
        for (uint32_t r = 0; r < n_rows; r++) std::memcpy(to + r * 16, rows + r * row_bytes + g * 16, 16);
        std::memset(to + n_rows * 16, 0, (kTileRows - n_rows) * 16);
    }
}

void encode(const float* row, uint32_t cols, uint32_t weight, std::byte* out) {
    if (weight == WEIGHT_F32) {
        std::memcpy(out, row, cols * 4);
        return;
    }
    for (uint32_t i = 0; i < cols; i++) {
        const uint16_t bits = weight == WEIGHT_BF16 ? to_bf16(row[i]) : to_f16(row[i]);
        std::memcpy(out + 2 * i, &bits, 2);
    }
}

}  // namespace

uint64_t tile_bytes(uint32_t weight, uint64_t cols) {
    switch (weight) {
        case WEIGHT_F32:
            return cols * 4 * kTileRows;
        case WEIGHT_F16:
        case WEIGHT_BF16:
            return cols * 2 * kTileRows;
        case WEIGHT_Q8:
            return (cols + 127) / 128 * 512 + cols * kTileRows;
        default:
            return (cols + 127) / 128 * 256 + cols / 2 * kTileRows;
    }
}

uint32_t weight_of(io::DType type) {
    switch (type) {
        case io::DType::F32:
            return WEIGHT_F32;
        case io::DType::F16:
            return WEIGHT_F16;
        case io::DType::BF16:
            return WEIGHT_BF16;
        case io::DType::Q8_0:
            return WEIGHT_Q8;
        default:
            throw Error(Status::InternalError, "not a dense type");
    }
}

namespace {

// The largest of n numbers of a format whose order is that of their bits but for the sign.
template <typename Bits>
Bits largest_bits(const std::byte* values, uint64_t n, Bits magnitude) {
    Bits largest = 0;
    for (uint64_t i = 0; i < n; i++) {
        Bits bits;
        std::memcpy(&bits, values + i * sizeof(Bits), sizeof(Bits));
        largest = std::max<Bits>(largest, bits & magnitude);
    }
    return largest;
}

}  // namespace

float largest_weight(uint32_t weight) {
    constexpr float largest_f16 = 65504;
    switch (weight) {
        case WEIGHT_F16:
            return largest_f16;
        case WEIGHT_BF16:
            return 0x1.fep127f;
        case WEIGHT_Q8:
            return largest_f16 * 127;
        default:
            return std::numeric_limits<float>::max();
    }
}

float largest_magnitude(io::DType type, const std::byte* values, uint64_t n) {
    switch (type) {
        case io::DType::F32:
            return std::bit_cast<float>(largest_bits<uint32_t>(values, n, 0x7fffffff));
        case io::DType::F16:
            return f16_value(largest_bits<uint16_t>(values, n, 0x7fff));
        case io::DType::BF16:
            return std::bit_cast<float>(uint32_t{largest_bits<uint16_t>(values, n, 0x7fff)} << 16);
        case io::DType::Q8_0: {
            uint16_t scale = 0;
            for (uint64_t b = 0; b < n / 32; b++)
                scale = std::max(scale, largest_bits<uint16_t>(values + b * 34, 1, 0x7fff));
            return 128 * f16_value(scale);
        }
        default:
            throw Error(Status::InternalError, "not a dense type");
    }
}

float largest_mxfp4(const std::byte* scales, uint64_t n) {
    return std::ldexp(6.0f, largest_bits<uint8_t>(scales, n, 0xff) - 127);
}

void pack_dense_tile(io::DType from, const std::byte* rows, uint32_t n_rows, uint32_t cols, uint32_t weight,
                     std::byte* tile) {
    const uint64_t row_bytes = io::dtype_bytes(from, cols);
    if (weight == weight_of(from) && weight != WEIGHT_Q8) {
        place_plain_rows(rows, n_rows, row_bytes, tile);
        return;
    }
    std::vector<float> row(cols);
    if (weight == WEIGHT_Q8) {
        std::memset(tile, 0, tile_bytes(weight, cols));
        for (uint32_t r = 0; r < n_rows; r++) {
            if (from == io::DType::Q8_0) {
                place_q8_row(split_q8_0(rows + r * row_bytes, cols), r, cols, tile);
            } else {
                io::to_f32(from, rows + r * row_bytes, cols, row.data());
                place_q8_row(quantize(row.data(), cols), r, cols, tile);
            }
        }
        return;
    }
    const uint64_t bytes = tile_bytes(weight, cols) / kTileRows;
    std::vector<std::byte> converted(n_rows * bytes);
    for (uint32_t r = 0; r < n_rows; r++) {
        io::to_f32(from, rows + r * row_bytes, cols, row.data());
        encode(row.data(), cols, weight, converted.data() + r * bytes);
    }
    place_plain_rows(converted.data(), n_rows, bytes, tile);
}

void pack_mxfp4_tile(const std::byte* blocks, const std::byte* scales, uint32_t n_rows, uint32_t cols, bool gate_up,
                     std::byte* tile) {
    const uint32_t n_blocks = cols / 32;
    for (uint32_t c = 0; c < (cols + 127) / 128; c++) {
        const Chunk chunk = chunk_at(tile, c, cols, 256, 1024);
        if (n_rows < kTileRows || chunk.blocks < 4) std::memset(chunk.start, 0, 256 + chunk.blocks * 1024);
        for (uint32_t r = 0; r < n_rows; r++) {
            const uint64_t source = gate_up ? gate_up_row(r) : r;
            std::memcpy(chunk.start + r * 4, scales + source * n_blocks + c * 4, chunk.blocks);
        }
        for (uint32_t b = 0; b < chunk.blocks; b++)
            for (uint32_t r = 0; r < n_rows; r++) {
                const uint64_t source = gate_up ? gate_up_row(r) : r;
                std::memcpy(chunk.start + 256 + b * 1024 + r * 16, blocks + (source * n_blocks + c * 4 + b) * 16, 16);
            }
    }
}

}  // namespace gptoss::model
