// Regular expressions over bytes, matched by their derivatives: what is left to match after a byte is an expression
// too. Equal expressions are one node, so that the derivatives of an expression are the states of its automaton, built
// as far as they are visited. Intersection and complement cost no more than the other operators.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gptoss::text {

struct ByteSet {
    std::array<uint64_t, 4> words{};

    static ByteSet all() { return {{~0ull, ~0ull, ~0ull, ~0ull}}; }
    static ByteSet range(uint32_t first, uint32_t last) {
        ByteSet set;
        for (uint32_t byte = first; byte <= last; ++byte) set.add(byte);
        return set;
    }
    void add(uint32_t byte) { words[byte >> 6] |= 1ull << (byte & 63); }
    bool has(uint32_t byte) const { return words[byte >> 6] >> (byte & 63) & 1; }
    ByteSet operator~() const { return {{~words[0], ~words[1], ~words[2], ~words[3]}}; }
    ByteSet& operator&=(const ByteSet& other) {
        for (int i = 0; i < 4; ++i) words[i] &= other.words[i];
        return *this;
    }
    ByteSet& operator|=(const ByteSet& other) {
        for (int i = 0; i < 4; ++i) words[i] |= other.words[i];
        return *this;
    }
    bool operator==(const ByteSet&) const = default;
};

using RegexId = uint32_t;

class RegexPool {
  public:
    static constexpr RegexId nothing = 0;     // matches no text
    static constexpr RegexId empty = 1;       // matches the empty text
    static constexpr RegexId everything = 2;  // matches all texts
    static constexpr uint32_t unbounded = UINT32_MAX;

    RegexPool();

    RegexId bytes(const ByteSet& set);
    RegexId literal(std::string_view text, RegexId tail = empty);
    // Matches each of the texts.
    RegexId literals(std::vector<std::string> texts);
    RegexId concat(RegexId first, RegexId second);
    RegexId concat(std::initializer_list<RegexId> parts);
    RegexId either(std::vector<RegexId> parts);
    RegexId both(RegexId first, RegexId second);
    RegexId without(RegexId first, RegexId second) { return both(first, invert(second)); }
    RegexId invert(RegexId regex);
    RegexId repeat(RegexId regex, uint32_t min, uint32_t max);
    RegexId optional(RegexId regex) { return repeat(regex, 0, 1); }
    // Digits, perhaps with a fraction, whose value is a multiple of divisor / 10^decimals.
    RegexId multiple_of(uint64_t divisor, uint32_t decimals);

    bool is_nullable(RegexId regex) const { return nodes_[regex].nullable; }
    // Whether it matches any text at all.
    bool can_match(RegexId regex);
    bool matches(RegexId regex, std::string_view text);
    // The rest to match after a byte; nothing if no text can.
    RegexId step(RegexId regex, uint8_t byte) {
        const Node& node = nodes_[regex];
        if (node.kind == Kind::Byte) return node.a == byte ? node.b : nothing;
        if (node.row == no_row) return first_step(regex, byte);
        return successors_[node.row + partitions_[node.partition][byte]];
    }
    // The only byte that can come next; -1 if there are others or none.
    int only_byte(RegexId regex);
    bool is_literal(RegexId regex) const { return nodes_[regex].kind == Kind::Byte; }
    // A repetition and what follows it; {0, 0, ...} for other expressions.
    struct Repetition {
        RegexId of, rest;
        uint32_t min, max;
    };
    Repetition repetition(RegexId regex) const {
        const Node& node = nodes_[regex];
        if (node.kind != Kind::Concat || nodes_[node.a].kind != Kind::Repeat) return {nothing, nothing, 0, 0};
        const Node& repeat = nodes_[node.a];
        return {repeat.a, node.b, bounds_[repeat.b].min, bounds_[repeat.b].max};
    }
    // How long a text may have to be, at most, that completes any beginning of a match; unbounded if that is not known.
    uint32_t longest_completion(RegexId regex) const { return nodes_[regex].longest_completion; }
    // The byte that all matches end with; -1 if that is not known.
    int last_byte(RegexId regex) const { return nodes_[regex].last; }
    // An expression whose matches go on in the same way for that many bytes, with fewer different states: repetitions
    // that cannot come to their bounds in them have none.
    RegexId without_far_bounds(RegexId regex, uint32_t num_bytes, int depth = 0);
    // The parts of an alternation; empty for other expressions.
    std::span<const RegexId> parts_of_either(RegexId regex) const {
        const Node& node = nodes_[regex];
        if (node.kind != Kind::Either) return {};
        return std::span(arguments_).subspan(node.a, node.b);
    }
    // The parts of an intersection; empty for other expressions.
    std::span<const RegexId> parts_of_both(RegexId regex) const {
        const Node& node = nodes_[regex];
        if (node.kind != Kind::Both) return {};
        return std::span(arguments_).subspan(node.a, node.b);
    }

    // Bounds the work of one call from outside: it is counted from here on.
    void restart_budget() { work_ = 0; }
    size_t memory() const;

  private:
    enum class Kind : uint8_t { Nothing, Empty, Set, Byte, Concat, Either, Both, Not, Repeat, Multiple };
    enum class Alive : uint8_t { Unknown, Yes, No };
    static constexpr uint32_t no_row = UINT32_MAX;

    // a, b: Set: an index; Byte: the byte, the rest; Concat: both parts; Either, Both: the first of the arguments and
    // their number; Not: its argument; Repeat: its argument and an index of bounds; Multiple: an index.
    struct Node {
        Kind kind;
        bool nullable;
        Alive alive;
        uint32_t a, b;
        uint32_t row = no_row;   // in the successors, one for each class of bytes
        uint32_t partition = 0;  // of the bytes into classes
        // Found out from the parts.
        uint32_t shortest = 0;                    // no match has fewer bytes
        uint32_t longest_completion = unbounded;  // as the function of this name says
        int16_t last = -1;
        bool is_counted = false;  // a part is a repetition with a bound above 1
        bool was_stepped = false;
    };
    using Partition = std::array<uint8_t, 256>;
    struct Bounds {
        uint32_t min, max;
        bool operator==(const Bounds&) const = default;
    };
    struct Multiple {
        uint64_t divisor, remainder;
        uint32_t decimals;
        int32_t decimal;  // digits of the fraction read so far; -1 before the point
        bool operator==(const Multiple&) const = default;
    };

    RegexId make(Kind kind, bool nullable, Alive alive, uint32_t a, uint32_t b);
    RegexId make_list(Kind kind, std::vector<RegexId>& parts);
    template <typename IsSame>
    RegexId find(uint64_t hash, const IsSame& is_same) const;
    void insert(uint64_t hash, Node node);
    void describe(Node& node) const;
    RegexId multiple(const Multiple& state);
    RegexId derive(RegexId regex, uint8_t byte, ByteSet& same);
    RegexId first_step(RegexId regex, uint8_t byte);
    void fill(RegexId regex);
    bool search(RegexId regex);
    void spend(size_t work);
    template <typename Value>
    uint32_t index_of(std::vector<Value>& values, std::unordered_map<uint64_t, std::vector<uint32_t>>& index,
                      const Value& value, uint64_t hash);

    std::vector<Node> nodes_;
    std::vector<RegexId> arguments_;
    std::vector<ByteSet> sets_;
    std::vector<Bounds> bounds_;
    std::vector<Multiple> multiples_;
    std::vector<Partition> partitions_;
    std::vector<RegexId> successors_;
    struct Slot {
        uint32_t hash = 0;
        RegexId regex = UINT32_MAX;
    };
    std::vector<Slot> by_hash_ = std::vector<Slot>(64);  // open addressing, at most half full
    std::unordered_map<uint64_t, std::vector<uint32_t>> set_index_, bounds_index_, multiple_index_, partition_index_;
    size_t work_ = 0;
};

}  // namespace gptoss::text
