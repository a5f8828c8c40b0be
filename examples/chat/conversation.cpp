#include "conversation.h"

#include <ctime>

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

std::string Conversation::json() const {
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
    // What was typed or printed by a tool may be any bytes.
    return Json{{"messages", messages}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace chat
