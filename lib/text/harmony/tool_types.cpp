#include "text/harmony/tool_types.h"

#include <charconv>
#include <cmath>
#include <set>

#include "base/json.h"

namespace gptoss::text {

namespace {

const Json* find(const Json& schema, const char* key) {
    if (!schema.is_object()) return nullptr;
    auto entry = schema.find(key);
    return entry == schema.end() ? nullptr : &*entry;
}

const std::string* find_string(const Json& schema, const char* key) {
    const Json* value = find(schema, key);
    return value && value->is_string() ? &value->get_ref<const std::string&>() : nullptr;
}

const Json* find_array(const Json& schema, const char* key) {
    const Json* value = find(schema, key);
    return value && value->is_array() ? value : nullptr;
}

bool is_enum(const Json& schema) {
    const Json* values = find_array(schema, "enum");
    return values && !values->empty();
}

// "default: …"; empty if the schema has none. The value of an enum is written bare in a property, and as JSON in a
// variant that stands alone.
std::string default_of(const Json& schema, bool in_property) {
    const Json* value = find(schema, "default");
    if (!value) return {};
    if (!value->is_string()) return "default: " + dump(*value);
    const std::string& text = value->get_ref<const std::string&>();
    if (!is_enum(schema)) return "default: \"" + text + '"';
    return "default: " + (in_property ? text : dump(*value));
}

std::string join(const std::vector<std::string>& parts, const char* separator) {
    std::string out;
    for (const std::string& part : parts) out += (&part == &parts[0] ? "" : separator) + part;
    return out;
}

std::string type_of(const Json& schema, const std::string& indent);

std::string nullable_type_of(const Json& schema, const std::string& indent) {
    std::string type = type_of(schema, indent);
    const Json* nullable = find(schema, "nullable");
    const bool is_nullable = nullable && nullable->is_boolean() && nullable->get<bool>();
    if (is_nullable && type.find("null") == std::string::npos) type += " | null";
    return type;
}

// One alternative of a oneOf, with its comments behind it.
std::string variant_of(const Json& schema, const std::string& indent, bool with_description, bool in_property) {
    std::vector<std::string> comments;
    const std::string* description = find_string(schema, "description");
    if (description && with_description) comments.push_back(*description);
    std::string value = default_of(schema, in_property);
    if (!value.empty()) comments.push_back(value);
    std::string type = nullable_type_of(schema, indent + "   ");
    return comments.empty() ? type : type + " // " + join(comments, " ");
}

std::string one_of(const Json& variants, const std::string& indent) {
    std::string out;
    for (const Json& variant : variants) out += "\n" + indent + " | " + variant_of(variant, indent, true, false);
    return out;
}

// A property whose type is a oneOf: its comments stand above, its alternatives on lines of their own.
std::string one_of_property(const std::string& name, const Json& schema, const Json& variants,
                            const std::string& indent) {
    const std::string* description = find_string(schema, "description");
    const std::string* first = variants.empty() ? nullptr : find_string(variants[0], "description");
    const bool above = description && !(first && *first == *description);
    std::string out;
    if (above) out += indent + "// " + *description + "\n";
    const std::string value = default_of(schema, true);
    if (!value.empty()) out += indent + "// " + value + "\n";
    out += indent + name + ":\n";
    for (size_t i = 0; i < variants.size(); ++i) {
        const std::string* own = find_string(variants[i], "description");
        const bool repeated = (i == 0 && above) || (own && description && *own == *description);
        out += indent + " | " + variant_of(variants[i], indent, !repeated, true) + "\n";
    }
    return out + indent + ",\n";
}

std::string property(const std::string& key, const Json& schema, bool required, const std::string& indent) {
    std::string out;
    if (const std::string* title = find_string(schema, "title"))
        out += indent + "// " + *title + "\n" + indent + "//\n";
    const bool has_one_of = find(schema, "oneOf") != nullptr;
    const std::string* description = find_string(schema, "description");
    if (description && !has_one_of) out += indent + "// " + *description + "\n";
    if (const Json* examples = find_array(schema, "examples"); examples && !examples->empty()) {
        out += indent + "// Examples:\n";
        for (const Json& example : *examples)
            if (example.is_string()) out += indent + "// - \"" + example.get_ref<const std::string&>() + "\"\n";
    }
    const std::string name = key + (required ? "" : "?");
    if (const Json* variants = find_array(schema, "oneOf"))
        return out + one_of_property(name, schema, *variants, indent);
    out += indent + name + ": " + nullable_type_of(schema, indent + "    ") + ",";
    const std::string value = has_one_of ? "" : default_of(schema, true);
    if (!value.empty()) out += " // " + value;
    return out + "\n";
}

std::string object(const Json& schema, const std::string& indent) {
    std::string out;
    if (const std::string* description = find_string(schema, "description"))
        out += indent + "// " + *description + "\n";
    out += "{\n";
    std::set<std::string> required;
    if (const Json* keys = find_array(schema, "required"))
        for (const Json& key : *keys)
            if (key.is_string()) required.insert(key.get<std::string>());
    if (const Json* properties = find(schema, "properties"); properties && properties->is_object())
        for (auto& [key, value] : properties->items()) out += property(key, value, required.count(key) > 0, indent);
    return out + indent + "}";
}

std::string type_of(const Json& schema, const std::string& indent) {
    if (const Json* variants = find_array(schema, "oneOf")) return one_of(*variants, indent);
    if (const Json* types = find_array(schema, "type")) {
        std::vector<std::string> names;
        for (const Json& type : *types)
            if (type.is_string()) names.push_back(is_text(type, "integer") ? "number" : type.get<std::string>());
        return names.empty() ? "any" : join(names, " | ");
    }
    const std::string* type = find_string(schema, "type");
    if (!type) return "any";
    if (*type == "object") return object(schema, indent);
    if (*type == "array") {
        const Json* items = find(schema, "items");
        return items ? type_of(*items, indent) + "[]" : "Array<any>";
    }
    if (*type == "string") {
        std::vector<std::string> values;
        if (const Json* list = find_array(schema, "enum"))
            for (const Json& value : *list)
                if (value.is_string()) values.push_back('"' + value.get<std::string>() + '"');
        return values.empty() ? "string" : join(values, " | ");
    }
    if (*type == "number" || *type == "integer") return "number";
    return *type == "boolean" ? "boolean" : "any";
}

// The shortest digits that give the number back; plain from 1e-5 up to 16 digits before the point.
std::string dump_number(double number) {
    if (!std::isfinite(number)) return "null";
    if (number == 0) return std::signbit(number) ? "-0.0" : "0.0";
    char buffer[32];
    char* end = std::to_chars(buffer, buffer + sizeof buffer, std::fabs(number), std::chars_format::scientific).ptr;
    const std::string text(buffer, end);  // d.ddde±xx
    const size_t e = text.find('e');
    const int exponent = std::stoi(text.substr(e + 1));
    std::string digits = text.substr(0, 1) + (e > 2 ? text.substr(2, e - 2) : "");
    const int point = exponent + 1;  // digits before the decimal point
    const int count = static_cast<int>(digits.size());
    const std::string sign = number < 0 ? "-" : "";
    if (count <= point && point <= 16) return sign + digits + std::string(point - count, '0') + ".0";
    if (0 < point && point <= 16) return sign + digits.insert(point, ".");
    if (-5 < point && point <= 0) return sign + "0." + std::string(-point, '0') + digits;
    if (count > 1) digits.insert(1, ".");
    return sign + digits + "e" + std::to_string(exponent);
}

}  // namespace

std::string typescript_of(const Json& schema) { return type_of(schema, ""); }

std::string dump(const Json& value) {
    std::string out;
    if (value.is_array()) {
        for (const Json& element : value) out += (out.empty() ? "" : ",") + dump(element);
        return "[" + out + "]";
    }
    if (value.is_object()) {
        for (auto& [key, element] : value.items())
            out += (out.empty() ? "" : ",") + Json(key).dump() + ":" + dump(element);
        return "{" + out + "}";
    }
    return value.is_number_float() ? dump_number(value.get<double>()) : value.dump();
}

}  // namespace gptoss::text
