// Sets of characters, and the bytes that stand for them in plain text or inside a JSON string.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/grammar/regex.h"

namespace gptoss::text {

inline constexpr uint32_t last_character = 0x10FFFF;

// Ranges of code points, sorted and apart; never a surrogate.
class CharacterSet {
  public:
    CharacterSet() = default;
    CharacterSet(std::initializer_list<std::pair<uint32_t, uint32_t>> ranges);

    void add(uint32_t first, uint32_t last);
    void add(const CharacterSet& other);
    CharacterSet inverted() const;
    CharacterSet only_in(const CharacterSet& other) const;
    const std::vector<std::pair<uint32_t, uint32_t>>& ranges() const { return ranges_; }

  private:
    std::vector<std::pair<uint32_t, uint32_t>> ranges_;
};

void append_utf8(uint32_t character, std::string& out);

enum class Encoding {
    Utf8,
    // Every character as it is, except ", \ and control characters, which are escaped in the shortest way. So each
    // text has one spelling (apart from the case of hexadecimal digits), and lengths, patterns and complements hold.
    JsonString,
};

// The encodings of one character of the set.
RegexId one_of(RegexPool& pool, const CharacterSet& set, Encoding encoding);
// The text between the quotes of a JSON string.
std::string json_escaped(std::string_view utf8);
// A JSON string: quotes, and between them min to max characters.
RegexId json_string(RegexPool& pool, uint32_t min = 0, uint32_t max = RegexPool::unbounded);

}  // namespace gptoss::text
