// What has been said, as turns: each begins with what the user wrote.
#pragma once

#include <deque>
#include <filesystem>
#include <string>

#include "tools.h"

namespace chat {

class Conversation {
  public:
    std::string reasoning = "medium";  // low, medium or high
    std::string instructions;          // the developer message; "" for none
    Tools tools;

    void begin_turn(const std::string& user_text);
    void add(Json message) { turns_.back().push_back(std::move(message)); }
    // Removes the turn's reasoning: the model is not shown that of earlier turns.
    void finish_turn();
    void forget_turn() { turns_.pop_back(); }
    // Returns false if the current turn is all there is.
    bool drop_oldest_turn();
    void clear() { turns_.clear(); }
    bool empty() const { return turns_.empty(); }
    size_t size() const { return turns_.size(); }
    // Removes the last turn and returns it.
    Json take_turn();
    void put_turn(Json turn) { turns_.push_back(std::move(turn)); }

    // As gptoss_harmony_render takes it.
    std::string json() const;

    // Writes what json() gives to a file, and makes this what such a file holds, except for the tools: they stay those
    // that this program was started with. Both throw std::runtime_error, which names the file, and change nothing then.
    void save(const std::filesystem::path& file) const;
    void load(const std::filesystem::path& file);

  private:
    Json messages() const;

    std::deque<Json> turns_;  // arrays of messages
};

}  // namespace chat
