// A grammar as instructions: terminals are regular expressions over bytes and special tokens; rules call each other,
// so that a stack of frames says how to go on.
#pragma once

#include <cstdint>
#include <vector>

#include "text/grammar/regex.h"
#include "text/tokenizer/vocabulary.h"

namespace gptoss::text {

using Address = uint32_t;  // of an instruction

struct Instruction {
    enum class Op : uint8_t {
        Match,   // a: an expression
        Token,   // a: a special token
        Split,   // to any of the targets a to a + b
        Call,    // a: a rule
        Loop,    // a: the body, b: an index of bounds
        Return,  // of a rule, or to the loop of a body
    };
    Op op;
    uint32_t a = 0, b = 0;
    Address next = 0;
};

struct Program {
    struct Bounds {
        uint32_t min, max;  // RegexPool::unbounded
    };
    static constexpr Address return_address = 0;

    RegexPool pool;
    std::vector<Instruction> code = {{Instruction::Op::Return}};
    std::vector<Address> targets;
    std::vector<Bounds> bounds;
    std::vector<Address> rules;  // where each begins
    uint32_t start = 0;          // a rule
    // Intersections are of texts within a JSON string alone.
    bool strings_are_json = true;

    // Each makes an instruction that goes on at next. Throws InsufficientResources for too many.
    Address match(RegexId regex, Address next);
    Address token(Token token, Address next) { return add({Instruction::Op::Token, token, 0, next}); }
    // One of several ways; the only one itself.
    Address split(const std::vector<Address>& ways);
    // Gives a split other ways.
    void fill(Address split, const std::vector<Address>& ways);
    Address call(uint32_t rule, Address next) { return add({Instruction::Op::Call, rule, 0, next}); }
    // A body is made with return_address as its end.
    Address loop(Address body, uint32_t min, uint32_t max, Address next);
    // A rule whose beginning is set later.
    uint32_t add_rule();

    // Takes away the ways that can never come to an end. Throws InvalidArgument if none is left.
    void remove_dead_ends();
    // A rule that calls itself before it has matched anything, or rules.size() if there is none.
    uint32_t find_left_recursion() const;

  private:
    Address add(const Instruction& instruction);
    // The instructions of which something holds that follows from where they lead: the least set.
    template <typename Holds>
    std::vector<uint8_t> find_all(const Holds& holds) const;
};

}  // namespace gptoss::text
