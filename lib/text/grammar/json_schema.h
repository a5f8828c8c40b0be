// JSON schemas as rules of a grammar.
#pragma once

#include "text/grammar/program.h"
#include "text/grammar/schema_document.h"

namespace gptoss::text {

// Adds rules that match the JSON texts a schema allows, and returns the first of them. Properties come in the order in
// which the schema names them, others behind them; between the parts of a text there may be a space, or a line break
// and an indentation. Throws InvalidArgument for what is no schema, UnsupportedArgument for what cannot be enforced;
// both name the place.
uint32_t add_json_schema(Program& program, const SchemaDocument& document);

}  // namespace gptoss::text
