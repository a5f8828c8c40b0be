#include "text/grammar/harmony_grammar.h"

#include <algorithm>

#include "text/grammar/characters.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/json_schema.h"

namespace gptoss::text {

namespace {

[[noreturn]] void invalid(const std::string& what) { throw Error(Status::InvalidArgument, "Harmony options: " + what); }

struct Tool {
    std::string name;
    const Json* parameters;  // nullptr: any object
};

class Turn {
  public:
    Turn(Program& program, const Tokenizer& tokenizer, const Json& options)
        : program_(program),
          pool_(program.pool),
          tokenizer_(tokenizer),
          options_(options),
          text_(pool_.repeat(one_of(pool_, {{0, last_character}}, Encoding::Utf8), 0, RegexPool::unbounded)) {}

    uint32_t add() {
        if (!options_.is_object()) invalid("not an object");
        for (auto option = options_.begin(); option != options_.end(); ++option)
            if (option.key() != "tools" && option.key() != "tool_choice" && option.key() != "response_format" &&
                option.key() != "response_grammar" && option.key() != "reasoning")
                invalid("'" + option.key() +
                        "' is none of tools, tool_choice, response_format, response_grammar and reasoning");
        read_tools();
        const bool reasoning = flag("reasoning", true);
        const bool needs_call = choice_ == Choice::Required;

        // Each message begins behind the role; messages that do not end the turn lead to the next one.
        const uint32_t message = program_.add_rule();
        const Address next = token(Special::Start, literal("assistant", program_.call(message, end())));
        std::vector<Address> last;
        if (!needs_call) last.push_back(channel("final", final_text(token(Special::Return, end()))));
        if (choice_ != Choice::None)
            for (const Tool& tool : tools_) last.push_back(call(tool));
        std::vector<Address> ways = last;
        if (reasoning) ways.push_back(channel("analysis", body(program_.match(text_, token(Special::End, next)))));
        if (choice_ != Choice::None && !tools_.empty())  // says what the calls are for
            ways.push_back(channel("commentary", body(program_.match(text_, token(Special::End, next)))));
        program_.rules[message] = program_.split(ways);
        return message;
    }

  private:
    enum class Choice { Auto, None, Required };

    static Address end() { return Program::return_address; }
    Address token(Special special, Address next) {
        const std::optional<Token> id = tokenizer_.find_special(special);
        if (!id)
            throw Error(Status::UnsupportedArgument,
                        "the tokenizer has no " + std::string(special_name(special)) + ", which Harmony needs");
        return program_.token(*id, next);
    }
    Address literal(std::string_view text, Address next) { return program_.match(pool_.literal(text), next); }
    Address channel(std::string_view name, Address next) { return token(Special::Channel, literal(name, next)); }
    Address body(Address next) { return token(Special::Message, next); }

    Address final_text(Address next) {
        const Json* schema = find("response_format");
        if (const Json* gbnf = find("response_grammar")) {
            if (schema) invalid("response_format and response_grammar exclude each other");
            if (!gbnf->is_string()) invalid("response_grammar is not a string");
            return body(program_.call(add_gbnf(program_, tokenizer_, gbnf->get<std::string>()), next));
        }
        return body(schema ? program_.call(json_rule(*schema), next) : program_.match(text_, next));
    }

    Address call(const Tool& tool) {
        static const Json any_object = {{"type", "object"}};
        const uint32_t arguments = json_rule(tool.parameters ? *tool.parameters : any_object);
        const Address content = body(program_.call(arguments, token(Special::Call, end())));
        return channel("commentary", literal(" to=functions." + tool.name + " ",
                                             token(Special::Constrain, literal("json", content))));
    }

    uint32_t json_rule(const Json& schema) { return add_json_schema(program_, SchemaDocument(schema)); }

    const Json* find(const char* name) const {
        const auto option = options_.find(name);
        return option == options_.end() || option->is_null() ? nullptr : &*option;
    }
    bool flag(const char* name, bool otherwise) const {
        const Json* value = find(name);
        if (value && !value->is_boolean()) invalid(std::string(name) + " is neither true nor false");
        return value ? value->get<bool>() : otherwise;
    }
    static const Json& function_of(const Json& tool) {
        if (!tool.is_object()) invalid("a tool is an object");
        const auto function = tool.find("function");
        return function == tool.end() ? tool : *function;
    }
    static std::string name_of(const Json& function) {
        if (!function.is_object() || !function.contains("name") || !function["name"].is_string())
            invalid("a tool's name is missing");
        return function["name"].get<std::string>();
    }

    void read_tools() {
        if (const Json* tools = find("tools")) {
            if (!tools->is_array()) invalid("tools is not a list");
            for (const Json& tool : *tools) {
                const Json& function = function_of(tool);
                const auto parameters = function.find("parameters");
                const std::string name = name_of(function);
                // A recipient ends at white space, and "<" begins a special token's name.
                if (name.empty() || name.find_first_of(" \t\r\n<") != name.npos)
                    invalid("a tool's name '" + name + "' is empty or has spaces or '<'");
                const bool none = parameters == function.end() || parameters->is_null();
                tools_.push_back({name, none ? nullptr : &*parameters});
            }
        }
        const Json* choice = find("tool_choice");
        if (!choice || *choice == "auto") return;
        if (*choice == "none") {
            choice_ = Choice::None;
            return;
        }
        choice_ = Choice::Required;
        if (choice->is_object()) {
            const std::string name = name_of(function_of(*choice));
            std::erase_if(tools_, [&](const Tool& tool) { return tool.name != name; });
            if (tools_.empty()) invalid("tool_choice names '" + name + "', which is none of the tools");
        } else if (*choice != "required") {
            invalid("tool_choice is none of \"auto\", \"none\", \"required\" and {\"name\": ...}");
        }
        if (tools_.empty()) invalid("tool_choice asks for a call, but there are no tools");
    }

    Program& program_;
    RegexPool& pool_;
    const Tokenizer& tokenizer_;
    const Json& options_;
    const RegexId text_;
    std::vector<Tool> tools_;
    Choice choice_ = Choice::Auto;
};

}  // namespace

uint32_t add_harmony_turn(Program& program, const Tokenizer& tokenizer, std::string_view options) {
    const JsonRoot<Json> root(options, {256}, invalid);
    return Turn(program, tokenizer, *root).add();
}

}  // namespace gptoss::text
