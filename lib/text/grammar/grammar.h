// Grammars for generated text: which tokens may come next.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "text/grammar/automaton.h"

namespace gptoss::text {

// Immutable, and shared by any number of threads and sequences.
class Grammar {
  public:
    // Each throws InvalidArgument for a grammar that is wrong, UnsupportedArgument for one that asks for what cannot be
    // enforced, InsufficientResources for one that needs too much; the message names the place.
    static std::shared_ptr<const Grammar> from_json_schema(std::shared_ptr<const TokenTable> table,
                                                           std::string_view schema);
    // The whole text matches the expression.
    static std::shared_ptr<const Grammar> from_regex(std::shared_ptr<const TokenTable> table,
                                                     std::string_view expression);
    // As llama.cpp writes it; the text matches the rule "root".
    static std::shared_ptr<const Grammar> from_gbnf(std::shared_ptr<const TokenTable> table, std::string_view text);

    // Of a whole turn of the assistant; options as in harmony_grammar.h.
    static std::shared_ptr<const Grammar> from_harmony(std::shared_ptr<const TokenTable> table,
                                                       std::string_view options);

    Grammar(Program program, std::shared_ptr<const TokenTable> table);

    const TokenTable& table() const { return *table_; }

  private:
    friend class GrammarState;

    // States are made as they are met, under a lock. When there are too many, new sequences begin with none.
    struct Shared {
        explicit Shared(const Grammar& grammar) : automaton(grammar.program_, grammar.table_) {}
        std::mutex mutex;
        Automaton automaton;
    };
    std::shared_ptr<Shared> shared() const;

    const std::shared_ptr<const TokenTable> table_;
    Program program_;
    mutable std::mutex mutex_;
    mutable std::shared_ptr<Shared> shared_;
};

// Where one sequence is in a grammar. Cheap to copy; not thread-safe itself, but different ones are independent.
class GrammarState {
  public:
    explicit GrammarState(std::shared_ptr<const Grammar> grammar);

    // False, and nothing has changed, if the grammar does not allow the token.
    bool advance(Token token);
    // Takes back all tokens except the first count.
    void truncate(size_t count);
    size_t num_tokens() const { return states_.size() - 1; }

    // Whether the text may end here, and whether it must: nothing can follow.
    bool accepts() const;
    bool is_complete() const;
    // Sets the bit of each token that may come next and clears all others; tokens without a bit are not set. Throws
    // InsufficientResources, as advance() does, where that takes too long.
    void mask(std::span<uint32_t> bits) const;
    // Tokens that are the only possible continuation: they need no sampling. The text that is forced beyond the last of
    // them may still be cut into tokens in different ways.
    std::vector<Token> forced() const;

    const Grammar& grammar() const { return *grammar_; }

  private:
    std::shared_ptr<const Grammar> grammar_;
    std::shared_ptr<Grammar::Shared> shared_;
    std::vector<StateId> states_;  // after each token
};

}  // namespace gptoss::text
