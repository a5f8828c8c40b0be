// Grammars as llama.cpp writes them (GBNF).
#pragma once

#include <string_view>

#include "text/grammar/program.h"
#include "text/tokenizer/tokenizer.h"

namespace gptoss::text {

// Adds the rules of a grammar and returns its rule "root". A special token is written as its name, <|start|>, or as its
// id, <[200006]>. Throws InvalidArgument, naming the line.
uint32_t add_gbnf(Program& program, const Tokenizer& tokenizer, std::string_view text);

}  // namespace gptoss::text
