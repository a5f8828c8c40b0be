#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gptoss {

// 64-bit FNV-1a: quick, of any number of parts, and every byte that differs alone makes another value.
class Hash {
  public:
    void add(const void* data, size_t size) {
        for (size_t i = 0; i < size; i++)
            value_ = (value_ ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
    }
    uint64_t value() const { return value_; }

  private:
    uint64_t value_ = 0xcbf29ce484222325u;
};

inline uint64_t hash(std::string_view bytes) {
    Hash hash;
    hash.add(bytes.data(), bytes.size());
    return hash.value();
}

}  // namespace gptoss
