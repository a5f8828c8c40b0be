#include "text/grammar/gbnf.h"

#include <algorithm>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/utf8.h"
#include "text/grammar/characters.h"

namespace gptoss::text {

namespace {

constexpr uint32_t max_depth = 100;       // of groups in each other
constexpr uint32_t max_count = 100'000;   // of a repetition
constexpr uint32_t max_inlined = 2000;    // characters and groups of a rule that becomes part of an expression
constexpr uint32_t max_rule_depth = 200;  // of rules inlined in each other

struct Item {
    enum class Kind { Regex, Token, Rule, Sequence, Alternatives, Repeat };
    Kind kind = Kind::Sequence;
    uint32_t id = 0;  // an expression, a token or a rule
    uint32_t min = 0, max = 0;
    std::vector<Item> parts = {};
};

class Parser {
  public:
    Parser(RegexPool& pool, const Tokenizer& tokenizer, std::string_view text)
        : pool_(pool), tokenizer_(tokenizer), text_(text) {}

    struct Rule {
        std::string name;
        std::optional<Item> body;
        size_t at;  // where it is named first
    };

    std::vector<Rule> parse() {
        for (space(true); at_ < text_.size(); space(true)) {
            const uint32_t rule = rule_named(name());
            space(false);
            if (!take("::=")) invalid("'::=' is missing");
            space(true);
            Item body = alternatives(0);
            if (rules_[rule].body) invalid("rule '" + rules_[rule].name + "' is defined twice");
            rules_[rule].body = std::move(body);
            if (at_ < text_.size() && text_[at_] != '\n' && text_[at_] != '\r') invalid("a rule's end is expected");
        }
        for (const Rule& rule : rules_)
            if (!rule.body)
                throw Error(Status::InvalidArgument, "GBNF, line " + std::to_string(line_of(rule.at)) + ": rule '" +
                                                         rule.name + "' is not defined");
        return std::move(rules_);
    }

  private:
    size_t line_of(size_t at) const {
        return 1 + static_cast<size_t>(std::count(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(at), '\n'));
    }
    [[noreturn]] void invalid(const std::string& what) const {
        throw Error(Status::InvalidArgument, "GBNF, line " + std::to_string(line_of(at_)) + ": " + what);
    }

    bool next_is(char c) const { return at_ < text_.size() && text_[at_] == c; }
    bool take(std::string_view what) {
        if (text_.substr(at_, what.size()) != what) return false;
        at_ += what.size();
        return true;
    }
    void space(bool lines) {
        while (at_ < text_.size()) {
            const char c = text_[at_];
            if (c == '#')
                while (at_ < text_.size() && text_[at_] != '\n' && text_[at_] != '\r') ++at_;
            else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
                ++at_;
            else
                return;
        }
    }
    static bool is_name(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    }
    std::string name() {
        const size_t begin = at_;
        while (at_ < text_.size() && is_name(text_[at_])) ++at_;
        if (at_ == begin) invalid("a rule's name is expected");
        return std::string(text_.substr(begin, at_ - begin));
    }
    uint32_t rule_named(std::string name) {
        const auto [entry, is_new] = by_name_.emplace(std::move(name), static_cast<uint32_t>(rules_.size()));
        if (is_new) rules_.push_back({entry->first, std::nullopt, at_});
        return entry->second;
    }

    Item alternatives(uint32_t depth) {
        if (depth > max_depth) invalid("groups are nested more than " + std::to_string(max_depth) + " deep");
        Item all{Item::Kind::Alternatives};
        do {
            space(depth > 0 || !all.parts.empty());
            Item sequence;
            while (std::optional<Item> item = repeated(depth)) {
                sequence.parts.push_back(std::move(*item));
                space(depth > 0);
            }
            all.parts.push_back(std::move(sequence));
        } while (take("|"));
        return all;
    }

    std::optional<Item> repeated(uint32_t depth) {
        std::optional<Item> item = single(depth);
        while (item) {
            space(depth > 0);
            uint32_t min = 0, max = RegexPool::unbounded;
            if (take("*")) {
            } else if (take("+")) {
                min = 1;
            } else if (take("?")) {
                max = 1;
            } else if (take("{")) {
                space(depth > 0);
                if (!next_is(',')) min = number();
                space(depth > 0);
                max = min;
                if (take(",")) {
                    space(depth > 0);
                    max = next_is('}') ? RegexPool::unbounded : number();
                    space(depth > 0);
                }
                if (!take("}")) invalid("'}' is missing");
                if (min > max) invalid("the numbers of a repetition are out of order");
            } else {
                break;
            }
            Item repeat{Item::Kind::Repeat, 0, min, max};
            repeat.parts.push_back(std::move(*item));
            item = std::move(repeat);
            if (++repeats_ > 10'000) invalid("too many repetitions");
        }
        return item;
    }

    uint32_t number() {
        uint64_t value = 0;
        const size_t begin = at_;
        for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
            value = value * 10 + static_cast<uint64_t>(text_[at_] - '0');
            if (value > max_count) invalid("a repetition of more than " + std::to_string(max_count));
        }
        if (at_ == begin) invalid("a number is expected");
        return static_cast<uint32_t>(value);
    }

    std::optional<Item> single(uint32_t depth) {
        if (take("\"")) return string();
        if (take("[")) return bracket();
        if (take(".")) return set({{0, last_character}});
        if (take("(")) {
            Item group = alternatives(depth + 1);
            if (!take(")")) invalid("')' is missing");
            return group;
        }
        if (next_is('<')) return token();
        if (next_is('!')) invalid("negated tokens are not supported");
        if (at_ < text_.size() && is_name(text_[at_])) return Item{Item::Kind::Rule, rule_named(name())};
        return std::nullopt;
    }

    Item token() {
        const size_t end = text_.find('>', at_);
        if (end == text_.npos) invalid("'>' is missing");
        const std::string_view text = text_.substr(at_, end + 1 - at_);
        std::optional<Token> token;
        if (text.starts_with("<[") && text.ends_with("]>")) {
            at_ += 2;
            uint64_t id = 0;
            for (; at_ < end - 1; ++at_) {
                if (text_[at_] < '0' || text_[at_] > '9' || id > 1'000'000'000) invalid("<[...]> holds a token's id");
                id = id * 10 + static_cast<uint64_t>(text_[at_] - '0');
            }
            if (tokenizer_.special_token_name(static_cast<Token>(id))) token = static_cast<Token>(id);
        } else {
            token = tokenizer_.find_special(text);
        }
        at_ = end + 1;
        if (!token) invalid("there is no special token " + std::string(text.substr(0, 60)));
        return {Item::Kind::Token, *token};
    }

    Item set(const CharacterSet& set) { return {Item::Kind::Regex, one_of(pool_, set, Encoding::Utf8)}; }

    Item string() {
        std::string text;
        while (!take("\"")) append_utf8(character(), text);
        return {Item::Kind::Regex, pool_.literal(text)};
    }

    Item bracket() {
        const bool inverted = take("^");
        CharacterSet members;
        while (!take("]")) {
            const uint32_t first = character();
            uint32_t last = first;
            if (next_is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
                ++at_;
                last = character();
            }
            if (last < first) invalid("a range of characters that ends before it begins");
            members.add(first, last);
        }
        return set(inverted ? members.inverted() : members);
    }

    uint32_t hexadecimal(size_t count) {
        uint32_t value = 0;
        for (size_t i = 0; i < count; ++i) {
            const char c = at_ < text_.size() ? text_[at_] : 0;
            const int digit = c >= '0' && c <= '9'                 ? c - '0'
                              : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                   : -1;
            if (digit < 0) invalid("a hexadecimal digit is missing");
            value = value * 16 + static_cast<uint32_t>(digit);
            ++at_;
        }
        return value;
    }

    uint32_t character() {
        if (at_ >= text_.size() || text_[at_] == '\n') invalid("a string or a set of characters has no end");
        if (take("\\")) {
            const char c = at_ < text_.size() ? text_[at_++] : 0;
            uint32_t value = 0;
            switch (c) {
                case 'x':
                    value = hexadecimal(2);
                    break;
                case 'u':
                    value = hexadecimal(4);
                    break;
                case 'U':
                    value = hexadecimal(8);
                    break;
                case 't':
                    return '\t';
                case 'r':
                    return '\r';
                case 'n':
                    return '\n';
                case '\\':
                case '"':
                case '[':
                case ']':
                    return static_cast<uint32_t>(c);
                default:
                    invalid("there is no such escape");
            }
            if (value > last_character || (value >= 0xD800 && value <= 0xDFFF)) invalid("there is no such character");
            return value;
        }
        const Utf8Step step = utf8_step(text_.substr(at_));
        if (!step.valid) invalid("not UTF-8");
        uint32_t value = static_cast<uint8_t>(text_[at_]);
        if (step.size > 1) value &= 0x3Fu >> (step.size - 1);
        for (size_t i = 1; i < step.size; ++i) value = value << 6 | (static_cast<uint8_t>(text_[at_ + i]) & 0x3F);
        at_ += step.size;
        return value;
    }

    RegexPool& pool_;
    const Tokenizer& tokenizer_;
    const std::string_view text_;
    size_t at_ = 0;
    size_t repeats_ = 0;
    std::vector<Rule> rules_;
    std::map<std::string, uint32_t> by_name_;
};

// Makes instructions of rules. Those without recursion and special tokens become expressions, which are faster.
class Compiler {
  public:
    Compiler(Program& program, const std::vector<Parser::Rule>& rules)
        : program_(program), pool_(program.pool), rules_(rules), inlined_(rules.size()), called_(rules.size()) {}

    uint32_t compile(uint32_t root) {
        const uint32_t first = rule(root);
        while (!open_.empty()) {
            const uint32_t next = open_.back();
            open_.pop_back();
            const Address begin = emit(*rules_[next].body, Program::return_address);
            program_.rules[*called_[next]] = begin;
        }
        return first;
    }

  private:
    struct Inlined {
        enum { New, Open, No, Yes } state = New;
        RegexId regex = RegexPool::nothing;
        uint32_t size = 0;
    };

    uint32_t rule(uint32_t index) {
        if (!called_[index]) {
            called_[index] = program_.add_rule();
            open_.push_back(index);
        }
        return *called_[index];
    }

    // nullopt for what is no regular expression, or a large one.
    std::optional<RegexId> regex(const Item& item, uint32_t& size) {
        if (++size > max_inlined) return std::nullopt;
        switch (item.kind) {
            case Item::Kind::Regex:
                return item.id;
            case Item::Kind::Token:
                return std::nullopt;
            case Item::Kind::Rule: {
                Inlined& rule = inlined_[item.id];
                if (rule.state == Inlined::New) {
                    if (depth_ >= max_rule_depth) return std::nullopt;
                    rule.state = Inlined::Open;
                    ++depth_;
                    uint32_t rule_size = 0;
                    const std::optional<RegexId> body = regex(*rules_[item.id].body, rule_size);
                    --depth_;
                    rule = {body ? Inlined::Yes : Inlined::No, body.value_or(RegexPool::nothing), rule_size};
                }
                size += rule.size;
                if (rule.state != Inlined::Yes || size > max_inlined) return std::nullopt;
                return rule.regex;
            }
            case Item::Kind::Sequence: {
                std::vector<RegexId> parts;
                for (const Item& part : item.parts) {
                    const std::optional<RegexId> one = regex(part, size);
                    if (!one) return std::nullopt;
                    parts.push_back(*one);
                }
                RegexId all = RegexPool::empty;
                for (size_t i = parts.size(); i-- > 0;) all = pool_.concat(parts[i], all);
                return all;
            }
            case Item::Kind::Alternatives: {
                std::vector<RegexId> ways;
                for (const Item& part : item.parts) {
                    const std::optional<RegexId> one = regex(part, size);
                    if (!one) return std::nullopt;
                    ways.push_back(*one);
                }
                return pool_.either(std::move(ways));
            }
            case Item::Kind::Repeat: {
                const std::optional<RegexId> one = regex(item.parts[0], size);
                if (!one) return std::nullopt;
                return pool_.repeat(*one, item.min, item.max);
            }
        }
        return std::nullopt;
    }

    Address emit(const Item& item, Address next) {
        uint32_t size = 0;
        if (const std::optional<RegexId> whole = regex(item, size)) return program_.match(*whole, next);
        switch (item.kind) {
            case Item::Kind::Regex:
                return program_.match(item.id, next);
            case Item::Kind::Token:
                return program_.token(item.id, next);
            case Item::Kind::Rule:
                return program_.call(rule(item.id), next);
            case Item::Kind::Sequence:
                for (size_t i = item.parts.size(); i-- > 0;) next = emit(item.parts[i], next);
                return next;
            case Item::Kind::Alternatives: {
                std::vector<Address> ways;
                for (const Item& part : item.parts) ways.push_back(emit(part, next));
                return program_.split(ways);
            }
            case Item::Kind::Repeat:
                return program_.loop(emit(item.parts[0], Program::return_address), item.min, item.max, next);
        }
        return next;
    }

    Program& program_;
    RegexPool& pool_;
    const std::vector<Parser::Rule>& rules_;
    std::vector<Inlined> inlined_;
    std::vector<std::optional<uint32_t>> called_;
    std::vector<uint32_t> open_;
    uint32_t depth_ = 0;
};

}  // namespace

uint32_t add_gbnf(Program& program, const Tokenizer& tokenizer, std::string_view text) {
    const std::vector<Parser::Rule> rules = Parser(program.pool, tokenizer, text).parse();
    const auto root = std::find_if(rules.begin(), rules.end(), [](const auto& rule) { return rule.name == "root"; });
    if (root == rules.end()) throw Error(Status::InvalidArgument, "GBNF: the rule 'root' is missing");
    Compiler compiler(program, rules);
    const uint32_t first = compiler.compile(static_cast<uint32_t>(root - rules.begin()));
    if (program.find_left_recursion() < program.rules.size())
        throw Error(Status::UnsupportedArgument,
                    "GBNF: a rule begins with itself (left recursion); write the repetition with * instead");
    return first;
}

}  // namespace gptoss::text
