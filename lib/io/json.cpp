#include "io/json.h"

#include <set>
#include <vector>

#include "io/fail.h"

namespace gptoss::io {

using nlohmann::json;

json parse_json(const char* text, size_t size, const std::string& source) {
    constexpr size_t max_depth = 16;
    std::vector<std::set<std::string>> keys(max_depth + 2);  // those seen in the open object of each depth
    auto check = [&](int signed_depth, json::parse_event_t event, json& parsed) {
        size_t depth = static_cast<size_t>(signed_depth);
        if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) {
            if (depth >= max_depth) fail(source, "nested more than " + std::to_string(max_depth) + " deep");
            keys[depth + 1].clear();
        } else if (event == json::parse_event_t::key) {
            const std::string& key = parsed.get_ref<const std::string&>();
            if (!keys[depth].insert(key).second) fail(source, "key " + quote(key) + " appears twice");
        }
        return true;
    };
    json value;
    try {
        value = json::parse(text, text + size, check);
    } catch (const json::exception& e) {
        std::string_view what = e.what();  // "[json.exception.parse_error.101] parse error at line …"
        if (size_t end = what.find("] "); end != what.npos) what.remove_prefix(end + 2);
        fail(source, "is not valid JSON: " + printable(what));
    }
    if (!value.is_object()) fail(source, "is not a JSON object");
    return value;
}

}  // namespace gptoss::io
