// Reading a JSON document that nobody has vouched for: every refusal names the place, the value and what was expected.
#pragma once

#include <cmath>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fail.h"
#include "base/json.h"

namespace gptoss {

// What the messages about a document's values begin with.
struct JsonOrigin {
    Status status;
    std::string root;         // names the document itself
    std::string prefix = {};  // stands before the path of a value within it
};

// A value and its path, such as messages[2].content. A member that is null counts as missing. Refers to the document
// and the origin.
template <typename Json>
class JsonNode {
  public:
    using Names = std::initializer_list<const char*>;

    JsonNode(const Json& json, const JsonOrigin& origin) : JsonNode(json, origin, "") {}

    const Json& json() const { return *json_; }
    // Another value in this one's place.
    JsonNode with(const Json& json) const { return {json, *origin_, path_}; }

    // The first member of one of these names.
    std::optional<JsonNode> find(Names names) const {
        require(json_->is_object(), "an object");
        for (const char* name : names)
            if (auto at = json_->find(name); at != json_->end() && !at->is_null()) return member(name, *at);
        return std::nullopt;
    }
    std::optional<JsonNode> find(const std::string& name) const { return find({name.c_str()}); }
    JsonNode get(Names names) const {
        std::optional<JsonNode> node = find(names);
        if (!node) refuse("\"" + std::string(*names.begin()) + "\" is missing");
        return *node;
    }
    JsonNode get(const std::string& name) const { return get({name.c_str()}); }
    bool has(const std::string& name) const { return find(name).has_value(); }

    const std::string& text() const {
        require(json_->is_string(), "a string");
        return json_->template get_ref<const std::string&>();
    }
    bool boolean() const {
        require(json_->is_boolean(), "true or false");
        return json_->template get<bool>();
    }
    float number() const {
        const double x = json_->is_number() ? json_->template get<double>() : NAN;
        require(std::abs(x) <= 3.4028234663852886e38, "a float32");
        return static_cast<float>(x);
    }
    uint32_t integer() const {
        const double x = json_->is_number() ? json_->template get<double>() : NAN;
        require(x >= 0 && x <= UINT32_MAX && x == std::floor(x), "a whole number below 2^32");
        return static_cast<uint32_t>(x);
    }
    uint64_t size() const {
        require(json_->is_number_unsigned(), "a whole number from 0 on");
        return json_->template get<uint64_t>();
    }
    // The same of a member, or otherwise if it is missing.
    std::string text(Names names, const char* otherwise) const {
        const auto node = find(names);
        return node ? node->text() : otherwise;
    }
    bool boolean(Names names, bool otherwise) const {
        const auto node = find(names);
        return node ? node->boolean() : otherwise;
    }
    float number(Names names, float otherwise) const {
        const auto node = find(names);
        return node ? node->number() : otherwise;
    }
    uint32_t integer(Names names, uint32_t otherwise) const {
        const auto node = find(names);
        return node ? node->integer() : otherwise;
    }

    std::vector<JsonNode> elements() const {
        require(json_->is_array(), "an array");
        std::vector<JsonNode> nodes;
        nodes.reserve(json_->size());
        for (const Json& element : *json_)
            nodes.push_back({element, *origin_, path_ + "[" + std::to_string(nodes.size()) + "]"});
        return nodes;
    }
    std::map<std::string, JsonNode> members() const {
        require(json_->is_object(), "an object");
        std::map<std::string, JsonNode> nodes;
        for (auto& [name, value] : json_->items()) nodes.emplace(name, member(name, value));
        return nodes;
    }

    // The place and the value: "messages[0].content is 7".
    std::string described() const { return place() + " is " + value_text(); }
    // Throws: the value is not what was expected.
    [[noreturn]] void expected(const std::string& what) const {
        throw Error(origin_->status, described() + ": expected " + what);
    }
    void require(bool ok, const char* what) const {
        if (!ok) expected(what);
    }
    [[noreturn]] void refuse(const std::string& what) const { throw Error(origin_->status, place() + ": " + what); }

  private:
    JsonNode(const Json& json, const JsonOrigin& origin, std::string path)
        : json_(&json), origin_(&origin), path_(std::move(path)) {}

    JsonNode member(const std::string& name, const Json& value) const {
        return {value, *origin_, path_.empty() ? name : path_ + "." + name};
    }
    std::string place() const { return path_.empty() ? origin_->root : origin_->prefix + printable(path_); }
    std::string value_text() const {
        return json_->is_object()  ? "an object"
               : json_->is_array() ? "an array"
                                   : printable(json_->dump(-1, ' ', false, Json::error_handler_t::replace));
    }

    const Json* json_;
    const JsonOrigin* origin_;
    std::string path_;
};

}  // namespace gptoss
