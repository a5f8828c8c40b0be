#include "tools.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>

extern char** environ;

namespace chat {

Tools::Tools(const std::string& path) {
    std::ifstream file(path);
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

namespace {

// What the command prints. Its input is a file, so that neither side can wait for the other.
std::string run(const std::string& command, const std::string& input) {
    FILE* in = std::tmpfile();
    int out[2];
    if (!in || pipe(out) != 0) throw std::runtime_error(std::strerror(errno));
    std::fwrite(input.data(), 1, input.size(), in);
    std::rewind(in);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fileno(in), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    posix_spawn_file_actions_addclose(&actions, out[1]);
    const char* const arguments[] = {"sh", "-c", command.c_str(), nullptr};
    pid_t child;
    const int error = posix_spawnp(&child, "sh", &actions, nullptr, const_cast<char* const*>(arguments), environ);
    posix_spawn_file_actions_destroy(&actions);
    std::fclose(in);
    close(out[1]);

    std::string result;
    char buffer[4096];
    ssize_t size;
    while (!error && ((size = read(out[0], buffer, sizeof buffer)) > 0 || (size < 0 && errno == EINTR)))
        if (size > 0) result.append(buffer, static_cast<size_t>(size));
    close(out[0]);
    if (error) throw std::runtime_error(std::strerror(error));

    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status))
        throw std::runtime_error("the command was stopped by signal " + std::to_string(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0)
        throw std::runtime_error("the command ended with status " + std::to_string(WEXITSTATUS(status)) +
                                 (result.empty() ? "" : ": " + result));
    return result;
}

}  // namespace

std::string Tools::call(const std::string& recipient, const std::string& arguments) const {
    const std::string prefix = "functions.";
    const auto command = commands_.find(recipient.starts_with(prefix) ? recipient.substr(prefix.size()) : recipient);
    if (command == commands_.end()) return "error: there is no function " + recipient;
    try {
        std::string result = run(command->second, arguments);
        while (result.ends_with('\n')) result.pop_back();
        return result;
    } catch (const std::exception& e) {
        return std::string("error: ") + e.what();
    }
}

}  // namespace chat
