#include "text/grammar/characters.h"

#include <algorithm>

namespace gptoss::text {

namespace {

constexpr uint32_t first_surrogate = 0xD800, last_surrogate = 0xDFFF;

// Bytes of the UTF-8 sequences of a range whose ends have sequences of the same length.
RegexId utf8_range(RegexPool& pool, std::string_view first, std::string_view last) {
    const uint8_t low = static_cast<uint8_t>(first[0]), high = static_cast<uint8_t>(last[0]);
    if (first.size() == 1) return pool.bytes(ByteSet::range(low, high));
    const std::string rest_min(first.size() - 1, '\x80'), rest_max(first.size() - 1, '\xBF');
    const auto with = [&](uint32_t from, uint32_t to, std::string_view rest_first, std::string_view rest_last) {
        return pool.concat(pool.bytes(ByteSet::range(from, to)), utf8_range(pool, rest_first, rest_last));
    };
    if (low == high) return with(low, low, first.substr(1), last.substr(1));
    std::vector<RegexId> parts;
    uint32_t from = low, to = high;
    if (first.substr(1) != rest_min) parts.push_back(with(from++, low, first.substr(1), rest_max));
    if (last.substr(1) != rest_max) parts.push_back(with(to--, high, rest_min, last.substr(1)));
    if (from <= to) parts.push_back(with(from, to, rest_min, rest_max));
    return pool.either(std::move(parts));
}

void add_utf8(RegexPool& pool, uint32_t first, uint32_t last, std::vector<RegexId>& parts) {
    for (const uint32_t end : {0x7Fu, 0x7FFu, 0xFFFFu, last_character}) {
        if (first > end) continue;
        std::string from, to;
        append_utf8(first, from);
        append_utf8(std::min(last, end), to);
        parts.push_back(utf8_range(pool, from, to));
        if (last <= end) return;
        first = end + 1;
    }
}

// The letter behind the backslash; 0 if the character has no short escape.
char short_escape(uint32_t character) {
    switch (character) {
        case '"':
            return '"';
        case '\\':
            return '\\';
        case '\b':
            return 'b';
        case '\f':
            return 'f';
        case '\n':
            return 'n';
        case '\r':
            return 'r';
        case '\t':
            return 't';
        default:
            return 0;
    }
}

}  // namespace

CharacterSet::CharacterSet(std::initializer_list<std::pair<uint32_t, uint32_t>> ranges) {
    for (const auto& [first, last] : ranges) add(first, last);
}

void CharacterSet::add(uint32_t first, uint32_t last) {
    last = std::min(last, last_character);
    if (first > last) return;
    if (first <= last_surrogate && last >= first_surrogate) {
        if (first < first_surrogate) add(first, first_surrogate - 1);
        if (last > last_surrogate) add(last_surrogate + 1, last);
        return;
    }
    // Neighbours on both sides of the surrogates stay apart, which does no harm.
    auto from = std::lower_bound(ranges_.begin(), ranges_.end(), first,
                                 [](const auto& range, uint32_t value) { return range.second + 1 < value; });
    auto to = from;
    for (; to != ranges_.end() && to->first <= last + 1; ++to) {
        first = std::min(first, to->first);
        last = std::max(last, to->second);
    }
    ranges_.insert(ranges_.erase(from, to), {first, last});
}

void CharacterSet::add(const CharacterSet& other) {
    for (const auto& [first, last] : other.ranges_) add(first, last);
}

CharacterSet CharacterSet::inverted() const {
    CharacterSet out;
    uint32_t next = 0;
    for (const auto& [first, last] : ranges_) {
        if (first > next) out.add(next, first - 1);
        next = last + 1;
    }
    out.add(next, last_character);
    return out;
}

CharacterSet CharacterSet::only_in(const CharacterSet& other) const {
    CharacterSet out = inverted();
    out.add(other.inverted());
    return out.inverted();
}

void append_utf8(uint32_t c, std::string& out) {
    const auto add = [&](uint32_t byte) { out += static_cast<char>(byte); };
    if (c < 0x80) {
        add(c);
    } else if (c < 0x800) {
        add(0xC0 | c >> 6);
        add(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        add(0xE0 | c >> 12);
        add(0x80 | (c >> 6 & 0x3F));
        add(0x80 | (c & 0x3F));
    } else {
        add(0xF0 | c >> 18);
        add(0x80 | (c >> 12 & 0x3F));
        add(0x80 | (c >> 6 & 0x3F));
        add(0x80 | (c & 0x3F));
    }
}

RegexId one_of(RegexPool& pool, const CharacterSet& set, Encoding encoding) {
    std::vector<RegexId> parts;
    const bool json = encoding == Encoding::JsonString;
    const CharacterSet escaped = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
    const CharacterSet plain = json ? set.only_in(escaped.inverted()) : set;
    for (const auto& [first, last] : plain.ranges()) add_utf8(pool, first, last, parts);
    if (!json) return pool.either(std::move(parts));
    std::vector<std::string> escapes;
    const CharacterSet special = set.only_in(escaped);
    for (const auto& [first, last] : special.ranges())
        for (uint32_t c = first; c <= last; ++c) {
            if (const char letter = short_escape(c)) {
                escapes.push_back({'\\', letter});
            } else {
                const std::string start = c < 0x10 ? "\\u000" : "\\u001";
                escapes.push_back(start + "0123456789abcdef"[c & 15]);
                escapes.push_back(start + "0123456789ABCDEF"[c & 15]);
            }
        }
    parts.push_back(pool.literals(std::move(escapes)));
    return pool.either(std::move(parts));
}

std::string json_escaped(std::string_view utf8) {
    std::string out;
    for (char c : utf8) {
        if (const char letter = short_escape(static_cast<uint8_t>(c))) {
            out += {'\\', letter};
        } else if (static_cast<uint8_t>(c) < 0x20) {
            out += static_cast<uint8_t>(c) < 0x10 ? "\\u000" : "\\u001";
            out += "0123456789abcdef"[c & 15];
        } else {
            out += c;
        }
    }
    return out;
}

RegexId json_string(RegexPool& pool, uint32_t min, uint32_t max) {
    const RegexId character = one_of(pool, {{0, last_character}}, Encoding::JsonString);
    return pool.concat({pool.literal("\""), pool.repeat(character, min, max), pool.literal("\"")});
}

}  // namespace gptoss::text
