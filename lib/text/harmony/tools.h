// The tools that gpt-oss was trained with, as Harmony describes them.
#pragma once

#include <string_view>

#include "text/harmony/tool_types.h"

namespace gptoss::text {

// The namespace ("browser", "python") as JSON: name, description, tools; nullptr if there is none of this name.
const Json* builtin_tools(std::string_view name);

}  // namespace gptoss::text
