#include "conversation.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>

namespace chat {

namespace {

std::string today() {
    const std::time_t now = std::time(nullptr);
    char text[16];
    std::strftime(text, sizeof text, "%Y-%m-%d", std::localtime(&now));
    return text;
}

}  // namespace

void Conversation::begin_turn(const std::string& user_text) {
    turns_.push_back(Json::array({{{"role", "user"}, {"content", user_text}}}));
}

void Conversation::finish_turn() {
    Json kept = Json::array();
    for (Json& message : turns_.back())
        if (message.value("channel", "") != "analysis") kept.push_back(std::move(message));
    turns_.back() = std::move(kept);
}

bool Conversation::drop_oldest_turn() {
    if (turns_.size() < 2) return false;
    turns_.pop_front();
    return true;
}

Json Conversation::take_turn() {
    Json turn = std::move(turns_.back());
    turns_.pop_back();
    return turn;
}

Json Conversation::messages() const {
    const Json system = {
        {"type", "system_content"},
        {"model_identity", "You are ChatGPT, a large language model trained by OpenAI."},
        {"reasoning_effort", reasoning},
        {"conversation_start_date", today()},
        {"knowledge_cutoff", "2024-06"},
        {"channel_config", {{"valid_channels", {"analysis", "commentary", "final"}}, {"channel_required", true}}}};
    Json messages = Json::array({{{"role", "system"}, {"content", Json::array({system})}}});
    if (!instructions.empty() || !tools.empty()) {
        Json developer = {{"type", "developer_content"}};
        if (!instructions.empty()) developer["instructions"] = instructions;
        if (!tools.empty()) developer["tools"] = {{"functions", tools.definitions()}};
        messages.push_back({{"role", "developer"}, {"content", Json::array({developer})}});
    }
    for (const Json& turn : turns_) messages.insert(messages.end(), turn.begin(), turn.end());
    return messages;
}

std::string Conversation::json() const {
    // What was typed or printed by a tool may be any bytes.
    return Json{{"messages", messages()}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void Conversation::save(const std::filesystem::path& file) const {
    std::ofstream out(file);
    out << Json{{"messages", messages()}}.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
    if (!out.flush()) throw std::runtime_error(file.string() + ": " + std::strerror(errno));
}

void Conversation::load(const std::filesystem::path& file) {
    std::ifstream in(file);
    if (!in) throw std::runtime_error(file.string() + ": " + std::strerror(errno));
    Conversation loaded;
    try {
        const Json json = Json::parse(in);
        for (const Json& message : json.at("messages")) {
            const std::string role = message.at("role");
            const Json& content = message.at("content");
            if (role == "system") {
                loaded.reasoning = content.at(0).value("reasoning_effort", loaded.reasoning);
            } else if (role == "developer") {
                loaded.instructions = content.at(0).value("instructions", "");
            } else if (role == "user") {
                loaded.begin_turn(content.get<std::string>());
            } else if (loaded.turns_.empty()) {
                throw std::runtime_error("a conversation begins with the user, not with \"" + role + "\"");
            } else {
                loaded.add(message);
            }
        }
    } catch (const std::exception& e) {
        throw std::runtime_error(file.string() + " is not a conversation saved by /save: " + e.what());
    }
    reasoning = std::move(loaded.reasoning);
    instructions = std::move(loaded.instructions);
    turns_ = std::move(loaded.turns_);
}

}  // namespace chat
