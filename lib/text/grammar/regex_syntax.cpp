#include "text/grammar/regex_syntax.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/utf8.h"

namespace gptoss::text {

namespace {

constexpr uint32_t max_depth = 100;      // of groups in each other
constexpr uint32_t max_count = 100'000;  // of a repetition
constexpr uint32_t max_assertions = 100;

// An expression before anchors and lookaheads are resolved, which depend on all that stands around them.
struct Tree {
    enum class Kind { Regex, Sequence, Alternatives, Begin, End, Lookahead, NotLookahead };
    Kind kind = Kind::Sequence;
    RegexId regex = RegexPool::empty;
    std::vector<Tree> parts = {};
    bool has_assertion = false;  // in it or its parts
    bool has_begin = false;      // among them one that asks whether the text begins here
};

class Parser {
  public:
    Parser(RegexPool& pool, std::string_view text, Anchoring anchoring, Encoding encoding)
        : pool_(pool), text_(text), encoding_(encoding), anchoring_(anchoring) {
        any_ = pool_.repeat(one_of(pool_, {{0, last_character}}, encoding_), 0, RegexPool::unbounded);
    }

    RegexId parse() {
        Tree tree = alternatives(0);
        if (at_ < text_.size()) invalid("')' without its '('");
        if (anchoring_ == Anchoring::Whole) return resolve({&tree}, 0, true, RegexPool::empty);
        const RegexId later = pool_.concat(any_, resolve({&tree}, 0, false, any_));
        return tree.has_begin ? pool_.either({resolve({&tree}, 0, true, any_), later}) : later;
    }

  private:
    [[noreturn]] void invalid(const std::string& what) const { fail(Status::InvalidArgument, what); }
    [[noreturn]] void unsupported(const std::string& what) const {
        fail(Status::UnsupportedArgument, what + " is not supported");
    }
    [[noreturn]] void fail(Status status, const std::string& what) const {
        constexpr size_t longest = 100;
        throw Error(status, "regex '" + std::string(text_.substr(0, longest)) + (text_.size() > longest ? "..." : "") +
                                "' at byte " + std::to_string(at_) + ": " + what);
    }

    bool next_is(char c) const { return at_ < text_.size() && text_[at_] == c; }
    bool take(std::string_view what) {
        if (text_.substr(at_, what.size()) != what) return false;
        at_ += what.size();
        return true;
    }

    uint32_t character() {
        if (at_ >= text_.size()) invalid("the expression ends too early");
        const std::string_view rest = text_.substr(at_);
        const Utf8Step step = utf8_step(rest);
        if (!step.valid) invalid("not UTF-8");
        uint32_t c = static_cast<uint8_t>(rest[0]);
        if (step.size > 1) c &= 0x3F >> (step.size - 1);
        for (size_t i = 1; i < step.size; ++i) c = c << 6 | (static_cast<uint8_t>(rest[i]) & 0x3F);
        at_ += step.size;
        return c;
    }

    static Tree regex(RegexId id) { return {Tree::Kind::Regex, id}; }
    Tree set(const CharacterSet& set) { return regex(one_of(pool_, set, encoding_)); }

    Tree alternatives(uint32_t depth) {
        if (depth > max_depth) invalid("groups are nested more than " + std::to_string(max_depth) + " deep");
        Tree tree{Tree::Kind::Alternatives};
        do {
            Tree sequence;
            while (at_ < text_.size() && !next_is('|') && !next_is(')')) sequence.parts.push_back(quantified(depth));
            for (const Tree& part : sequence.parts) {
                sequence.has_assertion |= part.has_assertion;
                sequence.has_begin |= part.has_begin;
            }
            tree.has_assertion |= sequence.has_assertion;
            tree.has_begin |= sequence.has_begin;
            merge_plain_parts(sequence);
            if (!sequence.has_assertion) sequence = regex(plain(sequence));
            tree.parts.push_back(std::move(sequence));
        } while (take("|"));
        if (!tree.has_assertion) return regex(plain(tree));
        return tree;
    }

    // Makes one expression of neighbours without assertions: what is resolved later is as short as its assertions are
    // few.
    void merge_plain_parts(Tree& sequence) {
        std::vector<Tree> parts;
        for (size_t end = sequence.parts.size(); end > 0; --end) {
            if (sequence.parts[end - 1].has_assertion) {
                parts.push_back(std::move(sequence.parts[end - 1]));
                continue;
            }
            RegexId run = RegexPool::empty;
            for (; end > 0 && !sequence.parts[end - 1].has_assertion; --end)
                run = pool_.concat(plain(sequence.parts[end - 1]), run);
            ++end;
            parts.push_back(regex(run));
        }
        std::reverse(parts.begin(), parts.end());
        sequence.parts = std::move(parts);
    }

    // A tree without assertions.
    RegexId plain(const Tree& tree) {
        if (tree.kind == Tree::Kind::Regex) return tree.regex;
        if (tree.kind == Tree::Kind::Alternatives) {
            std::vector<RegexId> ways;
            for (const Tree& part : tree.parts) ways.push_back(plain(part));
            return pool_.either(std::move(ways));
        }
        RegexId result = RegexPool::empty;
        for (size_t i = tree.parts.size(); i-- > 0;) result = pool_.concat(plain(tree.parts[i]), result);
        return result;
    }

    Tree quantified(uint32_t depth) {
        Tree tree = atom(depth);
        for (bool again = false;; again = true) {
            uint32_t min = 0, max = RegexPool::unbounded;
            const size_t before = at_;
            if (take("*")) {
            } else if (take("+")) {
                min = 1;
            } else if (take("?")) {
                max = 1;
            } else if (!next_is('{') || !counts(min, max)) {
                return tree;
            }
            if (again) {
                at_ = before;
                invalid("a second quantifier");
            }
            take("?");  // lazy: matches the same texts
            if (tree.has_assertion) unsupported("a quantifier on an assertion or on a group that has one");
            tree = regex(pool_.repeat(tree.regex, min, max));
        }
    }

    bool number(uint32_t& value) {
        const size_t begin = at_;
        uint64_t n = 0;
        for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
            n = n * 10 + (text_[at_] - '0');
            if (n > max_count) unsupported("a repetition of more than " + std::to_string(max_count));
        }
        value = static_cast<uint32_t>(n);
        return at_ > begin;
    }

    // "{2}", "{2,}" or "{2,3}"; anything else is plain text.
    bool counts(uint32_t& min, uint32_t& max) {
        const size_t begin = at_++;
        if (number(min)) {
            max = min;
            if (take(",") && !number(max)) max = RegexPool::unbounded;
            if (take("}")) {
                if (min > max) invalid("the numbers of a repetition are out of order");
                return true;
            }
        }
        at_ = begin;
        return false;
    }

    Tree assertion(Tree::Kind kind) {
        if (++assertions_ > max_assertions)
            unsupported("more than " + std::to_string(max_assertions) + " anchors and lookaheads");
        return {kind, RegexPool::empty, {}, true, kind == Tree::Kind::Begin};
    }

    Tree atom(uint32_t depth) {
        if (take("(")) return group(depth);
        if (take("[")) return set(bracket());
        if (take("^")) return assertion(Tree::Kind::Begin);
        if (take("$")) return assertion(Tree::Kind::End);
        if (take(".")) return set(line_ends().inverted());
        if (next_is('*') || next_is('+') || next_is('?')) invalid("nothing to repeat");
        if (take("\\")) {
            if (std::optional<CharacterSet> known = known_class()) return set(*known);
            if (next_is('b') || next_is('B')) unsupported("a word boundary (\\b)");
            if (next_is('k') || (at_ < text_.size() && text_[at_] >= '1' && text_[at_] <= '9'))
                unsupported("a backreference");
            if (take("A")) return assertion(Tree::Kind::Begin);
            if (take("Z") || take("z")) return assertion(Tree::Kind::End);
            const uint32_t c = escape();
            return set({{c, c}});
        }
        const uint32_t c = character();
        return set({{c, c}});
    }

    Tree group(uint32_t depth) {
        Tree::Kind kind = Tree::Kind::Regex;
        if (take("?:")) {
        } else if (take("?=")) {
            kind = Tree::Kind::Lookahead;
        } else if (take("?!")) {
            kind = Tree::Kind::NotLookahead;
        } else if (text_.substr(at_).starts_with("?<=") || text_.substr(at_).starts_with("?<!")) {
            unsupported("a lookbehind");
        } else if (take("?<") || take("?P<")) {
            while (at_ < text_.size() && text_[at_] != '>') ++at_;
            if (!take(">")) invalid("a group's name without its '>'");
        } else if (next_is('?')) {
            unsupported("this kind of group");
        }
        Tree inside = alternatives(depth + 1);
        if (!take(")")) invalid("'(' without its ')'");
        if (kind == Tree::Kind::Regex) return inside;
        Tree tree = assertion(kind);
        tree.has_begin = inside.has_begin;
        tree.parts.push_back(std::move(inside));
        return tree;
    }

    static CharacterSet line_ends() { return {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}; }
    static CharacterSet digits() { return {{'0', '9'}}; }
    static CharacterSet word() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }
    static CharacterSet space() {
        CharacterSet set = {{'\t', '\r'}, {' ', ' '}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A}};
        for (uint32_t c : {0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF}) set.add(c, c);
        return set;
    }

    // Behind a backslash: d, D, w, W, s, S.
    std::optional<CharacterSet> known_class() {
        if (take("d")) return digits();
        if (take("D")) return digits().inverted();
        if (take("w")) return word();
        if (take("W")) return word().inverted();
        if (take("s")) return space();
        if (take("S")) return space().inverted();
        if (next_is('p') || next_is('P')) unsupported("a Unicode property (\\p)");
        return std::nullopt;
    }

    uint32_t hexadecimal(size_t count) {
        uint32_t value = 0;
        for (size_t i = 0; i < count; ++i) {
            const char c = at_ < text_.size() ? text_[at_] : 0;
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (digit < 0) invalid("a hexadecimal digit is missing");
            value = value * 16 + static_cast<uint32_t>(digit);
            ++at_;
        }
        return value;
    }

    // The character that an escape stands for.
    uint32_t escape() {
        if (take("n")) return '\n';
        if (take("r")) return '\r';
        if (take("t")) return '\t';
        if (take("f")) return '\f';
        if (take("v")) return '\v';
        if (take("0")) return 0;
        if (take("x")) return hexadecimal(2);
        if (take("c")) return character() & 31;
        if (take("u{")) {
            const size_t end = text_.find('}', at_);
            if (end == text_.npos || end == at_ || end - at_ > 6) invalid("\\u{...} needs 1 to 6 digits and '}'");
            const uint32_t c = hexadecimal(end - at_);
            ++at_;
            if (c > last_character) invalid("no such character");
            return c;
        }
        if (take("u")) {
            const uint32_t high = hexadecimal(4);
            if (high >= 0xD800 && high < 0xDC00 && take("\\u")) {
                const uint32_t low = hexadecimal(4);
                if (low < 0xDC00 || low > 0xDFFF) invalid("half of a surrogate pair");
                return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            }
            return high;
        }
        const uint32_t c = character();
        if (c < 0x80 && ((c | 32) >= 'a' && (c | 32) <= 'z')) unsupported("this escape");
        return c;
    }

    CharacterSet bracket() {
        const bool inverted = take("^");
        CharacterSet set;
        while (!take("]")) {
            if (at_ >= text_.size()) invalid("'[' without its ']'");
            uint32_t first = 0;
            if (!member(set, first)) continue;
            uint32_t last = first;
            if (next_is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
                ++at_;
                if (!member(set, last)) {  // "[a-\d]": the dash is a character
                    set.add('-', '-');
                    last = first;
                }
                if (last < first) invalid("a range of characters that ends before it begins");
            }
            set.add(first, last);
        }
        return inverted ? set.inverted() : set;
    }

    // A character of a bracket; false for a class, which is added.
    bool member(CharacterSet& set, uint32_t& c) {
        if (!take("\\")) {
            c = character();
            return true;
        }
        if (std::optional<CharacterSet> known = known_class()) {
            set.add(*known);
            return false;
        }
        c = take("b") ? uint32_t{'\b'} : escape();
        return true;
    }

    // The texts that a row of trees matches from one of them on, with what may follow. at_begin: nothing has been
    // matched before. Assertions are resolved where all that follows is known; an anchor with text on its wrong side
    // matches nothing.
    RegexId resolve(std::vector<const Tree*> row, size_t from, bool at_begin, RegexId tail) {
        if (++steps_ > 10'000) unsupported("so many alternatives with assertions");
        if (from == row.size()) return tail;
        const Tree& tree = *row[from];
        switch (tree.kind) {
            case Tree::Kind::Regex: {
                // The rest is at the beginning only if this matched nothing.
                if (tree.regex == RegexPool::empty) return resolve(row, from + 1, at_begin, tail);
                RegexId rest = resolve(row, from + 1, false, tail);
                if (at_begin && pool_.is_nullable(tree.regex) && has_begin(row, from + 1)) {
                    const RegexId skipped = resolve(row, from + 1, true, tail);
                    return pool_.either({pool_.concat(not_empty(tree.regex), rest), skipped});
                }
                return pool_.concat(tree.regex, rest);
            }
            case Tree::Kind::Begin:
                return at_begin ? resolve(row, from + 1, at_begin, tail) : RegexPool::nothing;
            case Tree::Kind::End: {
                // All that follows matches the empty text only.
                const RegexId rest = resolve(row, from + 1, at_begin, tail);
                return pool_.is_nullable(rest) ? RegexPool::empty : RegexPool::nothing;
            }
            case Tree::Kind::Lookahead:
            case Tree::Kind::NotLookahead: {
                RegexId seen = resolve({&tree.parts[0]}, 0, at_begin, any_);
                if (tree.kind == Tree::Kind::NotLookahead) seen = pool_.invert(seen);
                return pool_.both(seen, resolve(row, from + 1, at_begin, tail));
            }
            case Tree::Kind::Alternatives: {
                std::vector<RegexId> ways;
                for (const Tree& way : tree.parts) {
                    row[from] = &way;
                    ways.push_back(resolve(row, from, at_begin, tail));
                }
                return pool_.either(std::move(ways));
            }
            case Tree::Kind::Sequence: {
                std::vector<const Tree*> wider(row.begin(), row.begin() + static_cast<ptrdiff_t>(from));
                for (const Tree& part : tree.parts) wider.push_back(&part);
                wider.insert(wider.end(), row.begin() + static_cast<ptrdiff_t>(from) + 1, row.end());
                return resolve(std::move(wider), from, at_begin, tail);
            }
        }
        return RegexPool::nothing;
    }

    static bool has_begin(const std::vector<const Tree*>& row, size_t from) {
        for (; from < row.size(); ++from)
            if (row[from]->has_begin) return true;
        return false;
    }
    RegexId not_empty(RegexId regex) { return pool_.both(regex, pool_.invert(RegexPool::empty)); }

    RegexPool& pool_;
    const std::string_view text_;
    const Encoding encoding_;
    const Anchoring anchoring_;
    RegexId any_;
    size_t at_ = 0;
    size_t steps_ = 0;
    uint32_t assertions_ = 0;
};

}  // namespace

RegexId parse_regex(RegexPool& pool, std::string_view expression, Anchoring anchoring, Encoding encoding) {
    return Parser(pool, expression, anchoring, encoding).parse();
}

}  // namespace gptoss::text
