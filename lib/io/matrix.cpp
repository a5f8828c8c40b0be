// Reading what a checkpoint's matrices hold.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "io/checkpoint.h"

namespace gptoss::io {

static_assert(std::endian::native == std::endian::little, "files are little-endian and are read as they are");

const char* dtype_name(DType type) {
    switch (type) {
        case DType::F32:
            return "F32";
        case DType::F16:
            return "F16";
        case DType::BF16:
            return "BF16";
        case DType::U8:
            return "U8";
        case DType::Q8_0:
            return "Q8_0";
        case DType::MXFP4:
            return "MXFP4";
    }
    return "unknown";
}

uint64_t dtype_bytes(DType type, uint64_t n) {
    switch (type) {
        case DType::F32:
            return 4 * n;
        case DType::F16:
        case DType::BF16:
            return 2 * n;
        case DType::U8:
            return n;
        case DType::Q8_0:
            return n / 32 * 34;
        case DType::MXFP4:
            return n / 32 * 17;
    }
    return 0;
}

namespace {

float f32_of_f16(uint16_t h) {
    const uint32_t sign = uint32_t{h & 0x8000u} << 16;
    const uint32_t magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ff) << 13);
    // Exact for denormals too: the bits as a float32 are the value times 2^-112.
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f));
}

template <typename T>
T load(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

// Eight bytes with value j in the low nibble of byte j: four bytes with values 2j and 2j + 1 in byte j.
uint32_t pack_nibbles(uint64_t x) {
    x &= 0x0f0f0f0f0f0f0f0f;
    x = (x | x >> 4) & 0x00ff00ff00ff00ff;
    x = (x | x >> 8) & 0x0000ffff0000ffff;
    return static_cast<uint32_t>(x | x >> 16);
}

// GGUF's blocks, a scale and 16 bytes each, to scales and blocks in Hugging Face's order.
void split_gguf_blocks(const std::byte* from, uint64_t n, std::byte* blocks, std::byte* scales) {
    for (uint64_t b = 0; b < n; b++, from += 17, blocks += 16) {
        scales[b] = from[0];
        const uint64_t first = load<uint64_t>(from + 1), second = load<uint64_t>(from + 9);
        const uint32_t packed[] = {pack_nibbles(first), pack_nibbles(second), pack_nibbles(first >> 4),
                                   pack_nibbles(second >> 4)};
        std::memcpy(blocks, packed, sizeof packed);
    }
}

}  // namespace

void to_f32(DType type, const std::byte* from, uint64_t n, float* to) {
    switch (type) {
        case DType::F32:
            std::memcpy(to, from, 4 * n);
            break;
        case DType::F16:
            for (uint64_t i = 0; i < n; i++) to[i] = f32_of_f16(load<uint16_t>(from + 2 * i));
            break;
        case DType::BF16:
            for (uint64_t i = 0; i < n; i++) to[i] = std::bit_cast<float>(uint32_t{load<uint16_t>(from + 2 * i)} << 16);
            break;
        case DType::Q8_0:
            for (uint64_t b = 0; b < n / 32; b++, from += 34) {
                const float scale = f32_of_f16(load<uint16_t>(from));
                for (uint64_t i = 0; i < 32; i++) to[32 * b + i] = scale * load<int8_t>(from + 2 + i);
            }
            break;
        case DType::U8:
        case DType::MXFP4:
            break;  // never the type of a Matrix
    }
}

void Matrix::read(uint64_t first, uint64_t count, std::byte* out) const {
    file->read(offset + first * row_bytes(), out, count * row_bytes());
}

std::vector<float> Matrix::read_f32() const {
    std::vector<std::byte> raw(bytes());
    read(0, rows, raw.data());
    std::vector<float> values(rows * cols);
    to_f32(type, raw.data(), values.size(), values.data());
    return values;
}

namespace {

constexpr float kFp4[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

// The nearest value that FP4 has, by its index in kFp4; of two the one whose index is even.
uint32_t nearest_fp4(float magnitude) {
    return (magnitude > 0.25f) + (magnitude >= 0.75f) + (magnitude > 1.25f) + (magnitude >= 1.75f) +
           (magnitude > 2.5f) + (magnitude >= 3.5f) + (magnitude > 5);
}

// A block with a given exponent, a value a byte; the sum of squares of what is rounded away.
double quantize_block(const float* values, int exponent, uint8_t* codes) {
    const float up = std::ldexp(1.0f, -exponent / 2), up_rest = std::ldexp(1.0f, -exponent - -exponent / 2);
    double error = 0;
    for (int i = 0; i < 32; i++) {
        const float scaled = std::abs(values[i]) * up * up_rest;
        const uint32_t code = nearest_fp4(scaled);
        codes[i] = static_cast<uint8_t>(code | (values[i] < 0) << 3);
        const double lost = scaled - kFp4[code];
        error += lost * lost;
    }
    return std::ldexp(error, 2 * exponent);
}

}  // namespace

QuantizationError quantize_mxfp4(const float* values, uint64_t n_blocks, std::byte* blocks, std::byte* scales) {
    QuantizationError sum;
    for (uint64_t b = 0; b < n_blocks; b++, values += 32, blocks += 16) {
        float largest = 0;
        double squares = 0;
        bool finite = true;
        for (int i = 0; i < 32; i++) {
            finite &= std::isfinite(values[i]);
            largest = std::max(largest, std::abs(values[i]));
            squares += double{values[i]} * values[i];
        }
        scales[b] = std::byte{255};
        std::memset(blocks, 0, 16);
        if (!finite) continue;
        // With the first exponent the largest value comes to lie from 4 to 8, of which MXFP4 has up to 6; with the next
        // one it fits, and the others have half the precision.
        const int exponent = std::clamp(largest > 0 ? std::ilogb(largest) - 2 : -127, -127, 126);
        uint8_t codes[32], wider[32];
        double error = quantize_block(values, exponent, codes);
        const double wider_error = error > 0 ? quantize_block(values, exponent + 1, wider) : error;
        const bool is_wider = wider_error < error;
        const uint8_t* best = is_wider ? wider : codes;
        scales[b] = static_cast<std::byte>(exponent + is_wider + 127);
        for (int j = 0; j < 16; j++) blocks[j] = static_cast<std::byte>(best[2 * j] | best[2 * j + 1] << 4);
        sum.error += std::min(error, wider_error);
        sum.values += squares;
    }
    return sum;
}

QuantizationError Experts::quantize(uint64_t expert, uint64_t first, uint64_t count, std::byte* blocks_out,
                                    std::byte* scales_out) const {
    // count values lie side by side in each of the file's rows
    const uint64_t strip = dtype_bytes(type, count);
    std::vector<std::byte> raw(cols * strip);
    for (uint64_t c = 0; c < cols; c++)
        parts[0].file->read(parts[0].offset + dtype_bytes(type, (expert * cols + c) * rows + first), &raw[c * strip],
                            strip);
    // a few rows at a time, so that what is read of each of the file's rows is used up while it is in the cache
    constexpr uint64_t kRows = 32;
    std::vector<float> values(kRows * cols), piece(kRows);
    QuantizationError sum;
    for (uint64_t r = 0; r < count; r += kRows) {
        const uint64_t n = std::min(kRows, count - r);
        for (uint64_t c = 0; c < cols; c++) {
            to_f32(type, &raw[c * strip + dtype_bytes(type, r)], n, piece.data());
            for (uint64_t i = 0; i < n; i++) values[i * cols + c] = piece[i];
        }
        const uint64_t at = r * blocks_per_row();
        const auto [error, squares] =
            quantize_mxfp4(values.data(), n * blocks_per_row(), blocks_out + at * 16, scales_out + at);
        sum.error += error;
        sum.values += squares;
    }
    return sum;
}

QuantizationError Experts::read(uint64_t expert, uint64_t first, uint64_t count, std::byte* blocks_out,
                                std::byte* scales_out) const {
    if (type != DType::MXFP4) return quantize(expert, first, count, blocks_out, scales_out);
    const uint64_t row_blocks = blocks_per_row();
    if (parts[0].scales_file) {
        const uint64_t at = (expert * rows + first) * row_blocks;
        parts[0].file->read(parts[0].offset + at * 16, blocks_out, count * row_blocks * 16);
        parts[0].scales_file->read(parts[0].scales_offset + at, scales_out, count * row_blocks);
        return {};
    }
    // Through a buffer that stays in the cache: a few rows of each part at a time.
    const uint64_t n_parts = parts.size(), part_rows = rows / n_parts, row_size = row_bytes();
    const uint64_t step = std::max<uint64_t>(1, std::min(count, (256 << 10) / row_size));
    std::vector<std::byte> buffer(step * row_size);
    for (uint64_t p = 0; p < n_parts; p++) {
        // The rows of this part that lie in [first, first + count).
        const uint64_t begin = (first + n_parts - 1 - p) / n_parts, end = (first + count + n_parts - 1 - p) / n_parts;
        for (uint64_t r = begin; r < end; r += step) {
            const uint64_t n = std::min(step, end - r);
            parts[p].file->read(parts[p].offset + (expert * part_rows + r) * row_size, buffer.data(), n * row_size);
            for (uint64_t i = 0; i < n; i++) {
                const uint64_t row = (r + i) * n_parts + p - first;
                split_gguf_blocks(buffer.data() + i * row_size, row_blocks, blocks_out + row * row_blocks * 16,
                                  scales_out + row * row_blocks);
            }
        }
    }
    return {};
}

std::vector<float> LayerTensors::read_gate_up_bias() const {
    const uint64_t n_parts = gate_up_bias.size();
    if (n_parts == 1) return gate_up_bias[0].read_f32();
    std::vector<float> all(n_parts * gate_up_bias[0].rows * gate_up_bias[0].cols);
    for (uint64_t p = 0; p < n_parts; p++) {
        const std::vector<float> part = gate_up_bias[p].read_f32();
        for (uint64_t i = 0; i < part.size(); i++) all[i * n_parts + p] = part[i];
    }
    return all;
}

}  // namespace gptoss::io
