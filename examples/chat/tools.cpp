#include "tools.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "system.h"

namespace chat {

Tools::Tools(const std::string& path) {
    std::ifstream file{std::filesystem::path(path)};
    if (!file) throw std::runtime_error(path + ": " + std::strerror(errno));
    try {
        Json json = Json::parse(file);
        if (json.is_object()) json = json.at("tools");
        for (Json& function : json) {
            const std::string& name = function.at("name").get_ref<const std::string&>();
            if (!function.contains("command")) throw std::runtime_error("function " + name + " has no \"command\"");
            commands_[name] = function.at("command").get<std::string>();
            function.erase("command");
            if (!function.contains("description")) function["description"] = "";
        }
        definitions_ = {{"name", "functions"}, {"description", nullptr}, {"tools", std::move(json)}};
    } catch (const std::exception& e) {
        throw std::runtime_error(path + ": " + e.what());
    }
}

std::string Tools::call(const std::string& recipient, const std::string& arguments) const {
    const std::string prefix = "functions.";
    const auto command = commands_.find(recipient.starts_with(prefix) ? recipient.substr(prefix.size()) : recipient);
    if (command == commands_.end()) return "error: there is no function " + recipient;
    try {
        std::string result = programs::run_command(command->second, arguments);
        while (result.ends_with('\n')) result.pop_back();
        return result;
    } catch (const std::exception& e) {
        return std::string("error: ") + e.what();
    }
}

}  // namespace chat
