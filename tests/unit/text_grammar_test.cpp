#include <doctest/doctest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>

#include "base/error.h"
#include "text/grammar/grammar.h"
#include "text/grammar/numbers.h"
#include "text/grammar/regex_syntax.h"
#include "text/harmony/harmony.h"

using namespace gptoss;
using namespace gptoss::text;

namespace {

const std::shared_ptr<const TokenTable>& table() {
    static const auto table = std::make_shared<const TokenTable>(Tokenizer::o200k_harmony());
    return table;
}

std::shared_ptr<const Grammar> schema(std::string_view text) { return Grammar::from_json_schema(table(), text); }

bool accepts(const std::shared_ptr<const Grammar>& grammar, std::string_view text, bool allow_special = false) {
    GrammarState state(grammar);
    for (Token token : table()->tokenizer()->encode(text, allow_special))
        if (!state.advance(token)) return false;
    return state.accepts();
}

template <typename Make>
std::string error_of(const Make& make, Status status) {
    try {
        make();
    } catch (const Error& error) {
        CHECK(error.status() == status);
        return error.what();
    }
    FAIL("no error");
    return "";
}

// Any of the allowed tokens, short ones more often, so that texts come to an end. no_token: the text ends.
Token choose(const GrammarState& state, std::mt19937& random) {
    TokenMask mask(table()->mask_words());
    state.mask(mask);
    if (state.accepts() && (state.is_complete() || random() % 4 == 0)) return no_token;
    std::vector<Token> allowed;
    for (Token token = 0; token < table()->num_tokens(); ++token)
        if (is_allowed(mask, token)) allowed.push_back(token);
    REQUIRE_FALSE(allowed.empty());
    Token best = allowed[random() % allowed.size()];
    for (int i = 0; i < 3; ++i) {
        const Token other = allowed[random() % allowed.size()];
        if (table()->tokenizer()->decode(other).size() < table()->tokenizer()->decode(best).size()) best = other;
    }
    return best;
}

const char* const person = R"({"type": "object", "properties": {
    "name": {"type": "string", "minLength": 1, "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "tags": {"type": "array", "items": {"enum": ["a", "bb", "a\"b"]}, "maxItems": 3},
    "friend": {"$ref": "#"}}, "required": ["name", "age"], "additionalProperties": {"type": "boolean"}})";

}  // namespace

TEST_CASE("grammar: regular expressions match as std::regex does") {
    const char* const expressions[] = {
        "abc",          "a*b",     "(a|b)+c?",    "^a",      "c$",      "^(a|bc)*$",   "[a-b]{2,3}", "[^a]c",
        "a.c",          "^$",      "(^a|b)c",     "a(b|c$)", "(?=ab)a", "^(?!ab).*c$", "a{2}",       "a{0,2}b{1,}",
        "(ab|a)(c|bc)", "\\w\\d?", "^(?:a|b?)*c", "a||b",    "(?:)",    "x*",          "^a?$|bb"};
    std::vector<std::string> texts = {""};
    for (size_t i = 0; texts.size() < 1400; ++i)
        for (char c : {'a', 'b', 'c', '1'}) texts.push_back(texts[i] + c);
    for (const char* expression : expressions) {
        CAPTURE(expression);
        RegexPool pool;
        const RegexId search = parse_regex(pool, expression, Anchoring::Search, Encoding::Utf8);
        const RegexId whole = parse_regex(pool, expression, Anchoring::Whole, Encoding::Utf8);
        const std::regex oracle(expression);
        for (const std::string& text : texts) {
            CAPTURE(text);
            CHECK(pool.matches(search, text) == std::regex_search(text, oracle));
            CHECK(pool.matches(whole, text) == std::regex_match(text, oracle));
        }
    }
}

TEST_CASE("grammar: complement and intersection") {
    RegexPool pool;
    const auto regex = [&](const char* text) { return parse_regex(pool, text, Anchoring::Whole, Encoding::Utf8); };
    const RegexId odd = pool.without(regex("a*"), regex("(aa)*"));
    CHECK(pool.matches(odd, "aaa"));
    CHECK_FALSE(pool.matches(odd, "aa"));
    CHECK_FALSE(pool.can_match(pool.both(regex("a+b"), regex("[^b]*"))));
    CHECK_FALSE(pool.can_match(pool.without(regex("(ab)*"), regex("(ab|c)*"))));
}

TEST_CASE("grammar: numbers between bounds") {
    const double bounds[] = {-12.5, -10, -1, -0.25, 0, 0.05, 0.5, 7, 9.99, 10, 105};
    std::vector<std::string> numbers = {"0", "-0", "0.0", "-0.0", "0.05", "0.050", "0.049", "0.5", "0.51", "1e2"};
    for (int i = -1100; i <= 1100; i += 7)
        numbers.push_back(nlohmann::json(i / 10.0).dump()), numbers.push_back(std::to_string(i));
    for (double min : bounds)
        for (double max : bounds)
            for (bool exclusive : {false, true}) {
                RegexPool pool;
                const RegexId range =
                    number_range(pool, Bound{nlohmann::json(min).dump(), exclusive}, Bound{nlohmann::json(max).dump()});
                for (const std::string& number : numbers) {
                    CAPTURE(number);
                    CAPTURE(min);
                    CAPTURE(max);
                    const double value = std::stod(number);
                    const bool inside = (exclusive ? value > min : value >= min) && value <= max;
                    CHECK(pool.matches(range, number) == (inside && number != "1e2"));
                }
            }
    RegexPool pool;
    for (const auto& [of, yes, no] :
         {std::tuple("3", "-21", "22"), {"0.01", "19.99", "19.999"}, {"2.5", "7.50", "7.6"}, {"1", "8.0", "8.1"}}) {
        const RegexId multiple = *number_multiple(pool, of);
        CHECK(pool.matches(multiple, yes));
        CHECK_FALSE(pool.matches(multiple, no));
    }
}

TEST_CASE("grammar: the mask is what token after token says") {
    std::mt19937 random(7);
    const std::shared_ptr<const Grammar> grammars[] = {
        schema(person),
        schema("{}"),
        schema(R"({"type": "string", "pattern": "^[a-z]+( [a-z]+){0,5}$", "maxLength": 30})"),
        schema(
            R"({"type": "object", "patternProperties": {"^x": {"type": "number", "multipleOf": 0.5}}, "properties": {"xy": {}, "z": {"format": "date-time"}}})"),
        Grammar::from_regex(table(), "([0-9]+|\xC3\xA4[^x]*x)-?.*"),
        Grammar::from_gbnf(table(), "root ::= (word | \"(\" root \")\")+ \n word ::= [a-z]+ \" \"? # words"),
        Grammar::from_harmony(table(), R"({"tools": [{"name": "f", "parameters": {"type": "object"}}]})")};
    for (const auto& grammar : grammars)
        for (int round = 0; round < 3; ++round) {
            GrammarState state(grammar);
            for (int step = 0; step < 25; ++step) {
                TokenMask mask(table()->mask_words());
                state.mask(mask);
                for (Token token = random() % 97; token < table()->num_tokens(); token += 97) {
                    GrammarState next = state;
                    if (next.advance(token) != is_allowed(mask, token)) {
                        CAPTURE(token);
                        CHECK(next.advance(token) == is_allowed(mask, token));
                    }
                }
                const Token token = choose(state, random);
                if (token == no_token) break;
                REQUIRE(state.advance(token));
            }
        }
}

TEST_CASE("grammar: masks of patterns that count or may begin anywhere are what token after token says") {
    std::mt19937 random(5);
    for (const char* text :
         {R"x({"type": "string", "pattern": "^(?:\\S+\\s+){0,199}\\S+$", "maxLength": 1000})x",
          R"x({"type": "string", "pattern": "^(?:\\S+\\s+){0,3}\\S+$", "maxLength": 40})x",
          R"x({"type": "string", "pattern": "^$|(^(?:\\S+\\s+){0,99}\\S+$)", "minLength": 1, "maxLength": 170})x",
          R"x({"type": "string", "pattern": "\\d{4}-\\d{2}|ab+c"})x",
          R"x({"type": "string", "pattern": "\\d{4}-\\d{2}", "maxLength": 25})x",
          R"x({"type": "string", "pattern": "^[a-f]{150,170}$"})x",
          R"x({"type": "string", "pattern": "[0-9]{20}", "minLength": 200, "maxLength": 300})x"})
        for (int round = 0; round < 2; ++round) {
            CAPTURE(text);
            GrammarState state(schema(text));
            for (int step = 0; step < 15; ++step) {
                TokenMask mask(table()->mask_words());
                state.mask(mask);
                for (Token token = random() % 61; token < table()->num_tokens(); token += 61) {
                    GrammarState next = state;
                    const bool advanced = next.advance(token);
                    if (advanced != is_allowed(mask, token)) FAIL_CHECK("token " << token << ": " << advanced);
                }
                const Token token = choose(state, random);
                if (token == no_token) break;
                REQUIRE(state.advance(token));
            }
        }

    TEST_CASE("grammar: within a character the mask has the bytes that go on with it") {
        const Tokenizer& tokenizer = *table()->tokenizer();
        const auto grammar = Grammar::from_regex(table(), ".*");
        for (const char* const start : {"\xD9", "\xE2", "\xE2\x82", "\xF0\x9F"}) {
            GrammarState state(grammar);
            for (const char* byte = start; *byte; ++byte)
                REQUIRE(state.advance(tokenizer.encode(std::string_view(byte, 1), false).at(0)));
            TokenMask mask(table()->mask_words());
            state.mask(mask);
            for (int byte = 0; byte < 256; ++byte) {
                const char text = static_cast<char>(byte);
                const std::vector<Token> tokens = tokenizer.encode({&text, 1}, false);
                REQUIRE(tokens.size() == 1);
                CHECK(is_allowed(mask, tokens[0]) == (byte >= 0x80 && byte < 0xC0));
            }
        }
    }

    TEST_CASE("grammar: texts of a JSON schema, made token by token, are valid") {
        std::mt19937 random(1);
        const auto grammar = schema(person);
        int complete = 0;
        for (int round = 0; round < 12; ++round) {
            GrammarState state(grammar);
            std::string text;
            Token token = 0;
            for (int i = 0; i < 150 && (token = choose(state, random)) != no_token; ++i) {
                REQUIRE(state.advance(token));
                text += table()->tokenizer()->decode(token);
            }
            if (token != no_token) continue;
            ++complete;
            CAPTURE(text);
            std::function<void(const nlohmann::json&)> check = [&](const nlohmann::json& value) {
                REQUIRE(value.is_object());
                CHECK(value.at("name").get<std::string>().size() >= 1);
                CHECK(value.at("age").get<double>() >= 0);
                CHECK(value.at("age").get<double>() <= 150);
                for (const auto& [key, member] : value.items()) {
                    if (key == "tags")
                        for (const auto& tag : member) CHECK((tag == "a" || tag == "bb" || tag == "a\"b"));
                    else if (key == "friend")
                        check(member);
                    else if (key != "name" && key != "age")
                        CHECK(member.is_boolean());
                }
            };
            check(nlohmann::json::parse(text));
        }
        CHECK(complete >= 1);
    }

    TEST_CASE("grammar: JSON schemas") {
        const auto grammar = schema(person);
        CHECK(accepts(grammar, R"({"name": "Ada", "age": 36})"));
        CHECK(accepts(grammar, "{\n  \"name\": \"\xC3\x84\",\n  \"age\": 0\n}"));
        CHECK(accepts(grammar, R"({"name":"A","age":1,"friend":{"name":"B","age":2,"x":true},"ok":false})"));
        CHECK_FALSE(accepts(grammar, R"({"name": "Ada"})"));
        CHECK_FALSE(accepts(grammar, R"({"name": "", "age": 3})"));
        CHECK_FALSE(accepts(grammar, R"({"name": "0123456789abc", "age": 3})"));
        CHECK_FALSE(accepts(grammar, R"({"name": "Ada", "age": 151})"));
        CHECK_FALSE(accepts(grammar, R"({"name": "Ada", "age": 3, "ok": 1})"));
        CHECK_FALSE(accepts(grammar, R"({"name": "Ada", "age": 3, "name": true})"));
        CHECK(error_of([] { schema(R"({"properties": {"a": {"type": "array", "uniqueItems": true}}})"); },
                       Status::UnsupportedArgument) == "JSON schema at '#/properties/a': uniqueItems is not supported");
        CHECK(error_of([] { schema(R"({"$ref": "#/$defs/x"})"); }, Status::InvalidArgument).find("leads nowhere") !=
              std::string::npos);
        error_of([] { schema(R"({"allOf": [{"$ref": "#"}, {"type": "object"}]})"); }, Status::InvalidArgument);
        error_of([] { schema("{\"type\": "); }, Status::InvalidArgument);
        error_of([] { schema(R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})"); },
                 Status::InvalidArgument);
    }

    TEST_CASE("grammar: state is copied, taken back and forced") {
        const auto grammar = schema(
            R"({"type": "object", "properties": {"temperature": {"const": "warm"}}, "required": ["temperature"], "additionalProperties": false})");
        GrammarState state(grammar);
        for (Token token : table()->tokenizer()->encode("{\"te", false)) REQUIRE(state.advance(token));
        const size_t count = state.num_tokens();
        GrammarState fork = state;
        const std::vector<Token> forced = fork.forced();
        REQUIRE_FALSE(forced.empty());
        CHECK(std::string("mperature\":").starts_with(table()->tokenizer()->decode(forced)));
        for (Token token : forced) CHECK(fork.advance(token));
        CHECK(state.num_tokens() == count);
        CHECK(fork.num_tokens() == count + forced.size());
        TokenMask before(table()->mask_words()), after(before);
        state.mask(before);
        fork.truncate(count);
        fork.mask(after);
        CHECK(before == after);
        for (Token token : table()->tokenizer()->encode("mperature\":\"warm\"}", false)) REQUIRE(fork.advance(token));
        CHECK(fork.is_complete());
        CHECK_FALSE(fork.advance(table()->tokenizer()->encode(" ", false)[0]));
    }

    TEST_CASE("grammar: GBNF") {
        const auto json = Grammar::from_gbnf(table(), R"(root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20})");
        CHECK(accepts(json, R"({"a": [1, -2.5e3, {"b": "\u00e4\n"}], "c": null})"));
        CHECK_FALSE(accepts(json, R"({"a": [1,]})"));
        CHECK_FALSE(accepts(json, R"([])"));
        const auto special = Grammar::from_gbnf(table(), "root ::= <|channel|> \"final\" <|message|> .*");
        CHECK(accepts(special, "<|channel|>final<|message|>text", true));
        CHECK_FALSE(accepts(special, "<|channel|>final<|message|>text", false));
        for (const char* wrong : {"", "root ::= x", "root ::= \"a", "root ::= (", "root ::= [a", "root = \"a\"",
                                  "root ::= \"a\" )", "root ::= <|no|>", "a ::= \"a\"", "root ::= \"a\"{3,2}"})
            error_of([&] { Grammar::from_gbnf(table(), wrong); }, Status::InvalidArgument);
        CHECK(error_of([] { Grammar::from_gbnf(table(), "root ::= root \"a\" | \"b\""); }, Status::UnsupportedArgument)
                  .find("left recursion") != std::string::npos);
    }

    TEST_CASE("grammar: whole turns of Harmony are well formed") {
        std::mt19937 random(3);
        const std::string tools =
            R"("tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city"], "additionalProperties": false}}}, {"name": "now"}])";
        const auto turn = [&](const std::string& more) {
            return Grammar::from_harmony(table(), "{" + tools + more + "}");
        };
        const std::string call =
            R"(<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Oslo"}<|call|>)";
        const std::string text = "<|channel|>final<|message|>Hello<|return|>",
                          thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
        CHECK(accepts(turn(""), call, true));
        CHECK(accepts(turn(""), thought + text, true));
        CHECK_FALSE(accepts(turn(""), "<|channel|>final<|message|>Hello<|end|>", true));
        CHECK_FALSE(accepts(turn(""), "<|channel|>final<|message|><|channel|><|return|>", true));
        CHECK_FALSE(
            accepts(turn(""), "<|channel|>commentary to=functions.other <|constrain|>json<|message|>{}<|call|>", true));
        CHECK_FALSE(accepts(turn(R"(, "tool_choice": "none")"), call, true));
        CHECK_FALSE(accepts(turn(R"(, "tool_choice": "required")"), thought + text, true));
        CHECK_FALSE(accepts(turn(R"(, "tool_choice": {"name": "now"})"), call, true));
        CHECK_FALSE(accepts(turn(R"(, "reasoning": false)"), thought + text, true));
        CHECK_FALSE(accepts(turn(R"(, "response_format": {"type": "array"})"), text, true));
        CHECK(accepts(turn(R"(, "response_format": {"type": "array"})"), "<|channel|>final<|message|>[1]<|return|>",
                      true));
        error_of([&] { turn(R"(, "tool_choice": {"name": "x"})"); }, Status::InvalidArgument);
        error_of([&] { turn(R"(, "temperature": 1)"); }, Status::InvalidArgument);

        int complete = 0;
        const auto grammar = turn("");
        for (int round = 0; round < 8; ++round) {
            GrammarState state(grammar);
            HarmonyParser parser(table()->tokenizer());
            Token token = 0;
            for (int i = 0; i < 120 && (token = choose(state, random)) != no_token; ++i) {
                // Special tokens are a few among many: they are given a chance, so that messages end.
                const Token end = *table()->tokenizer()->find_special(i < 40 ? Special::End : Special::Return);
                if (GrammarState other = state; random() % 8 == 0 && other.advance(end)) token = end;
                REQUIRE(state.advance(token));
                parser.process(token);
            }
            CHECK_FALSE(parser.is_malformed());
            complete += token == no_token;
        }
        CHECK(complete >= 1);
    }

    TEST_CASE("grammar: hostile ones end in an error or work") {
        std::string deep, wide = R"({"enum": [)", cyclic = "root ::= a\n";
        for (int i = 0; i < 100'000; ++i) deep += "[";
        for (int i = 0; i < 10'000; ++i) wide += "\"alternative " + std::to_string(i) + "\",";
        wide += "1]}";
        CHECK(accepts(schema(wide), "\"alternative 9999\""));
        CHECK_FALSE(accepts(schema(wide), "\"alternative 10000\""));
        error_of([&] { schema(deep); }, Status::InvalidArgument);
        std::string large = R"({"properties": {)";
        for (int i = 0; i < 8'000; ++i)
            large += "\"property number " + std::to_string(i) + R"(": {"type": "integer"},)";
        large += "\"x\": {}}}";
        CHECK(accepts(schema(large), R"({"property number 7999": 1})"));
        for (const char* expression : {"((a{1,1000}){1,1000}){1,1000}", "(a|b|ab)*(a|ba){500}.{9000}",
                                       "(((((a*)*)*)*)*)*b", "(.*a.{20}){20}", "[a-z]{100000}"}) {
            CAPTURE(expression);
            try {
                GrammarState state(Grammar::from_regex(table(), expression));
                TokenMask mask(table()->mask_words());
                for (int i = 0; i < 20; ++i) {
                    state.mask(mask);
                    if (!state.advance(table()->tokenizer()->encode("a", false)[0])) break;
                }
            } catch (const Error& error) {
                CHECK(error.status() == Status::InsufficientResources);
            }
        }
        std::string doubling = "root ::= r0\n";
        for (int i = 0; i < 60; ++i)
            doubling +=
                "r" + std::to_string(i) + " ::= r" + std::to_string(i + 1) + " r" + std::to_string(i + 1) + "\n";
        CHECK_FALSE(accepts(Grammar::from_gbnf(table(), doubling + "r60 ::= \"a\"\n"), "b"));
        const std::string large_pattern = R"({"pattern": "^)" + std::string(1 << 20, 'a') + "$\"}";
        error_of([&] { schema(large_pattern); }, Status::InsufficientResources);
        std::string anchors, chain = R"({"$ref": "#/$defs/d0", "$defs": {)";
        for (int i = 0; i < 200; ++i) anchors += "(^|a)";
        error_of([&] { Grammar::from_regex(table(), anchors); }, Status::UnsupportedArgument);
        for (int i = 0; i < 20'000; ++i)
            chain += "\"d" + std::to_string(i) + R"(": {"$ref": "#/$defs/d)" + std::to_string(i + 1) + "\"},";
        error_of([&] { schema(chain + R"("d20000": {}}})"); }, Status::UnsupportedArgument);
    }
