// Values of a request's JSON with their paths, so that a wrong one is refused by name: messages[1].content.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api_error.h"

namespace server {

// Nesting beyond this is refused before it is parsed.
constexpr int max_json_depth = 64;

// Throws ApiError for what is not JSON, not an object, or nested too deeply.
Json parse_body(const std::string& body);

class Field {
  public:
    explicit Field(const Json& json, std::string path = {}) : json_(&json), path_(std::move(path)) {}

    const Json& json() const { return *json_; }
    const std::string& path() const { return path_; }
    bool is_string() const { return json_->is_string(); }
    // False where the key is absent or null.
    bool given() const { return !json_->is_null(); }

    // A member of an object. One that is absent is a field that is not given.
    Field operator[](const char* key) const;
    std::vector<Field> elements() const;

    // Each throws ApiError where the value has another type or is out of range.
    const std::string& string() const;
    bool boolean() const;
    double number(double least, double most) const;
    int64_t integer(int64_t least, int64_t most) const;
    const Field& object() const;

    // The same, with a value for a field that is not given.
    std::string string_or(const std::string& otherwise) const { return given() ? string() : otherwise; }
    bool boolean_or(bool otherwise) const { return given() ? boolean() : otherwise; }

    [[noreturn]] void fail(const std::string& expected) const;
    [[noreturn]] void refuse(const std::string& why) const { throw unsupported(path_, path_ + ": " + why); }

  private:
    const Json* json_;
    std::string path_;
};

}  // namespace server
