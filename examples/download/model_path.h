#pragma once

#include <string>

namespace hub {

// For a program's MODEL: what does not begin with hf: as it is; else the model in the user's cache. One that is not
// there is downloaded if agreed, or the user on the terminal agrees; throws std::runtime_error otherwise, with the
// command that does it.
std::string model_path(const std::string& model, bool agreed);

}  // namespace hub
