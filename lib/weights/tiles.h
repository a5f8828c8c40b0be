// Rows of a checkpoint repacked into the tiles that kernels read; shaders/common/weights.glsl describes the layout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "args.h"
#include "io/checkpoint.h"

namespace gptoss::model {

constexpr uint32_t kTileRows = TILE_ROWS;

inline uint32_t tile_count(uint64_t rows) { return static_cast<uint32_t>((rows + kTileRows - 1) / kTileRows); }

// A tile of gate_up holds 32 gates, then their ups, so that one lane has both of a pair: tile row r is row
// gate_up_row(r) of 64 rows that alternate between gate and up.
constexpr uint32_t gate_up_row(uint32_t r) { return r % 32 * 2 + r / 32; }

// Bytes of one tile of `cols` columns stored as `weight` (a WEIGHT_… of args.h).
uint64_t tile_bytes(uint32_t weight, uint64_t cols);

// The nearest float16's bits, ties to even.
uint16_t to_f16(float value);

// How a dense type of a file is stored when nothing else is asked for.
uint32_t weight_of(io::DType type);

// The largest magnitude that a weight stored as this can have when it is converted from another type.
float largest_weight(uint32_t weight);

// The largest magnitude of n values of a dense type as a file has them, or a little more.
float largest_magnitude(io::DType type, const std::byte* values, uint64_t n);
// What the values of n blocks of MXFP4 with these scales can be at most.
float largest_mxfp4(const std::byte* scales, uint64_t n);

// Packs n_rows ≤ 64 consecutive raw rows of a dense type; missing rows are zeros. Converts where the types differ.
void pack_dense_tile(io::DType from, const std::byte* rows, uint32_t n_rows, uint32_t cols, uint32_t weight,
                     std::byte* tile);

// Packs n_rows ≤ 64 rows of MXFP4 blocks (n_rows, cols/32, 16) and scales (n_rows, cols/32); gate_up: the rows
// alternate between gate and up, see gate_up_row.
void pack_mxfp4_tile(const std::byte* blocks, const std::byte* scales, uint32_t n_rows, uint32_t cols, bool gate_up,
                     std::byte* tile);

}  // namespace gptoss::model
