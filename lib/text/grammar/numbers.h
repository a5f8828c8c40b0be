// Numbers of JSON with bounds, as regular expressions over their digits: exact for any number of digits.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/grammar/regex.h"

namespace gptoss::text {

// Any number as JSON writes it.
RegexId json_number(RegexPool& pool);
// Any number without an exponent, and so with one value a digit. What follows is within these.
RegexId decimal_number(RegexPool& pool);

// with_point: also 1.0, which is an integer to JSON schema.
RegexId integer(RegexPool& pool, bool with_point);

struct Bound {
    std::string value;  // as JSON writes numbers
    bool exclusive = false;
};
// All spellings of the numbers between two bounds, where there are any.
RegexId number_range(RegexPool& pool, const std::optional<Bound>& min, const std::optional<Bound>& max);
// All spellings of the multiples of a positive number. nullopt if it has too many digits.
std::optional<RegexId> number_multiple(RegexPool& pool, std::string_view of);

}  // namespace gptoss::text
