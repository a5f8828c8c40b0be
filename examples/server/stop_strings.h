// Cuts a text at the first of some strings, across the pieces in which the text comes.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace server {

class StopStrings {
  public:
    explicit StopStrings(std::vector<std::string> strings = {}) : strings_(std::move(strings)) {}

    // Returns the text that can be shown. A tail that may yet become a stop string is held back.
    std::string add(std::string_view text) {
        if (strings_.empty()) return std::string(text);
        if (stopped_) return {};
        held_ += text;
        size_t shown = std::string::npos;
        for (const std::string& stop : strings_) shown = std::min(shown, held_.find(stop));
        stopped_ = shown != std::string::npos;
        if (!stopped_) shown = held_.size() - longest_beginning();
        std::string out = held_.substr(0, shown);
        held_.erase(0, stopped_ ? held_.size() : shown);
        return out;
    }
    // The text ends here: returns what was held back.
    std::string finish() { return std::exchange(held_, {}); }
    bool stopped() const { return stopped_; }

  private:
    // The size of the longest tail that is the beginning of a stop string.
    size_t longest_beginning() const {
        size_t longest = 0;
        for (const std::string& stop : strings_)
            for (size_t size = std::min(stop.size() - 1, held_.size()); size > longest; --size)
                if (std::string_view(held_).substr(held_.size() - size) == std::string_view(stop).substr(0, size))
                    longest = size;
        return longest;
    }

    std::vector<std::string> strings_;
    std::string held_;
    bool stopped_ = false;
};

}  // namespace server
