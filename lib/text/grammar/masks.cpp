// Which tokens a state allows: what its terminals allow as far as each alone decides, and what goes on behind their
// ends.
#include <algorithm>

#include "text/grammar/automaton.h"

namespace gptoss::text {

namespace {

constexpr size_t max_masks = 64;
constexpr size_t max_leaves_memory = 16 << 20;

}  // namespace

bool Automaton::all_lead_to(RegexId regex, uint32_t first, uint32_t last, uint32_t more, RegexId goal) {
    RegexId before = RegexPool::everything;  // never what a byte of a character leads to here
    for (uint32_t byte = first; byte <= last; ++byte) {
        const RegexId next = pool_.step(regex, static_cast<uint8_t>(byte));
        if (byte > first && next == before) continue;
        before = next;
        if (next == RegexPool::nothing) return false;
        if (more == 0 ? next != goal : !all_lead_to(next, 0x80, 0xBF, more - 1, goal)) return false;
    }
    return true;
}

// What is left after a plain character, if that is the same for each of them; else nothing.
RegexId Automaton::after_plain(RegexId regex) {
    if (regex >= after_plain_.size()) after_plain_.resize(regex + regex / 2 + 64, UINT32_MAX);
    if (after_plain_[regex] != UINT32_MAX) return after_plain_[regex];
    const RegexId goal = pool_.step(regex, ' ');
    const auto rest = [&](RegexId lead, uint32_t first, uint32_t last, uint32_t more) {
        return lead != RegexPool::nothing && all_lead_to(lead, first, last, more, goal);
    };
    const bool same = goal != RegexPool::nothing && pool_.step(regex, 'a') == goal && pool_.step(regex, '0') == goal &&
                      all_lead_to(regex, ' ', '!', 0, goal) && all_lead_to(regex, '#', '[', 0, goal) &&
                      all_lead_to(regex, ']', 0x7F, 0, goal) && all_lead_to(regex, 0xC2, 0xDF, 1, goal) &&
                      rest(pool_.step(regex, 0xE0), 0xA0, 0xBF, 1) && all_lead_to(regex, 0xE1, 0xEC, 2, goal) &&
                      rest(pool_.step(regex, 0xED), 0x80, 0x9F, 1) && all_lead_to(regex, 0xEE, 0xEF, 2, goal) &&
                      rest(pool_.step(regex, 0xF0), 0x90, 0xBF, 2) && all_lead_to(regex, 0xF1, 0xF3, 3, goal) &&
                      rest(pool_.step(regex, 0xF4), 0x80, 0x8F, 2);
    return after_plain_[regex] = same ? goal : RegexPool::nothing;
}

// How many plain characters may come next, whichever they are; TokenTable::max_characters for more than that.
// within: only as long as the terminal cannot end behind them.
uint32_t Automaton::capacity(RegexId regex, bool within) {
    const size_t at = size_t{regex} << 1 | within;
    if (at >= capacities_.size()) capacities_.resize(at + at / 2 + 64, UINT8_MAX);
    if (capacities_[at] == UINT8_MAX) {
        const uint32_t count = find_capacity(regex, within);
        capacities_[at] = static_cast<uint8_t>(count);
    }
    return capacities_[at];
}

uint32_t Automaton::find_capacity(RegexId regex, bool within) {
    static_assert(TokenTable::max_characters < UINT8_MAX);
    constexpr uint32_t longest = TokenTable::max_characters - 1;
    if (!within || pool_.last_byte(regex) == '"') {
        if (const auto [of, rest, min, max] = pool_.repetition(regex); of == any_character_ && pool_.can_match(rest))
            return max == RegexPool::unbounded ? TokenTable::max_characters : std::min(max, longest);
        // A pattern that may begin anywhere: whatever comes, it may still begin.
        for (size_t i = 0; i < pool_.parts_of_either(regex).size(); ++i) {
            const auto [of, rest, min, max] = pool_.repetition(pool_.parts_of_either(regex)[i]);
            if (of == any_character_ && max == RegexPool::unbounded && pool_.can_match(rest))
                return TokenTable::max_characters;
        }
    }
    for (uint32_t count = 0; count < TokenTable::max_characters; ++count) {
        const RegexId next = after_plain(regex);
        if (next == RegexPool::nothing || (within && pool_.is_nullable(next))) return count;
        if (next == regex) return TokenTable::max_characters;
        regex = next;
    }
    return longest;
}

// An expression that allows the same tokens with fewer states: bounds that no token reaches do not count.
RegexId Automaton::within_a_token(RegexId regex) {
    if (const auto known = within_a_token_.find(regex); known != within_a_token_.end()) return known->second;
    const uint32_t longest = table_->longest_token();
    RegexId result = regex;
    if (const std::span<const RegexId> parts = pool_.parts_of_both(regex); parts.empty()) {
        result = pool_.without_far_bounds(regex, longest);
    } else if (parts.size() == 2 && program_.strings_are_json) {
        // A string's length and its pattern: while the pattern can be completed within the length, it alone counts.
        for (const auto& [length, pattern] : {std::pair(parts[0], parts[1]), std::pair(parts[1], parts[0])}) {
            const auto [of, rest, min, max] = pool_.repetition(length);
            const uint32_t completion = pool_.longest_completion(pattern);
            if (of != any_character_ || min > 0 || !pool_.is_literal(rest) || pool_.last_byte(rest) != '"' ||
                pool_.step(rest, '"') != RegexPool::empty || completion == RegexPool::unbounded ||
                completion + longest > max)
                continue;
            result = pool_.without_far_bounds(pattern, longest);
            break;
        }
    }
    within_a_token_.emplace(regex, result);
    return result;
}

// Part of an intersection that allows any plain characters, so that the whole differs from it in few tokens; nothing if
// there is none.
RegexId Automaton::wide_part(RegexId regex) {
    for (size_t i = 0; i < pool_.parts_of_both(regex).size(); ++i) {
        const RegexId part = pool_.parts_of_both(regex)[i];
        const auto [of, rest, min, max] = pool_.repetition(part);
        if (of != any_character_ || max != RegexPool::unbounded) continue;
        uint32_t different = 0;
        for (uint8_t letter = 'a'; letter <= 'z'; ++letter)
            different += pool_.step(regex, letter) != pool_.step(part, letter);
        if (different < 13) return part;
    }
    return RegexPool::nothing;
}

// Makes of the tokens that base allows those that regex allows. Wherever the same is left of both, so are the tokens.
void Automaton::walk_difference(const TokenTrie& trie, bool plain, RegexId regex, RegexId base, Leaf& leaf,
                                bool with_exits) {
    struct Level {
        uint32_t end;
        RegexId regex, base;
    };
    const uint32_t count = static_cast<uint32_t>(trie.nodes.size());
    const uint32_t flag = plain ? plain_node : 0;
    std::vector<Level> path = {{count, regex, base}};
    std::vector<uint32_t> added;
    std::vector<std::pair<uint32_t, uint32_t>> removed;  // ranges of nodes
    for (uint32_t i = 0; i < count;) {
        const TokenTrie::Node& node = trie.nodes[i];
        while (i >= path.back().end) path.pop_back();
        const RegexId next = pool_.step(path.back().regex, node.byte);
        const RegexId next_base = pool_.step(path.back().base, node.byte);
        spend(1);
        if (next == next_base) {
            i = node.end;
            continue;
        }
        const bool dead_end = next == RegexPool::nothing;
        removed.push_back({i, dead_end ? node.end : i + 1});
        for (uint32_t below = i; below < removed.back().second; ++below)
            if (const Token token = trie.nodes[below].token; token != no_token)
                dead_end ? forbid(leaf.mask, token) : allow(leaf.mask, token);
        if (with_exits && !dead_end && node.end > i + 1 && pool_.is_nullable(next)) added.push_back(i | flag);
        if (!dead_end) path.push_back({node.end, next, next_base});
        i = removed.back().second;
    }
    std::erase_if(leaf.exits, [&](uint32_t exit) {
        if ((exit & plain_node) != flag) return false;
        const uint32_t node = exit & ~plain_node;
        const auto after = std::upper_bound(removed.begin(), removed.end(), std::pair(node, UINT32_MAX));
        return after != removed.begin() && node < std::prev(after)->second;
    });
    leaf.exits.insert(leaf.exits.end(), added.begin(), added.end());
}

const Automaton::CountedLeaf& Automaton::counted_leaf(RegexId rest) {
    if (const auto known = counted_leaves_.find(rest); known != counted_leaves_.end()) return known->second;
    struct Level {
        uint32_t end;
        RegexId regex;
        uint32_t begun;  // characters, the one being read among them
    };
    const RegexId between = pool_.concat(pool_.repeat(any_character_, 0, RegexPool::unbounded), rest);
    const TokenTrie& trie = table_->other();
    const uint32_t count = static_cast<uint32_t>(trie.nodes.size());
    CountedLeaf leaf;
    std::vector<Level> path = {{count, between, 0}};
    for (uint32_t i = 0; i < count;) {
        const TokenTrie::Node& node = trie.nodes[i];
        while (i >= path.back().end) path.pop_back();
        const Level& level = path.back();
        const RegexId next = pool_.step(level.regex, node.byte);
        spend(1);
        if (next == RegexPool::nothing) {
            i = node.end;
            continue;
        }
        const bool ends = next == RegexPool::empty;
        const uint32_t begun = level.begun + (level.regex == between && !ends);
        if (node.token != no_token) (ends ? leaf.last : leaf.inside).push_back({begun, node.token});
        if (ends) {
            if (node.end > i + 1) leaf.exits.push_back({begun, i});
            i = node.end;
            continue;
        }
        path.push_back({node.end, next, begun});
        ++i;
    }
    const auto by_characters = [](const CountedLeaf::Entry& a, const CountedLeaf::Entry& b) {
        return a.characters < b.characters;
    };
    for (auto* entries : {&leaf.inside, &leaf.last, &leaf.exits})
        std::stable_sort(entries->begin(), entries->end(), by_characters);
    leaves_memory_ += 8 * (leaf.inside.capacity() + leaf.last.capacity() + leaf.exits.capacity());
    return counted_leaves_.emplace(rest, std::move(leaf)).first->second;
}

// In a JSON string of a bounded length the tokens depend on nothing but how many characters may and must come.
bool Automaton::add_counted(const Thread& thread, TokenMask& mask) {
    const auto [of, rest, min, max] = pool_.repetition(thread.regex);
    if (of != any_character_ || !pool_.is_literal(rest) || pool_.step(rest, '"') != RegexPool::empty) return false;
    if (max != RegexPool::unbounded && max >= TokenTable::max_characters - 1 &&
        table_->longest_token() >= TokenTable::max_characters)
        return false;
    const StateId behind = closure(thread.next, thread.frame);
    const TokenMask& plain = table_->plain_up_to(std::min(max, TokenTable::max_characters));
    for (size_t word = 0; word < mask.size(); ++word) mask[word] |= plain[word];
    const CountedLeaf& leaf = counted_leaf(rest);
    for (const auto& [characters, token] : leaf.inside) {
        if (characters > max) break;
        allow(mask, token);
    }
    for (const auto& [characters, token] : leaf.last)
        if (characters >= min && characters <= max) allow(mask, token);
    if (states_[behind].has_text)
        for (const auto& [characters, node] : leaf.exits)
            if (characters >= min && characters <= max)
                walk(table_->other(), node + 1, table_->other().nodes[node].end, behind, mask);
    return true;
}

// Finds the tokens that a terminal allows. covered: plain tokens of up to that many characters are known to be allowed.
void Automaton::walk_terminal(const TokenTrie& trie, bool plain, RegexId regex, uint32_t covered, Leaf& leaf,
                              bool with_exits) {
    struct Level {
        uint32_t end;
        RegexId regex;
        uint32_t characters;  // so far
    };
    const uint32_t count = static_cast<uint32_t>(trie.nodes.size());
    std::vector<Level> path = {{count, regex, 0}};
    for (uint32_t i = 0; i < count;) {
        const TokenTrie::Node& node = trie.nodes[i];
        while (i >= path.back().end) path.pop_back();
        const uint32_t characters = path.back().characters + ((node.byte & 0xC0) != 0x80);
        const RegexId next = pool_.step(path.back().regex, node.byte);
        spend(1);
        // of plain tokens alone: others may begin within a character, which counts for none
        if (next == RegexPool::nothing || (plain && characters + node.longest <= covered)) {
            i = node.end;
            continue;
        }
        if (node.token != no_token) allow(leaf.mask, node.token);
        if (with_exits && node.end > i + 1 && pool_.is_nullable(next))
            leaf.exits.push_back(i | (plain ? plain_node : 0));
        if (next == RegexPool::empty) {
            i = node.end;
            continue;
        }
        if (plain && node.longest > 0 && node.longest < TokenTable::max_characters && node.byte < 0x80 &&
            capacity(next, with_exits) >= node.longest) {
            for (uint32_t below = i + 1; below < node.end; ++below)
                if (trie.nodes[below].token != no_token) allow(leaf.mask, trie.nodes[below].token);
            i = node.end;
            continue;
        }
        path.push_back({node.end, next, characters});
        ++i;
    }
}

const Automaton::Leaf& Automaton::leaf(RegexId regex, bool with_exits) {
    const uint64_t key = uint64_t{regex} << 1 | with_exits;
    if (const auto known = leaves_.find(key); known != leaves_.end()) return known->second;
    if (leaves_memory_ > max_leaves_memory) {
        leaves_.clear();
        leaves_memory_ = 0;
    }
    Leaf leaf;
    leaf.mask.assign(table_->mask_words(), 0);
    // Where a plain character may end the terminal, tokens may go on behind it.
    const uint32_t covered = capacity(regex, with_exits);
    if (const RegexId base = wide_part(regex); base != RegexPool::nothing) {
        leaf = this->leaf(base, with_exits);
        leaf.mask.resize(table_->mask_words());
        for (Token token : leaf.tokens) allow(leaf.mask, token);
        leaf.tokens.clear();
        walk_difference(table_->plain(), true, regex, base, leaf, with_exits);
        walk_difference(table_->other(), false, regex, base, leaf, with_exits);
    } else {
        if (covered > 0) leaf.mask = table_->plain_up_to(covered);
        if (covered < TokenTable::max_characters)
            walk_terminal(table_->plain(), true, regex, covered, leaf, with_exits);
        walk_terminal(table_->other(), false, regex, 0, leaf, with_exits);
    }
    size_t allowed = 0;
    for (uint32_t word : leaf.mask) allowed += static_cast<size_t>(__builtin_popcount(word));
    if (allowed < leaf.mask.size() / 2) {
        leaf.tokens.reserve(allowed);
        for (uint32_t word = 0; word < leaf.mask.size(); ++word)
            for (uint32_t bits = leaf.mask[word]; bits != 0; bits &= bits - 1)
                leaf.tokens.push_back(word * 32 + static_cast<uint32_t>(__builtin_ctz(bits)));
        leaf.mask = {};
    }
    leaves_memory_ += 200 + 4 * (leaf.mask.capacity() + leaf.tokens.capacity() + leaf.exits.capacity());
    return leaves_.emplace(key, std::move(leaf)).first->second;
}

// The tokens below a part of the trie that a state allows.
void Automaton::walk(const TokenTrie& trie, uint32_t begin, uint32_t end, StateId state, TokenMask& mask) {
    struct Level {
        uint32_t end;
        StateId state;
    };
    std::vector<Level> path = {{end, state}};
    for (uint32_t i = begin; i < end;) {
        const TokenTrie::Node& node = trie.nodes[i];
        while (i >= path.back().end) path.pop_back();
        const StateId next = step(path.back().state, node.byte);
        spend(1);
        if (next == dead) {
            i = node.end;
            continue;
        }
        if (node.token != no_token) allow(mask, node.token);
        path.push_back({node.end, next});
        ++i;
    }
}

// A terminal that goes on with one certain text: its way through the tries is short.
void Automaton::add_literal(RegexId regex, const Thread& thread, TokenMask& mask) {
    for (const TokenTrie* trie : {&table_->plain(), &table_->other()}) {
        RegexId rest = regex;
        uint32_t begin = 0, end = static_cast<uint32_t>(trie->nodes.size());
        while (true) {
            uint32_t i = begin;
            if (pool_.is_literal(rest)) {
                const uint8_t byte = static_cast<uint8_t>(pool_.only_byte(rest));
                if (begin == 0 && end == trie->nodes.size())
                    i = trie->roots[byte];
                else
                    while (i < end && trie->nodes[i].byte < byte) i = trie->nodes[i].end;
                if (i >= end || trie->nodes[i].byte != byte) break;
                rest = pool_.step(rest, byte);
                if (trie->nodes[i].token != no_token) allow(mask, trie->nodes[i].token);
                begin = i + 1;
                end = trie->nodes[i].end;
                continue;
            }
            // The rest is a general expression, or the terminal ends here.
            std::vector<Thread> threads;
            if (rest != RegexPool::empty) threads.push_back({rest, thread.next, thread.frame});
            bool accepts = false;
            if (pool_.is_nullable(rest)) {
                const State& behind = states_[closure(thread.next, thread.frame)];
                threads.insert(threads.end(), threads_.begin() + behind.first,
                               threads_.begin() + behind.first + behind.count);
                accepts = behind.accepts;
            }
            if (begin < end) walk(*trie, begin, end, intern(threads, accepts), mask);
            break;
        }
    }
}

const TokenMask& Automaton::mask(StateId state) {
    if (const auto known = masks_.find(state); known != masks_.end()) return known->second;
    if (masks_.size() >= max_masks) masks_.clear();
    TokenMask mask(table_->mask_words());
    const State from = states_[state];
    for (uint32_t i = from.first; i < from.first + from.count; ++i) {
        const Thread thread = threads_[i];
        if (thread.regex >= special) {
            allow(mask, thread.regex & ~special);
            continue;
        }
        if (pool_.is_literal(thread.regex)) {
            add_literal(thread.regex, thread, mask);
            continue;
        }
        if (add_counted(thread, mask)) continue;
        const StateId behind = closure(thread.next, thread.frame);
        const Leaf& found = leaf(within_a_token(thread.regex), states_[behind].has_text);
        if (found.mask.empty()) {
            for (Token token : found.tokens) allow(mask, token);
        } else {
            for (size_t word = 0; word < mask.size(); ++word) mask[word] |= found.mask[word];
        }
        for (uint32_t exit : found.exits) {
            const TokenTrie& trie = exit & plain_node ? table_->plain() : table_->other();
            const uint32_t node = exit & ~plain_node;
            walk(trie, node + 1, trie.nodes[node].end, behind, mask);
        }
    }
    return masks_.emplace(state, std::move(mask)).first->second;
}

}  // namespace gptoss::text
