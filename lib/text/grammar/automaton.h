// The states of a grammar, made as they are met. A state is a set of threads: each is within a terminal and has a stack
// of frames to return to. Equal frames and states are one, so that transitions, and the tokens that a terminal allows,
// are worked out once. Not thread-safe: its owner locks.
#pragma once

#include <memory>
#include <unordered_map>

#include "text/grammar/program.h"
#include "text/grammar/token_table.h"

namespace gptoss::text {

using StateId = uint32_t;

class Automaton {
  public:
    static constexpr StateId dead = 0;

    Automaton(const Program& program, std::shared_ptr<const TokenTable> table);

    StateId start() const { return start_; }
    // dead if the grammar does not allow it.
    StateId step(StateId state, uint8_t byte);
    StateId step_token(StateId state, Token token);
    // Whether the text may end here, and whether it must.
    bool accepts(StateId state) const { return states_[state].accepts; }
    bool is_complete(StateId state) const { return states_[state].accepts && states_[state].count == 0; }
    // All tokens that may come next. Valid until the next call.
    const TokenMask& mask(StateId state);
    // The only byte, or the only special token, that can come next.
    struct Forced {
        int byte = -1;
        Token token = no_token;
    };
    Forced forced(StateId state);

    size_t memory() const;
    // Work of one call from outside is bounded: counted from here on.
    void restart_budget();

  private:
    using FrameId = uint32_t;
    struct Frame {
        Address next;
        uint32_t count;  // of a loop's rounds
        FrameId parent;
        bool operator==(const Frame&) const = default;
    };
    // regex: what is left of the terminal; or special | a token.
    struct Thread {
        uint32_t regex;
        Address next;
        FrameId frame;
        auto operator<=>(const Thread&) const = default;
    };
    static constexpr uint32_t special = 1u << 31;
    struct State {
        uint32_t first, count;  // threads
        bool accepts;
        bool has_text;  // a thread is within an expression
    };
    // Tokens that a terminal allows from its beginning on, as far as it alone decides; exits: where a token goes on
    // behind its end (a node of the trie of other tokens, or of plain ones with plain_node).
    struct Leaf {
        TokenMask mask;  // or, if they are few,
        std::vector<Token> tokens;
        std::vector<uint32_t> exits;
    };
    static constexpr uint32_t plain_node = 1u << 31;

    StateId intern(std::vector<Thread>& threads, bool accepts);
    FrameId frame(const Frame& frame);
    void close(Address at, uint32_t count, FrameId frame, std::vector<Thread>& threads, bool& accepts);
    StateId closure(Address at, FrameId frame);
    void spend(size_t work);

    uint32_t capacity(RegexId regex, bool within);
    uint32_t find_capacity(RegexId regex, bool within);
    RegexId within_a_token(RegexId regex);
    RegexId after_plain(RegexId regex);
    bool all_lead_to(RegexId regex, uint32_t first, uint32_t last, uint32_t more, RegexId goal);
    const Leaf& leaf(RegexId regex, bool with_exits);
    // Of a repetition of any characters: tokens that begin or end at most so many of them, sorted by that.
    struct CountedLeaf {
        struct Entry {
            uint32_t characters;
            uint32_t what;  // a token or a node
        };
        std::vector<Entry> inside;  // tokens that end within the repetition
        std::vector<Entry> last;    // tokens that end with the terminal
        std::vector<Entry> exits;   // nodes of the trie of other tokens where the terminal ends
    };
    const CountedLeaf& counted_leaf(RegexId rest);
    bool add_counted(const Thread& thread, TokenMask& mask);
    RegexId wide_part(RegexId regex);
    void walk_difference(const TokenTrie& trie, bool plain, RegexId regex, RegexId base, Leaf& leaf, bool with_exits);
    void walk_terminal(const TokenTrie& trie, bool plain, RegexId regex, uint32_t covered, Leaf& leaf, bool with_exits);
    void add_literal(RegexId regex, const Thread& thread, TokenMask& mask);
    void walk(const TokenTrie& trie, uint32_t begin, uint32_t end, StateId state, TokenMask& mask);

    const Program& program_;
    const std::shared_ptr<const TokenTable> table_;
    RegexPool pool_;
    std::vector<Thread> threads_;
    std::vector<State> states_;
    std::vector<Frame> frames_;
    std::unordered_multimap<uint64_t, StateId> states_by_hash_;
    std::unordered_multimap<uint64_t, FrameId> frames_by_hash_;
    std::unordered_map<uint64_t, StateId> steps_, closures_;
    std::vector<RegexId> after_plain_;  // by expression; UINT32_MAX: unknown
    std::vector<uint8_t> capacities_;   // by expression and whether within; UINT8_MAX: unknown
    std::unordered_map<RegexId, RegexId> within_a_token_;
    std::unordered_map<uint64_t, Leaf> leaves_;                // by expression and whether it has exits
    std::unordered_map<RegexId, CountedLeaf> counted_leaves_;  // by what follows the repetition
    RegexId any_character_ = RegexPool::nothing;               // in a JSON string
    size_t leaves_memory_ = 0;
    std::unordered_map<StateId, TokenMask> masks_;
    StateId start_ = dead;
    size_t work_ = 0;
};

}  // namespace gptoss::text
