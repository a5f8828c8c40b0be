// The formats of JSON schema that are enforced, as regular expressions.
#pragma once

#include <string_view>

namespace gptoss::text {

struct Format {
    std::string_view name;
    std::string_view regex;   // of the whole text
    unsigned max_length = 0;  // characters; 0: any
};

// nullptr for an unknown one.
const Format* find_format(std::string_view name);
// Formats that say how a value is used and restrict no text.
bool is_annotation(std::string_view format);

}  // namespace gptoss::text
