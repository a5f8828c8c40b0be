#include "settings.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace chat {

namespace {

constexpr double no_limit = std::numeric_limits<double>::infinity();
constexpr double uint32_limit = std::numeric_limits<uint32_t>::max();

std::string plain(double number) {
    char text[40];
    std::snprintf(text, sizeof text, "%.10g", number);
    return text;
}

template <typename T>
T parse(const std::string& text, const Range& range) {
    T number{};
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    const bool inside = error == std::errc() && rest == end && static_cast<double>(number) >= range.least &&
                        static_cast<double>(number) <= range.most && std::isfinite(static_cast<double>(number));
    if (!inside) throw std::invalid_argument("\"" + text + "\" is not " + range.text());
    return number;
}

}  // namespace

std::string Range::text() const {
    const bool open = least > 0 && least < 0.001;  // stands for all that is above 0
    return (whole ? "a whole number " : "a number ") + (open ? "above 0" : "from " + plain(least)) +
           (most >= uint32_limit ? " on" : " to " + plain(most));
}

double parse_number(const std::string& text, const Range& range) { return parse<double>(text, range); }
uint64_t parse_whole_number(const std::string& text, const Range& range) { return parse<uint64_t>(text, range); }

void Setting::set(Settings& settings, const std::string& text) const {
    if (const auto* number = std::get_if<0>(&member))
        settings.** number = parse_number(text, range);
    else
        settings.*std::get<1>(member) = parse_whole_number(text, range);
}

std::string Setting::get(const Settings& settings) const {
    if (const auto* number = std::get_if<0>(&member))
        return settings.**number ? plain(*(settings.**number)) : "default";
    const std::optional<uint64_t>& number = settings.*std::get<1>(member);
    return number ? std::to_string(*number) : "default";
}

const std::vector<Setting>& all_settings() {
    static const std::vector<Setting> settings = {
        {"max-tokens",
         "Tokens an answer may take (default: what the context holds)",
         {1, no_limit, true},
         &Settings::max_tokens},
        {"temperature",
         "0 takes the most likely token (default: 1, or the model's)",
         {0, 1000, false},
         &Settings::temperature},
        {"top-p",
         "Sample among the tokens that make up this probability (default: 1)",
         {0.000001, 1, false},
         &Settings::top_p},
        {"top-k", "Sample among so many tokens, 0 for all (default: all)", {0, uint32_limit, true}, &Settings::top_k},
        {"min-p",
         "Leave out tokens less likely than this part of the likeliest (default: 0)",
         {0, 1, false},
         &Settings::min_p},
        {"seed",
         "The same seed gives the same answers (default: another one each time)",
         {0, no_limit, true},
         &Settings::seed},
        {"presence-penalty",
         "For tokens that the answer has, -2 to 2 (default: 0)",
         {-2, 2, false},
         &Settings::presence_penalty},
        {"frequency-penalty",
         "The same for each time it has them (default: 0)",
         {-2, 2, false},
         &Settings::frequency_penalty},
        {"repetition-penalty",
         "Divides the logits of tokens of the conversation (default: 1)",
         {0.01, 100, false},
         &Settings::repetition_penalty},
    };
    return settings;
}

}  // namespace chat
