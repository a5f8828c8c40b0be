#include "conversation.h"

#include <algorithm>
#include <ctime>

#include "turn.h"

namespace server {

namespace {

std::string today() {
    const std::time_t now = std::time(nullptr);
    std::tm day{};
#ifdef _WIN32
    localtime_s(&day, &now);
#else
    localtime_r(&now, &day);
#endif
    char text[16];
    std::strftime(text, sizeof text, "%Y-%m-%d", &day);
    return text;
}

// A name stands in a message's header, among marks that are no text: so it has to be plain.
void check_name(const Field& name, const std::string& text) {
    const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-' || c == '.'; };
    if (text.empty() || text.size() > 128 || !std::all_of(text.begin(), text.end(), plain))
        name.fail("up to 128 letters, digits, _, - and .");
}

}  // namespace

void Conversation::developer(const std::string& text) {
    if (messages_.empty())
        instructions_ += (instructions_.empty() ? "" : "\n\n") + text;
    else
        messages_.push_back(
            {{"role", "developer"}, {"content", {{{"type", "developer_content"}, {"instructions", text}}}}});
}

void Conversation::user(const std::string& text) {
    last_user_ = messages_.size();
    messages_.push_back({{"role", "user"}, {"content", text}});
}

void Conversation::reasoning(const std::string& text) {
    if (!text.empty()) messages_.push_back({{"role", "assistant"}, {"channel", "analysis"}, {"content", text}});
}

void Conversation::assistant(const std::string& text, bool calls_follow) {
    messages_.push_back({{"role", "assistant"}, {"channel", calls_follow ? "commentary" : "final"}, {"content", text}});
}

void Conversation::call(const std::string& id, const std::string& name, const std::string& arguments) {
    calls_[id] = name;
    messages_.push_back({{"role", "assistant"},
                         {"recipient", "functions." + name},
                         {"channel", "commentary"},
                         {"content_type", "<|constrain|>json"},
                         {"content", arguments}});
}

void Conversation::result(const Field& id, const std::string& text) {
    const auto call = calls_.find(id.string());
    if (call == calls_.end())
        throw invalid(id.path(), id.path() + ": there is no call \"" + id.string() + "\" before its result.");
    messages_.push_back({{"role", "tool"},
                         {"name", "functions." + call->second},
                         {"recipient", "assistant"},
                         {"channel", "commentary"},
                         {"content", text}});
}

void Conversation::tool(const Field& function, const std::string& space) {
    const Field name = function.object()["name"], parameters = function["parameters"];
    const std::string known_as = name_in(space, name.string());
    check_name(name, known_as);
    if (!tool_names_.insert(known_as).second) name.fail("a name that no other function has");
    Json tool = {{"name", known_as}, {"description", function["description"].string_or("")}};
    if (parameters.given()) tool["parameters"] = parameters.object().json();
    Json callable = {{"name", known_as}};
    if (function["strict"].boolean_or(false) && parameters.given()) {
        callable["parameters"] = parameters.json();
        strict_paths_.push_back(parameters.path());
    }
    callable_.push_back(std::move(callable));
    tools_.push_back(std::move(tool));
}

void Conversation::format(const Field& type, const Field& schema) {
    if (!type.given() || type.string() == "text") return;
    if (type.string() == "json_object")
        format_ = {{"type", "object"}};
    else if (type.string() == "json_schema")
        format_ = schema.object().json();
    else
        type.fail("\"text\", \"json_object\" or \"json_schema\"");
    format_path_ = type.string() == "json_schema" ? schema.path() : type.path();
}

std::optional<gptoss::Grammar> Conversation::grammar(const Service& service) const {
    if (callable_.empty() && format_.is_null() && choice_ == "auto") return std::nullopt;
    const auto refuse = [](const gptoss::Error& e, const std::string& path) {
        if (e.status() == gptoss_status_invalid_argument) throw invalid(path, path + ": " + e.what());
        throw unsupported(path, path + ": " + e.what());
    };
    // each schema on its own first, so that the one that is refused can be named
    size_t strict = 0;
    for (const Json& tool : callable_) {
        if (!tool.contains("parameters")) continue;
        const std::string& path = strict_paths_[strict++];
        try {
            gptoss::Grammar::json_schema(service.tokenizer, tool["parameters"].dump());
        } catch (const gptoss::Error& e) {
            refuse(e, path);
        }
    }
    try {
        if (!format_.is_null()) gptoss::Grammar::json_schema(service.tokenizer, format_.dump());
    } catch (const gptoss::Error& e) {
        refuse(e, format_path_);
    }
    Json turn = {{"tools", callable_}, {"tool_choice", choice_}};
    if (!format_.is_null()) turn["response_format"] = format_;
    try {
        return gptoss::Grammar::harmony(service.tokenizer, turn.dump());
    } catch (const gptoss::Error& e) {
        refuse(e, choice_ == "auto" ? "tools" : "tool_choice");
    }
    return std::nullopt;
}

Json Conversation::json() const {
    const Json system = {
        {"type", "system_content"},
        {"model_identity", "You are ChatGPT, a large language model trained by OpenAI."},
        {"reasoning_effort", effort_},
        {"conversation_start_date", today()},
        {"knowledge_cutoff", "2024-06"},
        {"channel_config", {{"valid_channels", {"analysis", "commentary", "final"}}, {"channel_required", true}}}};
    Json messages = Json::array({{{"role", "system"}, {"content", Json::array({system})}}});
    if (!instructions_.empty() || !tools_.empty()) {
        Json developer = {{"type", "developer_content"}};
        if (!instructions_.empty()) developer["instructions"] = instructions_;
        if (!tools_.empty())
            developer["tools"] = {{"functions", {{"name", "functions"}, {"description", nullptr}, {"tools", tools_}}}};
        messages.push_back({{"role", "developer"}, {"content", Json::array({developer})}});
    }
    for (size_t i = 0; i < messages_.size(); ++i)
        if (i >= last_user_ || messages_[i].value("channel", "") != "analysis") messages.push_back(messages_[i]);
    return {{"messages", std::move(messages)}};
}

std::vector<uint32_t> Conversation::render(const Service& service, const std::string& param) const {
    try {
        return service.tokenizer.render(json().dump(-1, ' ', false, Json::error_handler_t::replace));
    } catch (const gptoss::Error& e) {
        if (e.status() != gptoss_status_invalid_argument) throw api_error(e);
        const bool in_tools = std::string_view(e.what()).find(".tools") != std::string_view::npos;
        throw invalid(in_tools ? "tools" : param, e.what());
    }
}

std::string name_in(const std::string& space, const std::string& name) {
    return space.empty() ? name : space + "__" + name;
}

std::string read_text(const Field& content, std::initializer_list<const char*> types) {
    if (content.is_string()) return content.string();
    std::string text;
    for (const Field& part : content.elements()) {
        const std::string& type = part.object()["type"].string();
        if (type == "refusal")
            text += part["refusal"].string();
        else if (std::any_of(types.begin(), types.end(), [&](const char* known) { return type == known; }))
            text += part["text"].string();
        else
            part["type"].refuse("this model reads text alone, and \"" + type + "\" is something else.");
    }
    return text;
}

Json read_tool_choice(const Field& choice) {
    if (!choice.given()) return "auto";
    if (choice.is_string()) {
        const std::string& name = choice.string();
        if (name != "auto" && name != "none" && name != "required") choice.fail("\"auto\", \"none\" or \"required\"");
        return name;
    }
    if (choice.object()["type"].string() != "function") choice["type"].refuse("there are functions only.");
    const Field function = choice["function"].given() ? choice["function"].object() : choice;
    return {{"name", function["name"].string()}};
}

}  // namespace server
