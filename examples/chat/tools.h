// The functions that the model may call, each with the command that runs it.
#pragma once

#include <nlohmann/json.hpp>

#include <map>
#include <string>

namespace chat {

using Json = nlohmann::ordered_json;

class Tools {
  public:
    Tools() = default;
    // A JSON array of functions, or an object that holds it as "tools". Each has "name", "description", "parameters"
    // (a JSON schema) and "command", a line for sh, on Windows for cmd. Throws std::runtime_error that names the file.
    explicit Tools(const std::string& path);

    bool empty() const { return commands_.empty(); }
    const std::map<std::string, std::string>& commands() const { return commands_; }
    // The namespace "functions" as Harmony has it.
    const Json& definitions() const { return definitions_; }

    // The result of a call, such as recipient "functions.get_weather": what its command prints, given the arguments on
    // its standard input. Whatever goes wrong is the result too, so that the model can tell.
    std::string call(const std::string& recipient, const std::string& arguments) const;

  private:
    Json definitions_;
    std::map<std::string, std::string> commands_;  // by name
};

}  // namespace chat
