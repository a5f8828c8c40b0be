#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

// A hash for gigabytes: several bytes a cycle. Here too every word that differs alone makes another value. The seed
// tells apart blocks of the same bytes.
inline uint64_t hash_block(const void* data, size_t size, uint64_t seed) {
    constexpr uint64_t prime = 0x9E3779B97F4A7C15;
    constexpr size_t n_lanes = 4, block = n_lanes * sizeof(uint64_t);
    const auto mix = [](uint64_t value, uint64_t word) { return std::rotl(value ^ word, 29) * prime; };
    uint64_t lanes[n_lanes] = {seed, seed + prime, seed + 2 * prime, seed + 3 * prime}, words[n_lanes];
    const auto* from = static_cast<const unsigned char*>(data);
    for (size_t left = size; left > 0; left -= std::min(left, block), from += block) {
        if (left < block) std::memset(words, 0, block);
        std::memcpy(words, from, std::min(left, block));
        for (size_t i = 0; i < n_lanes; i++) lanes[i] = mix(lanes[i], words[i]);
    }
    uint64_t value = mix(seed, size);
    for (const uint64_t lane : lanes) value = mix(value, lane);
    return value ^ value >> 32;
}

inline uint64_t hash(std::string_view bytes) {
    Hash hash;
    hash.add(bytes.data(), bytes.size());
    return hash.value();
}

}  // namespace gptoss
