// The numbers that shape an answer: --temperature 0.7 on the command line is /set temperature 0.7 in the chat.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace chat {

// What a number may be, for people to read. most: the type's own limit for none.
struct Range {
    double least, most;
    bool whole;

    // Such as "a whole number from 1 on".
    std::string text() const;
};

// The number that a text spells. Throws std::invalid_argument, which names the text and the range.
double parse_number(const std::string& text, const Range& range);
uint64_t parse_whole_number(const std::string& text, const Range& range);

// What is not set is the model's or the library's default.
struct Settings {
    std::optional<double> temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
    std::optional<uint64_t> top_k, seed, max_tokens;
};

struct Setting {
    const char *name, *help;
    Range range;
    std::variant<std::optional<double> Settings::*, std::optional<uint64_t> Settings::*> member;

    // Throws std::invalid_argument.
    void set(Settings& settings, const std::string& text) const;
    // "default" where it is not set.
    std::string get(const Settings& settings) const;
};

const std::vector<Setting>& all_settings();

}  // namespace chat
