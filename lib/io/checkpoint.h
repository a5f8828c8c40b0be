// A checkpoint of any supported layout, seen as one set of matrices. Nothing is read before it is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "io/config.h"

namespace gptoss::io {

enum class DType { F32, F16, BF16, U8, Q8_0, MXFP4 };

const char* dtype_name(DType type);
// Bytes of n values; Q8_0 and MXFP4 hold them in blocks of 32 (34 and 17 bytes).
uint64_t dtype_bytes(DType type, uint64_t n);
// n values of a dense type as float32; n is a multiple of 32 where the type has blocks.
void to_f32(DType type, const std::byte* from, uint64_t n, float* to);

// Rows in a file. Row r lies at offset + r * dtype_bytes(type, cols).
struct Matrix {
    std::string name;         // as the file has it, for messages
    DType type = DType::F32;  // F32, F16, BF16 or Q8_0
    uint64_t rows = 0;
    uint64_t cols = 0;
    const File* file = nullptr;
    uint64_t offset = 0;

    uint64_t row_bytes() const { return dtype_bytes(type, cols); }
    uint64_t bytes() const { return rows * row_bytes(); }
    // The raw bytes of rows [first, first + count); out holds count * row_bytes().
    void read(uint64_t first, uint64_t count, std::byte* out) const;
    // All values as float32, row by row.
    std::vector<float> read_f32() const;
};

// What quantizing cost: sums of squares of what was rounded away, and of the values before.
struct QuantizationError {
    double error = 0, values = 0;
};

// Blocks of 32 values, in MXFP4 with the scale of the smallest error: what MXFP4 can hold comes out as it went in.
// blocks: 16 bytes each, value 2j in the low nibble of byte j; scales: a byte each, 255 where a value is no finite
// number.
QuantizationError quantize_mxfp4(const float* values, uint64_t n_blocks, std::byte* blocks, std::byte* scales);

// The matrices of all experts of a layer, as MXFP4: n_experts matrices of (rows, cols).
struct Experts {
    std::string name;
    uint64_t n_experts = 0;
    uint64_t rows = 0;  // of one expert
    uint64_t cols = 0;

    uint64_t blocks_per_row() const { return cols / 32; }
    // Bytes in the file of the rows of one expert, for progress.
    uint64_t row_bytes() const { return blocks_per_row() * 17; }
    // Rows [first, first + count) of one expert. blocks_out: (count, cols/32, 16) bytes, value 2j in the low nibble of
    // byte j; scales_out: (count, cols/32) bytes, the exponent biased by 127. The result is 0 where the file has MXFP4.
    QuantizationError read(uint64_t expert, uint64_t first, uint64_t count, std::byte* blocks_out,
                           std::byte* scales_out) const;

    // One part, or gate and up apart: row r is row r / parts.size() of parts[r % parts.size()].
    struct Part {
        const File* file = nullptr;
        uint64_t offset = 0;                // of the blocks
        const File* scales_file = nullptr;  // safetensors have the scales apart, perhaps in another shard;
        uint64_t scales_offset = 0;         // NULL for GGUF: scale and block interleaved, value j and j+16 in byte j
    };
    std::vector<Part> parts;
    // Unquantized ones are one part of F32, F16 or BF16, each expert's matrix transposed: (cols, rows).
    DType type = DType::MXFP4;

  private:
    QuantizationError quantize(uint64_t expert, uint64_t first, uint64_t count, std::byte* blocks_out,
                               std::byte* scales_out) const;
};

// Shapes are (rows, cols); vectors are one row.
struct LayerTensors {
    Matrix attn_norm;  // (1, hidden)
    Matrix q, k, v;    // (heads * head_dim, hidden)
    Matrix q_bias, k_bias, v_bias;
    Matrix sinks;                                  // (1, n_heads)
    Matrix out;                                    // (hidden, n_heads * head_dim)
    Matrix out_bias;                               // (1, hidden)
    Matrix mlp_norm;                               // (1, hidden)
    Matrix router;                                 // (n_experts, hidden)
    Matrix router_bias;                            // (1, n_experts)
    Experts gate_up;                               // (2 * intermediate, hidden): gate and up rows alternate, gate first
    std::vector<float> read_gate_up_bias() const;  // (n_experts, 2 * intermediate), alternating like the rows
    std::vector<Matrix> gate_up_bias;              // one, or gate and up apart: (n_experts, …)
    Experts down;                                  // (hidden, intermediate)
    Matrix down_bias;                              // (n_experts, hidden)
};

class Checkpoint {
  public:
    // path: see locate_checkpoint. Checks every tensor's name, type and shape. Throws IoError that names the file and
    // the tensor.
    explicit Checkpoint(const std::string& path);
    // Nothing yet: for one that is put together in memory, whose files belong to the caller.
    Checkpoint() = default;

    Config config;
    Matrix embedding;  // (vocab, hidden)
    std::vector<LayerTensors> layers;
    Matrix final_norm;  // (1, hidden)
    Matrix lm_head;     // (vocab, hidden), the embedding itself where the config ties them

    // Where the model's own vocabulary is: a tokenizer.json, a .tiktoken or the .gguf itself; "" if it brings none.
    std::string tokenizer_path;

  private:
    void read_gguf(const std::string& path);
    void read_safetensors_directory(const std::string& path);

    std::vector<std::unique_ptr<File>> files_;
};

}  // namespace gptoss::io
