// Regular expressions as JSON schemas and people write them (ECMA 262, Unicode).
#pragma once

#include <string_view>

#include "text/grammar/characters.h"

namespace gptoss::text {

enum class Anchoring {
    Whole,   // the expression matches the whole text; ^ and $ at its ends change nothing
    Search,  // it matches somewhere in the text, as a JSON schema's pattern
};

// The texts that an expression matches, in an encoding (of a JSON string: without the quotes). Throws InvalidArgument
// for an expression that is none, UnsupportedArgument for one that no automaton can follow or that is not known here;
// both name the place.
RegexId parse_regex(RegexPool& pool, std::string_view expression, Anchoring anchoring, Encoding encoding);

}  // namespace gptoss::text
