// The safetensors format: eight bytes of length, a JSON header, then the tensors' bytes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/tensor_table.h"

namespace gptoss::io {

// Parses a header (the JSON text alone) of a file whose tensors lie in the data_size bytes from data_offset on.
std::vector<TensorInfo> parse_safetensors_header(const char* json, size_t size, uint64_t data_offset,
                                                 uint64_t data_size, const std::string& source);

// Reads and parses the header of a file.
std::vector<TensorInfo> read_safetensors(const File& file);

// Parses a model.safetensors.index.json: the name of the file that holds each tensor.
std::map<std::string, std::string> parse_safetensors_index(const char* json, size_t size, const std::string& source);

}  // namespace gptoss::io
