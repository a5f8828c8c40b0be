// One grammar of a whole turn of the assistant, from behind "<|start|>assistant" to the token that ends it.
#pragma once

#include <string_view>

#include "text/grammar/program.h"
#include "text/tokenizer/tokenizer.h"

namespace gptoss::text {

// options: a JSON object with, all of them optional,
//   tools: a list of functions {name, parameters}, as in a conversation's tools; also {type: "function", function: ...}
//   tool_choice: "auto" (the default), "none", "required", or {name: ...} (also {type: "function", function: {name}})
//   response_format: a JSON schema that the final text follows
//   reasoning: whether the analysis channel may be used (the default)
// Special tokens are terminals: no text can be read as one of them. Throws InvalidArgument and UnsupportedArgument.
uint32_t add_harmony_turn(Program& program, const Tokenizer& tokenizer, std::string_view options);

}  // namespace gptoss::text
