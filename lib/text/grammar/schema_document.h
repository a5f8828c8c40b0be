// A JSON schema document: where its references lead.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"

namespace gptoss::text {

using Json = nlohmann::ordered_json;

// nullptr where an object has no such member.
inline const Json* find(const Json& object, const char* name) {
    const auto member = object.find(name);
    return member == object.end() ? nullptr : &*member;
}

class SchemaDocument {
  public:
    // Throws InvalidArgument for text that is no schema.
    explicit SchemaDocument(std::string_view text);
    // Of a schema inside another document, which must live on.
    explicit SchemaDocument(const Json& root);

    const Json& root() const { return *root_; }
    // In drafts before 2019-09, a $ref hides all that stands beside it.
    bool ref_hides_siblings(const Json& schema) const { return place_of(schema).old_draft; }
    // Until draft 4, 1.0 is no integer.
    bool integers_have_no_point(const Json& schema) const { return place_of(schema).draft_4; }
    // Throws for a reference that leads nowhere in the document.
    const Json& follow(const Json& schema, const std::string& ref) const;

    // Both name the place of the value in the document, and refuse.
    [[noreturn]] void invalid(const Json& at, const std::string& what) const;
    [[noreturn]] void unsupported(const Json& at, const std::string& what) const;

  private:
    struct Place {
        const Json* resource;  // the closest schema around it with an identifier of its own, or the root
        std::string base;      // its identifier
        bool old_draft = false, draft_4 = false;
    };
    void scan(const Json& json, const Place& place, bool is_schema);
    const Place& place_of(const Json& schema) const;
    [[noreturn]] void fail(Status status, const Json& at, const std::string& what) const;

    std::unique_ptr<JsonRoot<Json>> owned_;
    const Json* root_;
    std::unordered_map<const Json*, Place> places_;
    std::unordered_map<std::string, const Json*> by_id_;
};

}  // namespace gptoss::text
