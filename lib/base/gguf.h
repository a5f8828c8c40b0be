// The GGUF format, versions 2 and 3: key-value metadata, a list of tensors, then the tensors' bytes, all little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/file.h"

namespace gptoss {

// A file's header: all that precedes the tensors' bytes.
class Gguf {
  public:
    // Integers of any width and sign are int64_t. Arrays of other things are not kept.
    using Value = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<std::string>>;

    struct Tensor {
        std::string name;
        uint32_t type = 0;            // as the file numbers it
        std::vector<uint64_t> shape;  // outermost dimension first
        uint64_t offset = 0;          // of its first byte in the file
    };

    // Whether the metadata of a key is kept; the others are skipped.
    using Wanted = bool (*)(std::string_view key);
    // Delivers bytes of a file, and is never asked for any beyond its size.
    using ReadAt = std::function<void(uint64_t offset, std::byte* out, size_t size)>;

    // Throws IoError, which begins with source.
    static Gguf parse(const ReadAt& read, uint64_t file_size, const std::string& source, Wanted wanted);
    static Gguf read(const File& file, Wanted wanted);

    const Value* find(const std::string& key) const;
    // A value by its type; none if there is no such key. Throw IoError if it has another type or does not fit.
    std::optional<uint32_t> integer(const std::string& key) const;  // or an array whose elements are all the same
    std::optional<float> number(const std::string& key) const;
    std::optional<std::string> text(const std::string& key) const;
    const std::vector<int64_t>* integers(const std::string& key) const;  // nullptr for none
    const std::vector<std::string>* texts(const std::string& key) const;

    // Throws IoError "<source>: metadata '<key>' <what>".
    [[noreturn]] void refuse(const std::string& key, const std::string& what) const;

    std::string source;  // names the file in errors
    std::map<std::string, Value> metadata;
    std::vector<Tensor> tensors;
    uint64_t file_size = 0;

  private:
    template <typename T>
    const T* get(const std::string& key, const char* expected) const;
};

// Whether a file begins as GGUF does.
bool is_gguf(const File& file);

}  // namespace gptoss
