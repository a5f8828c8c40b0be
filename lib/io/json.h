// JSON from files that nobody has vouched for.
#pragma once

#include <cstddef>
#include <string>

#include "base/json_node.h"

namespace gptoss::io {

// Parses an object. Throws IoError naming source if the text is not JSON, not an object, nested too deeply, or has a
// key twice in one object.
JsonRoot<nlohmann::json> parse_json(const char* text, size_t size, const std::string& source);

// Errors about values of such a file: "<source>: <path> is 7: expected …".
JsonOrigin json_origin(const std::string& source);

}  // namespace gptoss::io
