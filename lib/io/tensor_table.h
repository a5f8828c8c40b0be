// The tensors that the headers of a checkpoint's files list, by name.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace gptoss::io {

// What a file's header says of one tensor.
struct TensorInfo {
    std::string name;
    std::optional<DType> type;    // none: a type that no gpt-oss checkpoint has
    std::string type_name;        // as the format calls it
    std::vector<uint64_t> shape;  // outermost dimension first
    uint64_t offset = 0;          // of its first byte in the file
    uint64_t bytes = 0;           // 0 where the type's size is not known
    const File* file = nullptr;
};

// The product of a shape; none if it overflows.
std::optional<uint64_t> element_count(const std::vector<uint64_t>& shape);

// Throws IoError naming the tensors if two have one name, or share bytes.
void check_disjoint(const std::vector<TensorInfo>& tensors, const std::string& source);

class TensorTable {
  public:
    // source names the checkpoint, a file or a directory, when a tensor is missing.
    explicit TensorTable(std::string source) : source_(std::move(source)) {}

    const std::string& source() const { return source_; }

    // Takes the tensors of one file. Throws IoError if another file has given one of the same name.
    void add(std::vector<TensorInfo> tensors, const File* file);

    // The tensor, or NULL.
    const TensorInfo* find(const std::string& name) const;
    // The tensor, of one of these types and of exactly this shape; throws IoError naming the file, the tensor, what is
    // expected and what is there, and for another type what to give instead.
    const TensorInfo& get(const std::string& name, const std::vector<DType>& types,
                          const std::vector<uint64_t>& shape) const;

  private:
    std::string source_;
    std::map<std::string, TensorInfo> tensors_;
};

}  // namespace gptoss::io
