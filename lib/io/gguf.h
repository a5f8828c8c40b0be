// gpt-oss models in GGUF files, as llama.cpp writes them.
#pragma once

#include <vector>

#include "base/gguf.h"
#include "io/config.h"
#include "io/tensor_table.h"

namespace gptoss::io {

// What of the metadata this folder reads: the model and its split into files. The tokenizer is none of its business.
bool is_model_key(std::string_view key);

// Throws IoError, which says what the file holds, unless that is a gpt-oss model.
void check_gguf_architecture(const Gguf& gguf);

// The tensors of one file, checked to lie within it, apart from each other.
std::vector<TensorInfo> gguf_tensors(const Gguf& gguf);

// The model's sizes and constants, from a file that check_gguf_architecture accepts. embedding, which may be NULL,
// tells the size of the vocabulary. Checked as by check_config.
Config parse_gguf_config(const Gguf& gguf, const TensorInfo* embedding);

}  // namespace gptoss::io
