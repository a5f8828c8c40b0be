#include "text/grammar/program.h"

#include <algorithm>

#include "base/error.h"

namespace gptoss::text {

namespace {

constexpr size_t max_code = 1'000'000;

}  // namespace

Address Program::add(const Instruction& instruction) {
    if (code.size() >= max_code)
        throw Error(Status::InsufficientResources, "grammar: it needs more than " + std::to_string(max_code) +
                                                       " instructions; use fewer alternatives or smaller repetitions");
    code.push_back(instruction);
    return static_cast<Address>(code.size() - 1);
}

Address Program::match(RegexId regex, Address next) {
    if (regex == RegexPool::empty) return next;
    if (!pool.can_match(regex)) return split({});
    return add({Instruction::Op::Match, regex, 0, next});
}

Address Program::split(const std::vector<Address>& ways) {
    if (ways.size() == 1) return ways[0];
    const uint32_t first = static_cast<uint32_t>(targets.size());
    targets.insert(targets.end(), ways.begin(), ways.end());
    return add({Instruction::Op::Split, first, static_cast<uint32_t>(ways.size()), 0});
}

void Program::fill(Address split, const std::vector<Address>& ways) {
    code[split].a = static_cast<uint32_t>(targets.size());
    code[split].b = static_cast<uint32_t>(ways.size());
    targets.insert(targets.end(), ways.begin(), ways.end());
}

Address Program::loop(Address body, uint32_t min, uint32_t max, Address next) {
    if (max == 0) return next;
    bounds.push_back({min, max});
    return add({Instruction::Op::Loop, body, static_cast<uint32_t>(bounds.size() - 1), next});
}

uint32_t Program::add_rule() {
    rules.push_back(return_address);
    return static_cast<uint32_t>(rules.size() - 1);
}

template <typename Holds>
std::vector<uint8_t> Program::find_all(const Holds& holds) const {
    // Which instructions each one's answer is asked by: after an instruction's own number, in one list.
    std::vector<uint32_t> begins(code.size() + 1);
    const auto each_needed = [&](const Instruction& i, const auto& use) {
        if (i.op == Instruction::Op::Return) return;
        if (i.op == Instruction::Op::Split) {
            for (uint32_t way = i.a; way < i.a + i.b; ++way) use(targets[way]);
            return;
        }
        use(i.next);
        if (i.op == Instruction::Op::Call) use(rules[i.a]);
        if (i.op == Instruction::Op::Loop) use(i.a);
    };
    for (const Instruction& i : code) each_needed(i, [&](Address needed) { ++begins[needed + 1]; });
    for (size_t at = 0; at < code.size(); ++at) begins[at + 1] += begins[at];
    std::vector<Address> users(begins.back());
    std::vector<uint32_t> free(begins.begin(), begins.end() - 1);
    for (Address at = 0; at < code.size(); ++at)
        each_needed(code[at], [&](Address needed) { users[free[needed]++] = at; });
    std::vector<uint8_t> found(code.size());
    std::vector<Address> work;
    const auto look = [&](Address at) {
        if (found[at] || !holds(code[at], found)) return;
        found[at] = true;
        work.push_back(at);
    };
    for (Address at = 0; at < code.size(); ++at) look(at);
    while (!work.empty()) {
        const Address at = work.back();
        work.pop_back();
        for (uint32_t i = begins[at]; i < begins[at + 1]; ++i) look(users[i]);
    }
    return found;
}

void Program::remove_dead_ends() {
    using Op = Instruction::Op;
    const std::vector<uint8_t> ends = find_all([&](const Instruction& i, const std::vector<uint8_t>& found) {
        switch (i.op) {
            case Op::Match:
            case Op::Token:
                return found[i.next] != 0;
            case Op::Split:
                return std::any_of(targets.begin() + i.a, targets.begin() + i.a + i.b,
                                   [&](Address way) { return found[way] != 0; });
            case Op::Call:
                return found[rules[i.a]] && found[i.next];
            case Op::Loop:
                return found[i.next] && (bounds[i.b].min == 0 || found[i.a]);
            case Op::Return:
                return true;
        }
        return false;
    });
    for (Instruction& i : code) {
        if (i.op == Op::Split) {
            const auto begin = targets.begin() + i.a;
            const auto end = std::remove_if(begin, begin + i.b, [&](Address way) { return !ends[way]; });
            i.b = static_cast<uint32_t>(end - begin);
        } else if (i.op == Op::Loop && !ends[i.a]) {
            bounds[i.b].max = 0;
        }
    }
    if (!ends[rules[start]])
        throw Error(Status::InvalidArgument,
                    "grammar: no finite text can match it; check for contradictions and for "
                    "rules or schemas that always require themselves");
}

uint32_t Program::find_left_recursion() const {
    using Op = Instruction::Op;
    // Which instructions can come to their rule's end without matching anything.
    const std::vector<uint8_t> nullable = find_all([&](const Instruction& i, const std::vector<uint8_t>& found) {
        switch (i.op) {
            case Op::Match:
                return pool.is_nullable(i.a) && found[i.next];
            case Op::Token:
                return false;
            case Op::Split:
                return std::any_of(targets.begin() + i.a, targets.begin() + i.a + i.b,
                                   [&](Address way) { return found[way] != 0; });
            case Op::Call:
                return found[rules[i.a]] && found[i.next];
            case Op::Loop:
                return found[i.next] && (bounds[i.b].min == 0 || found[i.a]);
            case Op::Return:
                return true;
        }
        return false;
    });
    // Which rules each may call first, and whether one comes back to itself.
    enum : uint8_t { New, Open, Done };
    std::vector<uint8_t> color(rules.size(), New);
    std::vector<uint32_t> seen_for(code.size(), UINT32_MAX);
    const auto first_calls = [&](uint32_t rule) {
        std::vector<uint32_t> calls;
        std::vector<Address> work = {rules[rule]};
        while (!work.empty()) {
            const Address at = work.back();
            work.pop_back();
            if (seen_for[at] == rule) continue;
            seen_for[at] = rule;
            const Instruction& i = code[at];
            if (i.op == Op::Match && pool.is_nullable(i.a)) work.push_back(i.next);
            if (i.op == Op::Split) work.insert(work.end(), targets.begin() + i.a, targets.begin() + i.a + i.b);
            if (i.op == Op::Call) {
                calls.push_back(i.a);
                if (nullable[rules[i.a]]) work.push_back(i.next);
            }
            if (i.op == Op::Loop) {
                work.push_back(i.a);
                if (bounds[i.b].min == 0 || nullable[i.a]) work.push_back(i.next);
            }
        }
        return calls;
    };
    struct Visit {
        uint32_t rule;
        std::vector<uint32_t> calls;
        size_t next = 0;
    };
    for (uint32_t rule = 0; rule < rules.size(); ++rule) {
        if (color[rule] != New) continue;
        std::vector<Visit> path = {{rule, first_calls(rule)}};
        color[rule] = Open;
        while (!path.empty()) {
            Visit& visit = path.back();
            if (visit.next == visit.calls.size()) {
                color[visit.rule] = Done;
                path.pop_back();
                continue;
            }
            const uint32_t called = visit.calls[visit.next++];
            if (color[called] == Open) return called;
            if (color[called] == Done) continue;
            color[called] = Open;
            path.push_back({called, first_calls(called)});
        }
    }
    return static_cast<uint32_t>(rules.size());
}

}  // namespace gptoss::text
