// Grammars that are made to take long: each is refused, or is made and gives its masks, within the limits below. Prints
// the processor time and the memory that each took; the last line is "N passed, N failed".
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <new>
#include <random>

#include "base/error.h"
#include "text/grammar/grammar.h"

using namespace gptoss;

constexpr double max_seconds = 2;  // to make a grammar, and for each of its masks
constexpr size_t max_bytes = 200 << 20;

static size_t allocated, peak;

void* operator new(size_t size) {
    void* memory = std::malloc(size);
    if (!memory) throw std::bad_alloc();
    allocated += malloc_usable_size(memory);
    peak = std::max(peak, allocated);
    return memory;
}
// Not inlined: where it is, g++ sees free() of what operator new gave, and warns.
[[gnu::noinline]] static void give_back(void* memory) {
    allocated -= malloc_usable_size(memory);
    std::free(memory);
}
void operator delete(void* memory) noexcept { give_back(memory); }
void operator delete(void* memory, size_t) noexcept { give_back(memory); }

static double seconds() {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

static std::string times(size_t count, const std::string& text) {
    std::string all;
    for (size_t i = 0; i < count; ++i) all += text;
    return all;
}

// begin, then each number between before and after, with commas between, then end.
static std::string list(size_t count, const std::string& begin, const std::string& before, const std::string& after,
                        const std::string& end, const std::string& separator = ",") {
    std::string all = begin;
    for (size_t i = 0; i < count; ++i) all += (i ? separator : "") + before + std::to_string(i) + after;
    return all + end;
}

struct Case {
    std::string name, text;
};

static std::vector<Case> schemas() {
    std::vector<Case> cases = {
        {"brackets, 100,000 deep", times(100'000, "[")},
        {"schemas, 200 deep", times(100, R"({"items":)") + "{}" + times(100, "}")},
        {"schemas, 100,000 deep", times(100'000, R"({"not":)") + "{}" + times(100'000, "}")},
        {"not, 120 deep", times(120, R"({"not":)") + R"({"type":"string"})" + times(120, "}")},
        {"1 MB of properties",
         list(25'000, R"({"properties":{)", R"("property number )", R"(":{"minLength":3})", "}}")},
        {"1 MB of required properties", list(40'000, R"({"required":[)", R"("property number )", "\"", "]}")},
        {"1 MB in an enumeration", list(50'000, R"({"enum":[)", R"("alternative )", "\"", "]}")},
        {"1 MB in a constant", R"({"const":")" + std::string(1 << 20, 'a') + "\"}"},
        {"1 MB in a pattern", R"({"pattern":"^)" + std::string(1 << 20, 'a') + "$\"}"},
        {"1 MB of text that is no keyword", R"({"description":")" + std::string(1 << 20, 'a') + "\"}"},
        {"10,000 alternatives of objects",
         list(10'000, R"({"anyOf":[)", R"({"type":"object","required":["k)", R"("]})", "]}")},
        {"10,000 alternatives, one of them", list(10'000, R"({"oneOf":[)", R"({"const":)", "}", "]}")},
        {"10,000 patterns of one string",
         list(10'000, R"({"anyOf":[)", R"({"type":"string","pattern":"x.*)", "\"}", "]}")},
        {"500 overlapping objects, one of them", list(500, R"({"oneOf":[)", R"({"required":["k)", R"("]})", "]}")},
        {"300 patterns for keys", list(300, R"({"patternProperties":{)", R"("a.*)", R"(":{"minimum":1})", "}}")},
        {"a reference to itself", R"({"$ref":"#"})"},
        {"references in a circle",
         R"({"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}})"},
        {"all of itself", R"({"allOf":[{"$ref":"#"},{"type":"object"}]})"},
        {"any of itself, under another keyword",
         R"({"anyOf":[{"type":"null"},{"items":{"$ref":"#"},"type":"array"}]})"},
        {"an object that requires itself", R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})"},
        {"recursion that doubles",
         R"({"type":"array","items":{"anyOf":[{"$ref":"#"},{"allOf":[{"$ref":"#"},{"minItems":1}]}]}})"},
        {"a chain of 20,000 references",
         [] {
             std::string all = R"({"$ref":"#/$defs/d0","$defs":{)";
             for (int i = 0; i < 20'000; ++i)
                 all += "\"d" + std::to_string(i) + R"(":{"$ref":"#/$defs/d)" + std::to_string(i + 1) + "\"},";
             return all + R"("d20000":{}}})";
         }()},
        {"references that double 40 times",
         [] {
             std::string all = R"({"$ref":"#/$defs/d0","$defs":{)";
             for (int i = 0; i < 40; ++i) {
                 const std::string next = R"({"$ref":"#/$defs/d)" + std::to_string(i + 1) + "\"}";
                 all += "\"d" + std::to_string(i) + R"(":{"anyOf":[)" + next + "," + next + "]},";
             }
             return all + R"("d40":{}}})";
         }()},
        {"500 of 1,000 properties",
         list(1'000, R"({"minProperties":500,"maxProperties":501,"properties":{)", "\"p", "\":{}", "}}")},
        {"40 dependencies", list(40, R"({"dependencies":{)", "\"p", R"(":["q"])", "}}")},
        {"40 conditions",
         list(40, R"({"allOf":[)", R"({"if":{"required":["p)", R"("]},"then":{"required":["q"]}})", "]}")},
        {"huge counts", R"({"minItems":4000000000,"minLength":4000000000,"minProperties":4000000000})"},
        {"huge counts that end",
         R"({"type":["string","array"],"maxItems":100000,"minLength":99999,"maxLength":100000})"},
        {"a bound of 100,000 digits", R"({"type":"number","minimum":)" + std::string(100'000, '9') + "}"},
        {"a multiple of a large prime", R"({"type":"integer","multipleOf":99999999999999997})"},
        {"multiples between bounds", R"({"type":"number","multipleOf":999983,"minimum":1e300,"maximum":1e301})"},
        {"words that are counted", R"({"pattern":"^(?:\\S+\\s+){0,199}\\S+$","maxLength":5000})"},
        {"words that are counted and long",
         R"({"pattern":"^(?:\\S+\\s+){50,199}\\S+$","minLength":3000,"maxLength":5000})"},
        {"five patterns of one string", R"({"allOf":[{"pattern":"a.{20}"},{"pattern":"b.{20}"},{"pattern":"c.{20}"},)"
                                        R"({"pattern":"d.{20}"},{"pattern":"e.{20}$"}]})"},
        {"a format of a bounded length", R"({"format":"email","maxLength":100,"pattern":"a.*b.*c","minLength":50})"},
    };
    return cases;
}

static std::vector<Case> expressions() {
    return {
        {"counts of counts", "((a{1,1000}){1,1000}){1,1000}"},
        {"counts of counts of anything", "(.{1,100}){1,100}(.{1,100}){1,100}"},
        {"ambiguous words", "(a|b|ab)*(a|ba){500}.{9000}"},
        {"stars of stars", "(((((a*)*)*)*)*)*b"},
        {"evil plus", "(x+x+)+y"},
        {"optional letters", times(300, "a?") + times(300, "a")},
        {"anything twenty times", "(.*a.{20}){20}"},
        {"the last but thousand", "[\\s\\S]*a[\\s\\S]{1000}"},
        {"100,000 letters", "[a-z]{100000}"},
        {"1 MB of text", std::string(1 << 20, 'a')},
        {"1 MB of sets", times(200'000, "[a-z]")},
        {"10,000 alternatives", list(10'000, "(", "x", "y.*", ")", "|")},
        {"10,000 alternatives that begin anywhere", list(10'000, "(", ".*x", "", ")", "|")},
        {"groups, 100 deep", times(100, "(") + "a" + times(100, ")*")},
        {"groups, 100,000 deep", times(100'000, "(")},
        {"twenty lookaheads", list(20, "", "(?=.*x", ")", ".*", "")},
        {"a lookahead of a count", "(?=.*a.{30})(?!.*b.{30}).{60,90}"},
        {"1,000 stars", times(1'000, ".*") + "x"},
        {"many words", "(\\w+\\s?){1000}"},
    };
}

static std::vector<Case> gbnfs() {
    std::string doubling = "root ::= r0\n";
    for (int i = 0; i < 60; ++i)
        doubling += "r" + std::to_string(i) + " ::= r" + std::to_string(i + 1) + " r" + std::to_string(i + 1) + "\n";
    std::string chain = "root ::= r0\n";
    for (int i = 0; i < 20'000; ++i) chain += "r" + std::to_string(i) + " ::= \"a\" r" + std::to_string(i + 1) + "\n";
    return {
        {"rules that double", doubling + "r60 ::= \"a\"\n"},
        {"rules that double and are empty", doubling + "r60 ::= \"a\"?\n"},
        {"1 MB of rules", chain + "r20000 ::= \"b\"\n"},
        {"10,000 alternatives", list(10'000, "root ::= ", "\"x", "\" root2", "\nroot2 ::= [a-z]+", " | ")},
        {"10,000 rules as alternatives",
         list(10'000, "root ::= ", "r", "", "", " | ") + list(10'000, "\n", "r", " ::= [a-z]* \"!\"", "\n", "\n")},
        {"parentheses, 100,000 deep", "root ::= " + times(100'000, "(")},
        {"parentheses in each other",
         "root ::= \"(\" root \")\" | [a-z ]* | root2\nroot2 ::= \"(\" root2 \")\" root2 | \"\""},
        {"left recursion", "root ::= root \"a\" | \"b\""},
        {"a rule of itself", "root ::= root"},
        {"counts of counts", "root ::= ((\"a\"{0,1000}){0,1000}){0,1000}"},
        {"ambiguous stars", "root ::= a a a a a a a a a a\na ::= b* \"x\"?\nb ::= \"x\" | \"xx\" | \"xxx\""},
        {"ambiguous recursion", "root ::= \"x\" | \"x\" root | \"x\" root root | \"x\" root root root"},
    };
}

int main() {
    const auto table = std::make_shared<const text::TokenTable>(text::Tokenizer::o200k_harmony());
    size_t passed = 0, failed = 0;
    const auto run = [&](const char* kind, const Case& hostile, const auto& create) {
        const size_t before = allocated;
        peak = allocated;
        std::mt19937 random(1);
        double made = 0, slowest = 0, all = 0;
        std::string end = "works";
        const double start = seconds();
        try {
            const std::shared_ptr<const text::Grammar> grammar = create(hostile.text);
            made = seconds() - start;
            text::GrammarState state(grammar);
            text::TokenMask mask(table->mask_words());
            for (int step = 0; step < 40; ++step) {
                const double from = seconds();
                state.mask(mask);
                std::vector<text::Token> allowed;
                for (text::Token token = 0; token < table->num_tokens(); ++token)
                    if (text::is_allowed(mask, token)) allowed.push_back(token);
                const bool goes_on = !allowed.empty() && state.advance(allowed[random() % allowed.size()]);
                slowest = std::max(slowest, seconds() - from);
                if (!goes_on) break;
            }
        } catch (const Error& error) {
            end = error.what();
            if (made == 0) made = seconds() - start;
        }
        all = seconds() - start;
        const bool ok = made <= max_seconds && slowest <= max_seconds && peak - before <= max_bytes;
        ++(ok ? passed : failed);
        std::printf("%s%s, %s: made in %.3f s, slowest mask %.3f s, all %.3f s, %.1f MB: %s\n",
                    ok ? "" : "FAILED: ", kind, hostile.name.c_str(), made, slowest, all,
                    static_cast<double>(peak - before) / 1e6, end.substr(0, 160).c_str());
        std::fflush(stdout);
    };
    for (const Case& hostile : schemas())
        run("schema", hostile, [&](const std::string& text) { return text::Grammar::from_json_schema(table, text); });
    for (const Case& hostile : expressions())
        run("regex", hostile, [&](const std::string& text) { return text::Grammar::from_regex(table, text); });
    for (const Case& hostile : gbnfs())
        run("GBNF", hostile, [&](const std::string& text) { return text::Grammar::from_gbnf(table, text); });
    std::printf("%zu passed, %zu failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
