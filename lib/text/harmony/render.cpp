#include <algorithm>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/json_node.h"
#include "base/text.h"
#include "text/harmony/harmony.h"
#include "text/harmony/tool_types.h"
#include "text/harmony/tools.h"

namespace gptoss::text {

namespace {

using Node = JsonNode<Json>;

std::optional<std::string> find_text(const Node& node, const char* key) {
    const std::optional<Node> member = node.find({key});
    return member ? std::optional(member->text()) : std::nullopt;
}

std::vector<std::string> lines_of(std::string_view text) {
    std::vector<std::string> lines;
    while (!text.empty()) {
        const size_t end = text.find('\n');
        std::string_view line = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (end != std::string_view::npos && line.ends_with('\r')) line.remove_suffix(1);
        lines.emplace_back(line);
    }
    return lines;
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
    std::string out;
    for (size_t i = 0; i < parts.size(); ++i) {
        if (i > 0) out += separator;
        out += parts[i];
    }
    return out;
}

// The parameters of a tool; nullptr if it has none. A tool that the model was trained with needs no schema.
const Json* parameters_of(const Node& tool, const std::string& name, const std::string& description,
                          const Json* builtin) {
    std::optional<Node> parameters = tool.find("parameters");
    if (builtin && (!parameters || parameters->json().empty()))
        for (const Json& known : (*builtin)["tools"])
            if (known["name"] == name && known["description"] == description) return &known["parameters"];
    return parameters ? &parameters->json() : nullptr;
}

std::string namespace_section(const Node& node, const Json* builtin) {
    const std::string& name = node.get("name").text();
    const std::optional<std::string> description = find_text(node, "description");
    const std::vector<Node> tools = node.get("tools").elements();
    std::vector<std::string> lines = {"## " + name + "\n"};
    if (description)
        for (const std::string& line : lines_of(*description)) lines.push_back(tools.empty() ? line : "// " + line);
    if (!tools.empty()) {
        lines.push_back("namespace " + name + " {\n");
        for (const Node& tool : tools) {
            const std::string& tool_name = tool.get("name").text();
            const std::string& tool_description = tool.get("description").text();
            for (const std::string& line : lines_of(tool_description)) lines.push_back("// " + line);
            const Json* parameters = parameters_of(tool, tool_name, tool_description, builtin);
            lines.push_back("type " + tool_name + " = (" + (parameters ? "_: " + typescript_of(*parameters) : "") +
                            ") => any;\n");
        }
        lines.push_back("} // namespace " + name);
    }
    return join(lines, "\n");
}

// The "# Tools" section; empty if there are no namespaces. {"browser": {}} names a built-in namespace.
std::string tools_section(const Node& content) {
    std::vector<std::string> sections = {"# Tools"};
    if (std::optional<Node> tools = content.find("tools")) {
        for (auto& [key, node] : tools->members()) {
            const Json* builtin = builtin_tools(key);
            const bool by_name = builtin && node.json().is_object() && !node.find("tools") && !node.find("description");
            sections.push_back(namespace_section(by_name ? node.with(*builtin) : node, builtin));
        }
    }
    return sections.size() > 1 ? join(sections, "\n\n") : "";
}

bool has_functions(const Node& content) {
    std::optional<Node> tools = content.find("tools");
    std::optional<Node> functions = tools ? tools->find("functions") : std::nullopt;
    return functions && !functions->get("tools").elements().empty();
}

std::string channels_section(const Node& config, bool functions) {
    std::vector<std::string> channels;
    for (const Node& channel : config.get("valid_channels").elements()) channels.push_back(channel.text());
    const bool required = config.get("channel_required").boolean();
    if (channels.empty()) return {};
    return "# Valid channels: " + join(channels, ", ") + "." +
           (required ? " Channel must be included for every message." : "") +
           (functions ? "\nCalls to these tools must go to the commentary channel: 'functions'." : "");
}

std::string reasoning_line(const Node& effort) {
    const std::string name = ascii_lower(effort.text());
    if (name != "low" && name != "medium" && name != "high") effort.expected("\"Low\", \"Medium\" or \"High\"");
    return "Reasoning: " + name;
}

std::string system_text(const Node& content, bool functions) {
    std::vector<std::string> top, sections;
    if (auto identity = find_text(content, "model_identity")) top.push_back(*identity);
    if (auto cutoff = find_text(content, "knowledge_cutoff")) top.push_back("Knowledge cutoff: " + *cutoff);
    if (auto date = find_text(content, "conversation_start_date")) top.push_back("Current date: " + *date);
    if (!top.empty()) sections.push_back(join(top, "\n"));
    if (std::optional<Node> effort = content.find("reasoning_effort")) sections.push_back(reasoning_line(*effort));
    if (std::string tools = tools_section(content); !tools.empty()) sections.push_back(tools);
    if (std::optional<Node> config = content.find("channel_config"))
        if (std::string channels = channels_section(*config, functions); !channels.empty())
            sections.push_back(channels);
    return join(sections, "\n\n");
}

std::string developer_text(const Node& content) {
    std::vector<std::string> sections;
    if (auto instructions = find_text(content, "instructions")) sections = {"# Instructions", *instructions};
    if (std::string tools = tools_section(content); !tools.empty()) sections.push_back(tools);
    return join(sections, "\n\n");
}

class Renderer {
  public:
    Renderer(const Tokenizer& tokenizer, std::vector<Token>& out) : tokenizer_(tokenizer), out_(out) {}

    void conversation(const Node& root) {
        const std::vector<Node> messages = root.get("messages").elements();
        for (const Node& message : messages)
            for_each_content(message, [&](const std::string& type, const Node& content) {
                if (type == "developer_content") functions_ = functions_ || has_functions(content);
            });
        const std::optional<Node> drop = root.find("auto_drop_analysis");
        const size_t first_kept = !drop || drop->boolean() ? end_of_old_analysis(messages) : 0;
        for (size_t i = 0; i < messages.size(); ++i)
            if (i >= first_kept || find_text(messages[i], "channel") != "analysis") message(messages[i]);
        special(Special::Start);
        text("assistant");
    }

  private:
    // Analysis before this message is dropped: once the assistant has answered, what came before its first answer.
    static size_t end_of_old_analysis(const std::vector<Node>& messages) {
        std::optional<size_t> first_final;
        bool last_is_final = false;
        for (size_t i = 0; i < messages.size(); ++i) {
            const bool final = find_text(messages[i], "channel") == "final";
            if (final && !first_final) first_final = i;
            if (messages[i].get("role").text() == "assistant") last_is_final = final;
        }
        return last_is_final && first_final ? *first_final : 0;
    }

    template <typename F>
    static void for_each_content(const Node& message, F&& f) {
        const Node content = message.get("content");
        if (content.json().is_string()) return f("text", content);
        for (const Node& element : content.elements()) f(element.get("type").text(), element);
    }

    void message(const Node& node) {
        const std::string& role = node.get("role").text();
        static const char* const roles[] = {"user", "assistant", "system", "developer", "tool"};
        if (std::find(std::begin(roles), std::end(roles), role) == std::end(roles))
            node.get("role").refuse("there is no role \"" + role + "\"");
        const auto name = find_text(node, "name"), recipient = find_text(node, "recipient"),
                   channel = find_text(node, "channel"), content_type = find_text(node, "content_type");
        if (role == "tool" && !name) node.refuse("\"name\" is missing: a tool needs one");

        special(Special::Start);
        text(role == "tool" ? *name : role);
        if (role != "tool" && name) text(":" + *name);
        if (recipient && *recipient != "all") text(" to=" + *recipient);
        if (channel) {
            special(Special::Channel);
            text(*channel);
        }
        if (content_type) render_content_type(*content_type);
        special(Special::Message);
        for_each_content(node,
                         [&](const std::string& type, const Node& content) { render_content(role, type, content); });
        special(role == "assistant" && recipient ? Special::Call : Special::End);
    }

    void render_content_type(const std::string& type) {
        const std::string_view constrain = special_name(Special::Constrain);
        if (!type.starts_with(constrain)) return text(" " + type);
        text(" ");
        special(Special::Constrain);
        text(type.substr(constrain.size()));
    }

    void render_content(const std::string& role, const std::string& type, const Node& content) {
        if (type == "text") {
            text(content.json().is_string() ? content.text() : content.get("text").text());
        } else if (type == "system_content") {
            if (role != "system") content.refuse("system_content in a message of role \"" + role + "\"");
            text(system_text(content, functions_));
        } else if (type == "developer_content") {
            if (role != "developer") content.refuse("developer_content in a message of role \"" + role + "\"");
            text(developer_text(content));
        } else {
            content.get("type").refuse("there is no content of type \"" + type + "\"");
        }
    }

    void text(std::string_view text) { tokenizer_.encode(text, false, out_); }

    void special(Special special) {
        std::optional<Token> token = tokenizer_.find_special(special);
        if (!token)
            throw Error(Status::UnsupportedArgument,
                        "the tokenizer has no " + std::string(special_name(special)) + ", which Harmony needs");
        out_.push_back(*token);
    }

    const Tokenizer& tokenizer_;
    std::vector<Token>& out_;
    bool functions_ = false;
};

}  // namespace

std::vector<Token> render_conversation(const Tokenizer& tokenizer, std::string_view conversation_json) {
    const JsonOrigin origin{Status::InvalidArgument, "conversation"};
    const JsonRoot<Json> root(conversation_json, {},
                              [&](const std::string& what) { throw Error(origin.status, origin.root + ": " + what); });
    std::vector<Token> tokens;
    Renderer(tokenizer, tokens).conversation(Node(*root, origin));
    return tokens;
}

}  // namespace gptoss::text
