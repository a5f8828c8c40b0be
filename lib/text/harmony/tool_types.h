// JSON schemas as the TypeScript-like types that Harmony describes functions with.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace gptoss::text {

// Keeps the order of keys, which is the order of a type's fields.
using Json = nlohmann::ordered_json;

std::string typescript_of(const Json& schema);

// Compact JSON with numbers as OpenAI's library writes them: 10.0, 1e16, 1e-7.
std::string dump(const Json& value);

}  // namespace gptoss::text
