#include "fields.h"

#include <cmath>

namespace server {

namespace {

int depth_of(std::string_view text) {
    int depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            deepest = std::max(deepest, ++depth);
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    return deepest;
}

// A value in an error message, no longer than a line.
std::string shown(const Json& json) {
    std::string text = json.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > 80) text = text.substr(0, 77) + "...";
    return text;
}

std::string shown(double number) {
    char text[32];
    std::snprintf(text, sizeof text, "%.15g", number);
    return text;
}

}  // namespace

Json parse_body(const std::string& body) {
    if (depth_of(body) > max_json_depth)
        throw invalid("", "The body is nested more than " + std::to_string(max_json_depth) + " levels deep.",
                      "invalid_json");
    Json json;
    try {
        json = Json::parse(body);
    } catch (const Json::parse_error& e) {
        throw invalid("", "The body is not JSON: the error is near byte " + std::to_string(e.byte) + ".",
                      "invalid_json");
    } catch (const Json::out_of_range&) {
        throw invalid("", "The body has a number that is out of range.", "invalid_json");
    }
    if (!json.is_object()) throw invalid("", "The body is not a JSON object: " + shown(json), "invalid_json");
    return json;
}

Field Field::operator[](const char* key) const {
    static const Json null;
    const std::string path = path_.empty() ? key : path_ + "." + key;
    if (!json_->is_object()) return Field(null, path);
    const auto entry = json_->find(key);
    return Field(entry == json_->end() ? null : *entry, path);
}

std::vector<Field> Field::elements() const {
    if (!json_->is_array()) fail("an array");
    std::vector<Field> fields;
    for (const Json& element : *json_) fields.emplace_back(element, path_ + "[" + std::to_string(fields.size()) + "]");
    return fields;
}

const std::string& Field::string() const {
    if (!json_->is_string()) fail("a string");
    return json_->get_ref<const std::string&>();
}

bool Field::boolean() const {
    if (!json_->is_boolean()) fail("true or false");
    return json_->get<bool>();
}

double Field::number(double least, double most) const {
    if (!json_->is_number()) fail("a number");
    const double value = json_->get<double>();
    if (!(value >= least && value <= most)) fail("a number from " + shown(least) + " to " + shown(most));
    return value;
}

int64_t Field::integer(int64_t least, int64_t most) const {
    const auto fits = [&] {
        if (json_->is_number_unsigned()) {
            const uint64_t value = json_->get<uint64_t>();
            return value <= static_cast<uint64_t>(INT64_MAX) && static_cast<int64_t>(value) >= least &&
                   static_cast<int64_t>(value) <= most;
        }
        const int64_t value = json_->get<int64_t>();
        return value >= least && value <= most;
    };
    if (!json_->is_number_integer()) fail("an integer");
    if (!fits()) fail("an integer from " + std::to_string(least) + " to " + std::to_string(most));
    return json_->get<int64_t>();
}

const Field& Field::object() const {
    if (!json_->is_object()) fail("an object");
    return *this;
}

void Field::fail(const std::string& expected) const {
    if (!given())
        throw invalid(path_, path_ + " is missing: " + expected + " is required.", "missing_required_parameter");
    throw invalid(
        path_, path_ + " is " + shown(*json_) + ", and " + expected + " was expected.",
        std::string_view(expected).find(" from ") == std::string_view::npos ? "invalid_type" : "invalid_value");
}

}  // namespace server
