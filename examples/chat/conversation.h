// What has been said, as turns: each begins with what the user wrote.
#pragma once

#include <deque>
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

    // As gptoss_harmony_render takes it.
    std::string json() const;

  private:
    std::deque<Json> turns_;  // arrays of messages
};

}  // namespace chat
