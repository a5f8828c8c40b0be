// Finds the checkpoint that a path means.
#pragma once

#include <string>

namespace gptoss::io {

struct Location {
    std::string path;  // a directory with a config.json, or a GGUF file: of a split model the first
    bool is_gguf = false;
    std::string part = {};  // the file that was named, where the path is the directory around it
};

// path: a Hugging Face directory, OpenAI's original/ directory or the directory around it, a directory with one GGUF
// model, the directory of a model in Hugging Face's cache, a GGUF file of any name, or any file of one of these. Throws
// IoError that says what else the path is, and what to give instead.
Location locate_checkpoint(const std::string& path);

// Whether there is anything of this name, be it a link that leads nowhere.
bool is_there(const std::string& path);

}  // namespace gptoss::io
