#include "text/grammar/regex.h"

#include <algorithm>
#include <queue>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/hash.h"

namespace gptoss::text {

namespace {

constexpr size_t max_nodes = 600'000;
constexpr size_t max_arguments = 4'000'000;
constexpr size_t max_successors = 8'000'000;
constexpr size_t max_work = 8'000'000;

[[noreturn]] void too_large() {
    throw Error(Status::InsufficientResources,
                "grammar: its regular expressions need more memory or time than is allowed; simplify patterns with "
                "large or nested repetitions");
}

template <typename... Values>
uint64_t hash_of(const Values&... values) {
    uint64_t hash = 0;
    ((hash = (hash ^ static_cast<uint64_t>(values)) * 0x9E3779B97F4A7C15, hash ^= hash >> 29), ...);
    return hash;
}

}  // namespace

RegexPool::RegexPool() {
    make(Kind::Nothing, false, Alive::No, 0, 0);
    make(Kind::Empty, true, Alive::Yes, 0, 0);
    make(Kind::Not, true, Alive::Yes, nothing, 0);
}

size_t RegexPool::memory() const {
    return nodes_.size() * sizeof(Node) + by_hash_.size() * sizeof(Slot) + arguments_.size() * sizeof(RegexId) +
           successors_.size() * sizeof(RegexId) + partitions_.size() * sizeof(Partition);
}

void RegexPool::spend(size_t work) {
    work_ += work;
    if (work_ > max_work) too_large();
}

template <typename IsSame>
RegexId RegexPool::find(uint64_t hash, const IsSame& is_same) const {
    const size_t mask = by_hash_.size() - 1;
    for (size_t i = hash & mask; by_hash_[i].regex != UINT32_MAX; i = (i + 1) & mask)
        if (by_hash_[i].hash == static_cast<uint32_t>(hash) && is_same(nodes_[by_hash_[i].regex]))
            return by_hash_[i].regex;
    return UINT32_MAX;
}

// What is known of a node from its parts.
void RegexPool::describe(Node& node) const {
    constexpr uint32_t most = 1u << 30;
    const auto sum = [](uint64_t a, uint64_t b) { return static_cast<uint32_t>(std::min<uint64_t>(a + b, most)); };
    const auto plus = [&](uint32_t a, uint32_t b) { return a == unbounded ? a : sum(a, b); };
    node.shortest = node.nullable ? 0 : 1;
    switch (node.kind) {
        case Kind::Nothing:
            node.shortest = most;
            node.longest_completion = 0;
            break;
        case Kind::Empty:
            node.longest_completion = 0;
            break;
        case Kind::Set:
            node.longest_completion = 1;
            break;
        case Kind::Byte:
        case Kind::Concat: {
            const bool is_byte = node.kind == Kind::Byte;
            const Node& rest = nodes_[node.b];
            node.shortest = sum(is_byte ? 1 : nodes_[node.a].shortest, rest.shortest);
            const uint32_t before = plus(is_byte ? 1 : nodes_[node.a].longest_completion, rest.shortest);
            node.longest_completion = std::max(before, rest.longest_completion);
            node.last = is_byte && node.b == empty ? static_cast<int16_t>(node.a) : rest.nullable ? -1 : rest.last;
            node.is_counted = rest.is_counted || (!is_byte && nodes_[node.a].is_counted);
            break;
        }
        case Kind::Either:
            node.shortest = most;
            node.longest_completion = 0;
            node.last = nodes_[arguments_[node.a]].last;
            for (uint32_t i = 0; i < node.b; ++i) {
                const Node& part = nodes_[arguments_[node.a + i]];
                node.shortest = std::min(node.shortest, part.shortest);
                node.longest_completion = std::max(node.longest_completion, part.longest_completion);
                if (part.last != node.last) node.last = -1;
                node.is_counted = node.is_counted || part.is_counted;
            }
            break;
        case Kind::Both:
            for (uint32_t i = 0; i < node.b; ++i) {
                const Node& part = nodes_[arguments_[node.a + i]];
                node.shortest = std::max(node.shortest, part.shortest);
                if (part.last >= 0) node.last = part.last;
            }
            break;
        case Kind::Repeat: {
            const auto [min, max] = bounds_[node.b];
            const Node& once = nodes_[node.a];
            node.shortest = sum(uint64_t{min} * once.shortest, 0);
            node.longest_completion = plus(once.longest_completion, node.shortest);
            node.is_counted = min > 1 || (max > 1 && max != unbounded) || once.is_counted;
            break;
        }
        case Kind::Not:
        case Kind::Multiple:
            break;
    }
}

void RegexPool::insert(uint64_t hash, Node node) {
    if (nodes_.size() >= max_nodes) too_large();
    describe(node);
    const auto put = [this](const Slot& slot) {
        const size_t mask = by_hash_.size() - 1;
        size_t i = slot.hash & mask;
        while (by_hash_[i].regex != UINT32_MAX) i = (i + 1) & mask;
        by_hash_[i] = slot;
    };
    if (2 * (nodes_.size() + 1) > by_hash_.size()) {
        const std::vector<Slot> old = std::exchange(by_hash_, std::vector<Slot>(2 * by_hash_.size()));
        for (const Slot& slot : old)
            if (slot.regex != UINT32_MAX) put(slot);
    }
    put({static_cast<uint32_t>(hash), static_cast<RegexId>(nodes_.size())});
    nodes_.push_back(node);
}

RegexId RegexPool::make(Kind kind, bool nullable, Alive alive, uint32_t a, uint32_t b) {
    const uint64_t hash = hash_of(kind, a, b) & UINT32_MAX;
    const RegexId known = find(hash, [&](const Node& node) { return node.kind == kind && node.a == a && node.b == b; });
    if (known != UINT32_MAX) return known;
    insert(hash, {kind, nullable, alive, a, b});
    return static_cast<RegexId>(nodes_.size() - 1);
}

// A list of at least two arguments, sorted.
RegexId RegexPool::make_list(Kind kind, std::vector<RegexId>& parts) {
    Hash content;
    content.add(parts.data(), parts.size() * sizeof(parts[0]));
    const uint64_t hash = hash_of(kind, content.value()) & UINT32_MAX;
    const RegexId known = find(hash, [&](const Node& node) {
        return node.kind == kind && node.b == parts.size() &&
               std::equal(parts.begin(), parts.end(), arguments_.begin() + node.a);
    });
    if (known != UINT32_MAX) return known;
    if (arguments_.size() + parts.size() > max_arguments) too_large();
    const auto nullable = [&](RegexId part) { return nodes_[part].nullable; };
    const bool is_either = kind == Kind::Either;
    // Whether an intersection matches anything shows only when it is searched.
    const bool some_alive = is_either && std::any_of(parts.begin(), parts.end(),
                                                     [&](RegexId part) { return nodes_[part].alive == Alive::Yes; });
    const bool is_nullable = is_either ? std::any_of(parts.begin(), parts.end(), nullable)
                                       : std::all_of(parts.begin(), parts.end(), nullable);
    const uint32_t first = static_cast<uint32_t>(arguments_.size());
    arguments_.insert(arguments_.end(), parts.begin(), parts.end());
    insert(hash, {kind, is_nullable, some_alive || is_nullable ? Alive::Yes : Alive::Unknown, first,
                  static_cast<uint32_t>(parts.size())});
    return static_cast<RegexId>(nodes_.size() - 1);
}

template <typename Value>
uint32_t RegexPool::index_of(std::vector<Value>& values, std::unordered_map<uint64_t, std::vector<uint32_t>>& index,
                             const Value& value, uint64_t hash) {
    std::vector<uint32_t>& known = index[hash];
    for (uint32_t i : known)
        if (values[i] == value) return i;
    known.push_back(static_cast<uint32_t>(values.size()));
    values.push_back(value);
    return known.back();
}

RegexId RegexPool::bytes(const ByteSet& set) {
    if (set == ByteSet{}) return nothing;
    int count = 0, last = 0;
    for (int byte = 0; byte < 256; ++byte)
        if (set.has(byte)) ++count, last = byte;
    if (count == 1) return make(Kind::Byte, false, Alive::Yes, last, empty);
    const uint64_t hash = hash_of(set.words[0], set.words[1], set.words[2], set.words[3]);
    return make(Kind::Set, false, Alive::Yes, index_of(sets_, set_index_, set, hash), 0);
}

RegexId RegexPool::literal(std::string_view text, RegexId tail) {
    if (tail == nothing) return nothing;
    for (size_t i = text.size(); i-- > 0;)
        tail = make(Kind::Byte, false, nodes_[tail].alive, static_cast<uint8_t>(text[i]), tail);
    return tail;
}

// Shares beginnings, so that a byte leaves one branch of it.
RegexId RegexPool::literals(std::vector<std::string> texts) {
    std::sort(texts.begin(), texts.end());
    texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
    struct Range {
        size_t begin, end, depth;  // texts that begin with the same depth bytes
        std::vector<RegexId> branches;
        size_t parent;
    };
    if (texts.empty()) return nothing;
    std::vector<Range> ranges = {{0, texts.size(), 0, {}, 0}};
    for (size_t i = 0; i < ranges.size(); ++i) {
        size_t depth = ranges[i].depth;
        const size_t begin = ranges[i].begin, end = ranges[i].end;
        if (end - begin == 1) continue;
        size_t first = begin;
        if (texts[first].size() == depth) ranges[i].branches.push_back(empty), ++first;
        while (first < end) {
            size_t last = first + 1;
            while (last < end && texts[last][depth] == texts[first][depth]) ++last;
            size_t common = depth + 1;  // of the first and the last, and so of all between
            while (common < texts[first].size() && common < texts[last - 1].size() &&
                   texts[first][common] == texts[last - 1][common])
                ++common;
            ranges.push_back({first, last, common, {}, i});
            first = last;
        }
    }
    for (size_t i = ranges.size(); i-- > 0;) {
        Range& range = ranges[i];
        const size_t from = i == 0 ? 0 : ranges[range.parent].depth;
        const bool is_leaf = range.end - range.begin == 1;
        const RegexId rest = is_leaf ? empty : either(std::move(range.branches));
        const size_t to = is_leaf ? texts[range.begin].size() : range.depth;
        const RegexId whole = literal(std::string_view(texts[range.begin]).substr(from, to - from), rest);
        if (i == 0) return whole;
        ranges[range.parent].branches.push_back(whole);
    }
    return nothing;
}

RegexId RegexPool::concat(RegexId first, RegexId second) {
    if (first == nothing || second == nothing) return nothing;
    if (second == empty) return first;
    // Leans to the right: the parts before the last are put in front of it one by one.
    std::vector<RegexId> parts;
    while (nodes_[first].kind == Kind::Concat || nodes_[first].kind == Kind::Byte) {
        const Node& node = nodes_[first];
        parts.push_back(node.kind == Kind::Concat ? node.a : make(Kind::Byte, false, Alive::Yes, node.a, empty));
        first = nodes_[first].b;
    }
    spend(parts.size());
    RegexId result = first == empty ? second : 0;
    if (first != empty) parts.push_back(first), result = second;
    for (size_t i = parts.size(); i-- > 0;) {
        const Node part = nodes_[parts[i]], rest = nodes_[result];
        const Alive alive = part.alive == Alive::Yes && rest.alive == Alive::Yes ? Alive::Yes : Alive::Unknown;
        if (part.kind == Kind::Byte)
            result = make(Kind::Byte, false, alive, part.a, result);
        else
            result = make(Kind::Concat, part.nullable && rest.nullable, alive, parts[i], result);
    }
    return result;
}

RegexId RegexPool::concat(std::initializer_list<RegexId> parts) {
    RegexId result = empty;
    for (auto part = std::rbegin(parts); part != std::rend(parts); ++part) result = concat(*part, result);
    return result;
}

RegexId RegexPool::either(std::vector<RegexId> parts) {
    std::vector<RegexId> flat;
    ByteSet set;
    bool any_set = false;
    for (RegexId part : parts) {
        const Node& node = nodes_[part];
        if (node.kind == Kind::Either)
            flat.insert(flat.end(), arguments_.begin() + node.a, arguments_.begin() + node.a + node.b);
        else if (part != nothing)
            flat.push_back(part);
    }
    spend(flat.size());
    std::sort(flat.begin(), flat.end());
    flat.erase(std::unique(flat.begin(), flat.end()), flat.end());
    if (std::binary_search(flat.begin(), flat.end(), everything)) return everything;
    const auto is_one_byte = [&](RegexId part) {
        const Node& node = nodes_[part];
        return node.kind == Kind::Set || (node.kind == Kind::Byte && node.b == empty);
    };
    if (std::count_if(flat.begin(), flat.end(), is_one_byte) > 1) {
        std::erase_if(flat, [&](RegexId part) {
            if (!is_one_byte(part)) return false;
            const Node& node = nodes_[part];
            if (node.kind == Kind::Set)
                set |= sets_[node.a];
            else
                set.add(node.a);
            return any_set = true;
        });
        if (any_set) flat.insert(std::upper_bound(flat.begin(), flat.end(), 0u), bytes(set));
        std::sort(flat.begin(), flat.end());
    }
    // The empty text is in whatever is nullable.
    if (flat.size() > 1 && flat[0] == empty &&
        std::any_of(flat.begin() + 1, flat.end(), [&](RegexId part) { return nodes_[part].nullable; }))
        flat.erase(flat.begin());
    if (flat.empty()) return nothing;
    return flat.size() == 1 ? flat[0] : make_list(Kind::Either, flat);
}

RegexId RegexPool::both(RegexId first, RegexId second) {
    std::vector<RegexId> flat;
    for (RegexId part : {first, second}) {
        const Node& node = nodes_[part];
        if (part == nothing) return nothing;
        if (node.kind == Kind::Both)
            flat.insert(flat.end(), arguments_.begin() + node.a, arguments_.begin() + node.a + node.b);
        else if (part != everything)
            flat.push_back(part);
    }
    spend(flat.size());
    std::sort(flat.begin(), flat.end());
    flat.erase(std::unique(flat.begin(), flat.end()), flat.end());
    if (flat.empty()) return everything;
    if (flat[0] == empty) {
        const bool all = std::all_of(flat.begin(), flat.end(), [&](RegexId part) { return nodes_[part].nullable; });
        return all ? empty : nothing;
    }
    for (RegexId part : flat)
        if (nodes_[part].kind == Kind::Not && std::binary_search(flat.begin(), flat.end(), nodes_[part].a))
            return nothing;
    return flat.size() == 1 ? flat[0] : make_list(Kind::Both, flat);
}

RegexId RegexPool::invert(RegexId regex) {
    if (nodes_[regex].kind == Kind::Not) return nodes_[regex].a;
    const bool nullable = !nodes_[regex].nullable;
    return make(Kind::Not, nullable, nullable ? Alive::Yes : Alive::Unknown, regex, 0);
}

RegexId RegexPool::repeat(RegexId regex, uint32_t min, uint32_t max) {
    if (max == 0 || regex == empty) return empty;
    if (regex == nothing) return min == 0 ? empty : nothing;
    if (regex == everything) return everything;
    const Node node = nodes_[regex];
    if (node.nullable) min = 0;
    if (min == 1 && max == 1) return regex;
    if (max == 1 && node.nullable) return regex;
    if (node.kind == Kind::Repeat && min == 0 && max == unbounded && bounds_[node.b].max == unbounded &&
        bounds_[node.b].min <= 1)
        return repeat(node.a, 0, unbounded);
    const Bounds bounds{min, max};
    return make(Kind::Repeat, min == 0, min == 0 ? Alive::Yes : node.alive, regex,
                index_of(bounds_, bounds_index_, bounds, hash_of(min, max)));
}

RegexId RegexPool::multiple_of(uint64_t divisor, uint32_t decimals) { return multiple({divisor, 0, decimals, -2}); }

// decimal: -2 before the first digit, -1 before the point.
RegexId RegexPool::multiple(const Multiple& state) {
    const uint32_t index = index_of(multiples_, multiple_index_, state,
                                    hash_of(state.divisor, state.remainder, state.decimals, state.decimal));
    uint64_t remainder = state.remainder;
    for (int64_t i = std::max(state.decimal, 0); i < state.decimals; ++i) remainder = remainder * 10 % state.divisor;
    const bool ends = state.decimal == -1 || state.decimal > 0;
    return make(Kind::Multiple, ends && remainder == 0, Alive::Yes, index, 0);
}

// same: is narrowed to the bytes after which the same is left.
RegexId RegexPool::derive(RegexId regex, uint8_t byte, ByteSet& same) {
    const Node node = nodes_[regex];
    spend(1);
    switch (node.kind) {
        case Kind::Nothing:
        case Kind::Empty:
            return nothing;
        case Kind::Set: {
            const ByteSet& set = sets_[node.a];
            same &= set.has(byte) ? set : ~set;
            return set.has(byte) ? empty : nothing;
        }
        case Kind::Byte: {
            const ByteSet only = ByteSet::range(node.a, node.a);
            same &= byte == node.a ? only : ~only;
            return byte == node.a ? node.b : nothing;
        }
        case Kind::Concat: {
            std::vector<RegexId> ways;
            for (RegexId rest = regex;;) {
                const Node part = nodes_[rest];
                if (part.kind != Kind::Concat) {
                    ways.push_back(derive(rest, byte, same));
                    break;
                }
                ways.push_back(concat(derive(part.a, byte, same), part.b));
                if (!nodes_[part.a].nullable) break;
                rest = part.b;
            }
            return either(std::move(ways));
        }
        case Kind::Either: {
            std::vector<RegexId> ways;
            for (uint32_t i = 0; i < node.b; ++i) {
                const RegexId way = derive(arguments_[node.a + i], byte, same);
                if (way != nothing) ways.push_back(way);
            }
            return either(std::move(ways));
        }
        case Kind::Both: {
            RegexId all = everything;
            for (uint32_t i = 0; i < node.b; ++i) all = both(all, derive(arguments_[node.a + i], byte, same));
            return all;
        }
        case Kind::Not:
            return invert(derive(node.a, byte, same));
        case Kind::Repeat: {
            const auto [min, max] = bounds_[node.b];
            const RegexId once = derive(node.a, byte, same);
            if (once == nothing) return nothing;
            return concat(once, repeat(node.a, min == 0 ? 0 : min - 1, max == unbounded ? max : max - 1));
        }
        case Kind::Multiple: {
            same &= ByteSet::range(byte, byte);
            Multiple next = multiples_[node.a];
            if (byte == '.' && next.decimal == -1) {
                next.decimal = 0;
                return multiple(next);
            }
            if (byte < '0' || byte > '9') return nothing;
            if (next.decimal >= 0 && static_cast<uint32_t>(next.decimal) >= next.decimals) {
                if (byte != '0') return nothing;
                next.decimal = static_cast<int32_t>(next.decimals) + 1;  // further zeros change nothing
                return next.remainder == 0 ? multiple(next) : nothing;
            }
            next.remainder = (next.remainder * 10 + (byte - '0')) % next.divisor;
            next.decimal = next.decimal < 0 ? -1 : next.decimal + 1;
            return multiple(next);
        }
    }
    return nothing;
}

RegexId RegexPool::without_far_bounds(RegexId regex, uint32_t num_bytes, int depth) {
    constexpr int max_depth = 100;
    const Node node = nodes_[regex];
    if (!node.is_counted || depth > max_depth) return regex;
    const auto of = [&](RegexId part) { return without_far_bounds(part, num_bytes, depth + 1); };
    switch (node.kind) {
        case Kind::Byte:
        case Kind::Concat: {
            std::vector<RegexId> parts;
            RegexId rest = regex;
            while (nodes_[rest].is_counted && (nodes_[rest].kind == Kind::Concat || nodes_[rest].kind == Kind::Byte)) {
                const Node& part = nodes_[rest];
                parts.push_back(part.kind == Kind::Concat ? part.a
                                                          : make(Kind::Byte, false, Alive::Yes, part.a, empty));
                rest = nodes_[rest].b;
            }
            rest = of(rest);
            for (size_t i = parts.size(); i-- > 0;) rest = concat(of(parts[i]), rest);
            return rest;
        }
        case Kind::Either: {
            std::vector<RegexId> ways;
            for (uint32_t i = 0; i < node.b; ++i) ways.push_back(of(arguments_[node.a + i]));
            return either(std::move(ways));
        }
        case Kind::Repeat: {
            auto [min, max] = bounds_[node.b];
            const uint32_t rounds = num_bytes / std::max(nodes_[node.a].shortest, 1u) + 1;
            if (max > rounds) max = unbounded;
            return repeat(of(node.a), std::min(min, rounds), max);
        }
        default:
            return regex;
    }
}

// Most states are met once: the whole row is worked out when one is met again.
RegexId RegexPool::first_step(RegexId regex, uint8_t byte) {
    if (std::exchange(nodes_[regex].was_stepped, true)) {
        fill(regex);
        return step(regex, byte);
    }
    ByteSet same = ByteSet::all();
    const RegexId next = derive(regex, byte, same);
    return can_match(next) ? next : nothing;
}

void RegexPool::fill(RegexId regex) {
    Partition partition;
    std::vector<RegexId> successors;
    ByteSet left = ByteSet::all();
    for (uint32_t byte = 0; byte < 256; ++byte) {
        if (!left.has(byte)) continue;
        ByteSet same = left;
        RegexId next = derive(regex, static_cast<uint8_t>(byte), same);
        if (!can_match(next)) next = nothing;
        const auto known = std::find(successors.begin(), successors.end(), next);
        const uint8_t cls = static_cast<uint8_t>(known - successors.begin());
        if (known == successors.end()) successors.push_back(next);
        for (uint32_t i = byte; i < 256; ++i)
            if (same.has(i)) partition[i] = cls;
        left &= ~same;
    }
    if (successors_.size() > max_successors) too_large();
    Hash hash;
    hash.add(partition.data(), partition.size());
    Node& node = nodes_[regex];
    node.partition = index_of(partitions_, partition_index_, partition, hash.value());
    node.row = static_cast<uint32_t>(successors_.size());
    successors_.insert(successors_.end(), successors.begin(), successors.end());
}

int RegexPool::only_byte(RegexId regex) {
    if (is_literal(regex)) return static_cast<int>(nodes_[regex].a);
    int only = -1;
    for (int byte = 0; byte < 256; ++byte) {
        if (step(regex, static_cast<uint8_t>(byte)) == nothing) continue;
        if (only >= 0) return -1;
        only = byte;
    }
    return only;
}

bool RegexPool::can_match(RegexId regex) {
    if (nodes_[regex].alive == Alive::Unknown) search(regex);
    return nodes_[regex].alive == Alive::Yes;
}

// Looks for a way to the end among what may be left after each byte, first where the end seems nearest.
bool RegexPool::search(RegexId regex) {
    struct Visit {
        RegexId regex;
        uint32_t from;
    };
    std::vector<Visit> visits = {{regex, 0}};
    std::unordered_set<RegexId> seen = {regex};
    using Open = std::pair<uint32_t, uint32_t>;  // the least distance to the end; the later visit comes first
    std::priority_queue<Open, std::vector<Open>, std::greater<>> open;
    open.push({nodes_[regex].shortest, UINT32_MAX});
    while (!open.empty()) {
        const uint32_t index = UINT32_MAX - open.top().second;
        open.pop();
        const RegexId at = visits[index].regex;
        ByteSet left = ByteSet::all();
        for (uint32_t byte = 0; byte < 256; ++byte) {
            if (!left.has(byte)) continue;
            ByteSet same = left;
            const RegexId next = derive(at, static_cast<uint8_t>(byte), same);
            left &= ~same;
            if (nodes_[next].alive == Alive::No) continue;
            if (nodes_[next].alive == Alive::Yes) {
                for (uint32_t i = index;; i = visits[i].from) {
                    nodes_[visits[i].regex].alive = Alive::Yes;
                    if (i == 0) return true;
                }
            }
            if (!seen.insert(next).second) continue;
            open.push({nodes_[next].shortest, UINT32_MAX - static_cast<uint32_t>(visits.size())});
            visits.push_back({next, index});
        }
    }
    for (const Visit& dead : visits) nodes_[dead.regex].alive = Alive::No;
    return false;
}

bool RegexPool::matches(RegexId regex, std::string_view text) {
    for (char c : text) {
        if (regex == nothing) return false;
        regex = step(regex, static_cast<uint8_t>(c));
    }
    return is_nullable(regex);
}

}  // namespace gptoss::text
