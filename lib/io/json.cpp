#include "io/json.h"

#include "base/fail.h"

namespace gptoss::io {

using nlohmann::json;

JsonRoot<json> parse_json(const char* text, size_t size, const std::string& source) {
    const auto refuse = [&](const std::string& what) { fail(source, printable(what)); };
    JsonRoot<json> root({text, size}, {.max_depth = 16, .unique_keys = true}, refuse);
    if (!(*root).is_object()) refuse("is not a JSON object");
    return root;
}

JsonOrigin json_origin(const std::string& source) {
    const std::string path = path_text(source);
    return {Status::IoError, path, path + ": "};
}

}  // namespace gptoss::io
