// The GGUF format, versions 2 and 3: key-value metadata, a list of tensors, then the tensors' bytes, all little-endian.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "io/tensor_table.h"

namespace gptoss::io {

// What precedes the tensors' bytes.
struct Gguf {
    using Value = std::variant<uint64_t, int64_t, double, bool, std::string>;

    std::map<std::string, Value> metadata;  // scalars only: of the model, of a split, and the end-of-text token
    std::vector<TensorInfo> tensors;
};

// Parses the header of a file of file_size bytes; read(offset, out, size) delivers its bytes and is never asked for
// any beyond file_size.
using ReadAt = std::function<void(uint64_t offset, std::byte* out, size_t size)>;
Gguf parse_gguf(const ReadAt& read, uint64_t file_size, const std::string& source);

// The model's sizes and constants; vocabulary_size is that of the embedding. Checked as by check_config.
Config parse_gguf_config(const Gguf& gguf, const std::string& source);

}  // namespace gptoss::io
