#include "text/grammar/grammar.h"

#include <algorithm>

#include "base/error.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/harmony_grammar.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/regex_syntax.h"

namespace gptoss::text {

namespace {

constexpr size_t renewed_memory = 48 << 20;  // of states, from where on new sequences begin with new ones
constexpr size_t max_memory = 160 << 20;
constexpr size_t longest_forced = 2048;  // bytes

}  // namespace

std::shared_ptr<const Grammar> Grammar::from_json_schema(std::shared_ptr<const TokenTable> table,
                                                         std::string_view schema) {
    Program program;
    const SchemaDocument document(schema);
    program.start = add_json_schema(program, document);
    return std::make_shared<const Grammar>(std::move(program), std::move(table));
}

std::shared_ptr<const Grammar> Grammar::from_regex(std::shared_ptr<const TokenTable> table,
                                                   std::string_view expression) {
    Program program;
    const RegexId regex = parse_regex(program.pool, expression, Anchoring::Whole, Encoding::Utf8);
    program.strings_are_json = false;
    program.start = program.add_rule();
    program.rules[program.start] = program.match(regex, Program::return_address);
    return std::make_shared<const Grammar>(std::move(program), std::move(table));
}

std::shared_ptr<const Grammar> Grammar::from_gbnf(std::shared_ptr<const TokenTable> table, std::string_view text) {
    Program program;
    program.start = add_gbnf(program, *table->tokenizer(), text);
    return std::make_shared<const Grammar>(std::move(program), std::move(table));
}

std::shared_ptr<const Grammar> Grammar::from_harmony(std::shared_ptr<const TokenTable> table,
                                                     std::string_view options) {
    Program program;
    program.start = add_harmony_turn(program, *table->tokenizer(), options);
    return std::make_shared<const Grammar>(std::move(program), std::move(table));
}

Grammar::Grammar(Program program, std::shared_ptr<const TokenTable> table)
    : table_(std::move(table)), program_(std::move(program)) {
    program_.remove_dead_ends();
    program_.pool.restart_budget();
    shared();
}

std::shared_ptr<Grammar::Shared> Grammar::shared() const {
    const std::lock_guard lock(mutex_);
    if (shared_) {
        const std::lock_guard inner(shared_->mutex);
        if (shared_->automaton.memory() < renewed_memory) return shared_;
    }
    return shared_ = std::make_shared<Shared>(*this);
}

GrammarState::GrammarState(std::shared_ptr<const Grammar> grammar)
    : grammar_(std::move(grammar)), shared_(grammar_->shared()), states_{shared_->automaton.start()} {}

bool GrammarState::advance(Token token) {
    const std::lock_guard lock(shared_->mutex);
    Automaton& automaton = shared_->automaton;
    automaton.restart_budget();
    if (automaton.memory() > max_memory)
        throw Error(Status::InsufficientResources,
                    "grammar: its states need more than " + std::to_string(max_memory >> 20) + " MiB for this text");
    const StateId next = automaton.step_token(states_.back(), token);
    if (next == Automaton::dead) return false;
    states_.push_back(next);
    return true;
}

void GrammarState::truncate(size_t count) { states_.resize(std::min(states_.size(), count + 1)); }

bool GrammarState::accepts() const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->automaton.accepts(states_.back());
}

bool GrammarState::is_complete() const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->automaton.is_complete(states_.back());
}

void GrammarState::mask(std::span<uint32_t> bits) const {
    const std::lock_guard lock(shared_->mutex);
    shared_->automaton.restart_budget();
    const TokenMask& mask = shared_->automaton.mask(states_.back());
    const size_t count = std::min(bits.size(), mask.size());
    std::copy_n(mask.begin(), count, bits.begin());
    std::fill(bits.begin() + static_cast<ptrdiff_t>(count), bits.end(), 0);
}

std::vector<Token> GrammarState::forced() const {
    const std::lock_guard lock(shared_->mutex);
    Automaton& automaton = shared_->automaton;
    automaton.restart_budget();
    const Tokenizer& tokenizer = *grammar_->table().tokenizer();
    std::vector<Token> tokens;
    StateId state = states_.back();
    while (true) {
        std::string text;
        Automaton::Forced next = automaton.forced(state);
        for (; next.byte >= 0 && text.size() < longest_forced; next = automaton.forced(state)) {
            text += static_cast<char>(next.byte);
            state = automaton.step(state, static_cast<uint8_t>(next.byte));
        }
        std::vector<Token> encoded = tokenizer.encode(text, false);
        // Text that goes on freely, or that ends, may be cut differently from where a longer token could begin.
        const bool ends_here = next.token != no_token;
        if (!ends_here) {
            size_t end = 0, sure = 0;
            for (size_t i = 0; i < encoded.size(); ++i) {
                if (grammar_->table().begins_longer_token(std::string_view(text).substr(end))) break;
                end += tokenizer.text_token(encoded[i]).size();
                sure = i + 1;
            }
            encoded.resize(sure);
        }
        tokens.insert(tokens.end(), encoded.begin(), encoded.end());
        if (!ends_here || tokens.size() > longest_forced) return tokens;
        tokens.push_back(next.token);
        state = automaton.step_token(state, next.token);
    }
}

}  // namespace gptoss::text
