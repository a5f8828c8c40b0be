// Regular expressions of tokenizers, made independent of the installed PCRE2.
#pragma once

#include <string>

namespace gptoss::text {

// The pattern with \s, \S and the categories L, Lu, Ll, Lm, Lo, M and N as Unicode 16 has them, which is what the
// reference tokenizers use. An older PCRE2 lacks characters, and its \s has U+180E, which is no white space.
std::string portable_pattern(const std::string& pattern);

}  // namespace gptoss::text
