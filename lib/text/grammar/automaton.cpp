#include "text/grammar/automaton.h"

#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "text/grammar/characters.h"

namespace gptoss::text {

namespace {

constexpr size_t max_work = 10'000'000;
constexpr size_t max_threads = 20'000;  // of a state

uint64_t mix(uint64_t a, uint64_t b, uint64_t c) {
    uint64_t hash = (a * 0x9E3779B97F4A7C15 ^ b) * 0xD6E8FEB86659FD93;
    hash = (hash ^ hash >> 32 ^ c) * 0x9E3779B97F4A7C15;
    return hash ^ hash >> 29;
}

}  // namespace

Automaton::Automaton(const Program& program, std::shared_ptr<const TokenTable> table)
    : program_(program), table_(std::move(table)), pool_(program.pool) {
    states_.push_back({0, 0, false, false});
    frames_.push_back({Program::return_address, 0, 0});  // the bottom of every stack
    any_character_ = one_of(pool_, {{0, last_character}}, Encoding::JsonString);
    start_ = closure(program_.rules[program_.start], 0);
}

void Automaton::restart_budget() {
    work_ = 0;
    pool_.restart_budget();
}

void Automaton::spend(size_t work) {
    work_ += work;
    if (work_ > max_work)
        throw Error(Status::InsufficientResources,
                    "grammar: a step takes more time than is allowed; it is too ambiguous, or a pattern too large");
}

size_t Automaton::memory() const {
    return pool_.memory() + threads_.size() * sizeof(Thread) + states_.size() * (sizeof(State) + 40) +
           frames_.size() * (sizeof(Frame) + 40) + (steps_.size() + closures_.size()) * 40 + leaves_memory_ +
           masks_.size() * table_->mask_words() * 4 + after_plain_.size() * 4 + capacities_.size() +
           within_a_token_.size() * 40;
}

Automaton::FrameId Automaton::frame(const Frame& frame) {
    const uint64_t hash = mix(frame.next, frame.count, frame.parent);
    const auto [begin, end] = frames_by_hash_.equal_range(hash);
    for (auto entry = begin; entry != end; ++entry)
        if (frames_[entry->second] == frame) return entry->second;
    frames_.push_back(frame);
    const FrameId id = static_cast<FrameId>(frames_.size() - 1);
    frames_by_hash_.emplace(hash, id);
    return id;
}

StateId Automaton::intern(std::vector<Thread>& threads, bool accepts) {
    std::sort(threads.begin(), threads.end());
    threads.erase(std::unique(threads.begin(), threads.end()), threads.end());
    if (threads.empty() && !accepts) return dead;
    if (threads.size() > max_threads)
        throw Error(Status::InsufficientResources, "grammar: more than " + std::to_string(max_threads) +
                                                       " ways to read the same text; it is too ambiguous");
    Hash content;
    for (const Thread& thread : threads) {
        const uint64_t part = mix(thread.regex, thread.next, thread.frame);
        content.add(&part, sizeof(part));
    }
    const uint64_t hash = mix(content.value(), accepts, threads.size());
    const auto [begin, end] = states_by_hash_.equal_range(hash);
    for (auto entry = begin; entry != end; ++entry) {
        const State& state = states_[entry->second];
        if (state.accepts == accepts && state.count == threads.size() &&
            std::equal(threads.begin(), threads.end(), threads_.begin() + state.first))
            return entry->second;
    }
    const StateId id = static_cast<StateId>(states_.size());
    const bool has_text =
        std::any_of(threads.begin(), threads.end(), [](const Thread& thread) { return thread.regex < special; });
    states_.push_back(
        {static_cast<uint32_t>(threads_.size()), static_cast<uint32_t>(threads.size()), accepts, has_text});
    threads_.insert(threads_.end(), threads.begin(), threads.end());
    states_by_hash_.emplace(hash, id);
    return id;
}

// Adds the threads of all terminals that can come next at an instruction.
void Automaton::close(Address at, uint32_t count, FrameId from, std::vector<Thread>& threads, bool& accepts) {
    using Op = Instruction::Op;
    struct Item {
        Address at;
        uint32_t count;
        FrameId frame;
        bool operator==(const Item&) const = default;
    };
    std::vector<Item> work = {{at, count, from}};
    // Only instructions where ways meet again, or that may come back to themselves, are remembered.
    std::unordered_multimap<uint64_t, Item> seen;
    const auto is_new = [&](const Item& item) {
        const uint64_t hash = mix(item.at, item.count, item.frame);
        const auto [begin, end] = seen.equal_range(hash);
        for (auto entry = begin; entry != end; ++entry)
            if (entry->second == item) return false;
        seen.emplace(hash, item);
        return true;
    };
    while (!work.empty()) {
        const Item item = work.back();
        work.pop_back();
        spend(8);
        const Instruction& i = program_.code[item.at];
        switch (i.op) {
            case Op::Match:
                threads.push_back({i.a, i.next, item.frame});
                if (pool_.is_nullable(i.a)) work.push_back({i.next, 0, item.frame});
                break;
            case Op::Token:
                threads.push_back({special | i.a, i.next, item.frame});
                break;
            case Op::Split:
                if (i.b > 1 && !is_new(item)) break;
                for (uint32_t way = i.b; way-- > 0;) work.push_back({program_.targets[i.a + way], 0, item.frame});
                break;
            case Op::Call: {
                if (!is_new(item)) break;
                // Nothing is left to do behind a call at the end of a rule: recursion there needs no stack.
                const bool last = program_.code[i.next].op == Op::Return;
                work.push_back({program_.rules[i.a], 0, last ? item.frame : frame({i.next, 0, item.frame})});
                break;
            }
            case Op::Loop: {
                if (!is_new(item)) break;
                const auto [min, max] = program_.bounds[i.b];
                if (item.count >= min) work.push_back({i.next, 0, item.frame});
                if (item.count < max) {
                    const uint32_t rounds =
                        max == RegexPool::unbounded ? std::min(item.count + 1, min) : item.count + 1;
                    work.push_back({i.a, 0, frame({item.at, rounds, item.frame})});
                }
                break;
            }
            case Op::Return:
                if (item.frame == 0) {
                    accepts = true;
                } else {
                    const Frame& top = frames_[item.frame];
                    work.push_back({top.next, top.count, top.parent});
                }
                break;
        }
    }
}

// The state behind a terminal.
StateId Automaton::closure(Address at, FrameId from) {
    const uint64_t key = uint64_t{at} << 32 | from;
    if (const auto known = closures_.find(key); known != closures_.end()) return known->second;
    std::vector<Thread> threads;
    bool accepts = false;
    close(at, 0, from, threads, accepts);
    const StateId state = intern(threads, accepts);
    closures_.emplace(key, state);
    return state;
}

StateId Automaton::step(StateId state, uint8_t byte) {
    const uint64_t key = uint64_t{state} << 8 | byte;
    if (const auto known = steps_.find(key); known != steps_.end()) return known->second;
    std::vector<Thread> threads;
    bool accepts = false;
    const State from = states_[state];
    spend(from.count + 1);
    for (uint32_t i = from.first; i < from.first + from.count; ++i) {
        const Thread thread = threads_[i];
        if (thread.regex >= special) continue;
        const RegexId rest = pool_.step(thread.regex, byte);
        if (rest == RegexPool::nothing) continue;
        if (rest != RegexPool::empty) threads.push_back({rest, thread.next, thread.frame});
        if (pool_.is_nullable(rest)) {
            const State& behind = states_[closure(thread.next, thread.frame)];
            threads.insert(threads.end(), threads_.begin() + behind.first,
                           threads_.begin() + behind.first + behind.count);
            accepts = accepts || behind.accepts;
        }
    }
    const StateId next = intern(threads, accepts);
    steps_.emplace(key, next);
    return next;
}

StateId Automaton::step_token(StateId state, Token token) {
    if (state == dead) return dead;
    const State from = states_[state];
    std::vector<Thread> threads;
    bool accepts = false;
    for (uint32_t i = from.first; i < from.first + from.count; ++i) {
        const Thread thread = threads_[i];
        if (thread.regex != (special | token)) continue;
        const State& behind = states_[closure(thread.next, thread.frame)];
        threads.insert(threads.end(), threads_.begin() + behind.first, threads_.begin() + behind.first + behind.count);
        accepts = accepts || behind.accepts;
    }
    if (!threads.empty() || accepts) return intern(threads, accepts);
    if (table_->tokenizer()->special_token_name(token)) return dead;
    const std::string_view bytes = table_->tokenizer()->text_token(token);
    if (bytes.empty()) return dead;
    for (size_t i = 0; i < bytes.size() && state != dead; ++i) state = step(state, static_cast<uint8_t>(bytes[i]));
    return state;
}

Automaton::Forced Automaton::forced(StateId state) {
    const State from = states_[state];
    Forced forced;
    if (from.accepts || from.count == 0) return forced;
    for (uint32_t i = from.first; i < from.first + from.count; ++i) {
        const uint32_t regex = threads_[i].regex;
        if (regex >= special) {
            if (forced.byte >= 0 || (forced.token != no_token && forced.token != (regex & ~special))) return {};
            forced.token = regex & ~special;
        } else {
            const int byte = pool_.only_byte(regex);
            if (byte < 0 || forced.token != no_token || (forced.byte >= 0 && forced.byte != byte)) return {};
            forced.byte = byte;
        }
    }
    return forced;
}

}  // namespace gptoss::text
