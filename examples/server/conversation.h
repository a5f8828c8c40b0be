// A client's messages as a Harmony conversation.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "fields.h"
#include "service.h"

namespace server {

class Conversation {
  public:
    explicit Conversation(std::string effort) : effort_(std::move(effort)) {}

    // What the developer says. At the beginning it joins the instructions that are there.
    void developer(const std::string& text);
    void user(const std::string& text);
    // Reasoning is shown to the model only up to the answer that it led to.
    void reasoning(const std::string& text);
    // calls_follow: what the assistant says before it calls a function is no final answer.
    void assistant(const std::string& text, bool calls_follow);
    void call(const std::string& id, const std::string& name, const std::string& arguments);
    // id: names the call, which must have come before.
    void result(const Field& id, const std::string& text);

    // A function that the model may call: its name, description, parameters, strict. space: its namespace.
    void tool(const Field& function, const std::string& space = {});
    const std::set<std::string>& tools() const { return tool_names_; }
    // What the answer has to be: the type text, json_object or json_schema; schema holds the last one's, and strict.
    void format(const Field& type, const Field& schema);
    // Which function is to be called: "auto", "required", or the name of one, as read_tool_choice gives it.
    void choose(const Json& choice) { choice_ = choice; }
    // Of the turn, where tools or a format ask for one. Throws ApiError.
    std::optional<gptoss::Grammar> grammar(const Service& service) const;

    // The tokens, ready for the assistant's turn. param: the field that holds the messages.
    std::vector<uint32_t> render(const Service& service, const std::string& param) const;

  private:
    Json json() const;

    const std::string effort_;
    std::string instructions_;
    Json tools_ = Json::array();
    std::set<std::string> tool_names_;
    Json choice_ = "auto", format_;
    Json callable_ = Json::array();          // the tools as the grammar takes them
    std::vector<std::string> strict_paths_;  // of their parameters
    std::string format_path_;
    Json messages_ = Json::array();
    std::map<std::string, std::string> calls_;  // names of functions by the call's id
    size_t last_user_ = 0;                      // messages before it are of finished turns
};

// The name by which the model knows a function of a namespace; without one it is the function's own.
std::string name_in(const std::string& space, const std::string& name);

// A string, or an array of parts that have one of these types; their texts follow each other.
std::string read_text(const Field& content, std::initializer_list<const char*> types);

// "auto", "none", "required", or {"name": ...} for a function by name.
Json read_tool_choice(const Field& choice);

}  // namespace server
