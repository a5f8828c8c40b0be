#include "text/grammar/schema_document.h"

namespace gptoss::text {

namespace {

constexpr size_t max_depth = 256;

[[noreturn]] void not_json(const std::string& what) {
    throw Error(Status::InvalidArgument, "JSON schema: the text " + what);
}

// Puts a reference in place of the last part of a base identifier.
std::string resolve(const std::string& base, const std::string& ref) {
    if (ref.find("://") != ref.npos || ref.starts_with("urn:") || base.empty()) return ref;
    const size_t scheme = base.find("://");
    if (ref.starts_with('/')) {
        const size_t path = scheme == base.npos ? 0 : base.find('/', scheme + 3);
        return base.substr(0, path) + ref;
    }
    const size_t slash = base.rfind('/');
    const bool has_path = slash != base.npos && (scheme == base.npos || slash > scheme + 2);
    return (has_path ? base.substr(0, slash + 1) : scheme == base.npos ? "" : base + "/") + ref;
}

std::string without_fragment(const std::string& uri) { return uri.substr(0, uri.find('#')); }

std::string escaped(std::string key) {
    for (size_t i = 0; i < key.size(); ++i)
        if (key[i] == '~' || key[i] == '/') key.replace(i, 1, key[i] == '~' ? "~0" : "~1"), ++i;
    return key;
}

std::string unescaped(std::string_view part) {
    std::string out;
    for (size_t i = 0; i < part.size(); ++i) {
        if (part[i] == '%' && i + 2 < part.size()) {
            out += static_cast<char>(std::strtol(std::string(part.substr(i + 1, 2)).c_str(), nullptr, 16));
            i += 2;
        } else {
            out += part[i];
        }
    }
    for (size_t i = 0; (i = out.find('~', i)) != out.npos && i + 1 < out.size(); ++i)
        out.replace(i, 2, out[i + 1] == '1' ? "/" : "~");
    return out;
}

bool find_path(const Json& from, const Json& to, std::string& path) {
    if (&from == &to) return true;
    if (!from.is_structured()) return false;
    const size_t size = path.size();
    size_t index = 0;
    for (auto child = from.begin(); child != from.end(); ++child, ++index) {
        path += "/" + (from.is_object() ? escaped(child.key()) : std::to_string(index));
        if (find_path(*child, to, path)) return true;
        path.resize(size);
    }
    return false;
}

}  // namespace

SchemaDocument::SchemaDocument(std::string_view text)
    : owned_(std::make_unique<JsonRoot<Json>>(text, JsonRules{max_depth}, not_json)), root_(&**owned_) {
    scan(*root_, {root_, ""}, true);
}

SchemaDocument::SchemaDocument(const Json& root) : root_(&root) { scan(root, {root_, ""}, true); }

void SchemaDocument::scan(const Json& json, const Place& around, bool is_schema) {
    if (!json.is_structured()) return;
    Place place = around;
    if (json.is_object() && is_schema) {
        if (const auto draft = json.find("$schema"); draft != json.end() && draft->is_string()) {
            const std::string& uri = draft->get_ref<const std::string&>();
            for (const char* old : {"draft-03", "draft-04", "draft-06", "draft-07"})
                place.old_draft = place.old_draft || uri.find(old) != uri.npos;
            place.draft_4 = uri.find("draft-03") != uri.npos || uri.find("draft-04") != uri.npos;
        }
        const auto id = json.contains("$id") ? json.find("$id") : place.old_draft ? json.find("id") : json.end();
        const bool hidden = place.old_draft && json.contains("$ref");
        if (id != json.end() && id->is_string() && !hidden) {
            const std::string& name = id->get_ref<const std::string&>();
            const std::string uri = resolve(place.base, name);
            if (name.starts_with('#')) {
                by_id_.emplace(place.base + name, &json);
            } else {
                place.base = without_fragment(uri);
                place.resource = &json;
                by_id_.emplace(place.base, &json);
                if (uri.find('#') + 1 < uri.size()) by_id_.emplace(uri, &json);
            }
        }
        for (const char* anchor : {"$anchor", "$dynamicAnchor"})
            if (const auto found = json.find(anchor); found != json.end() && found->is_string())
                by_id_.emplace(place.base + "#" + found->get_ref<const std::string&>(), &json);
    }
    places_.emplace(&json, place);
    for (auto child = json.begin(); child != json.end(); ++child) {
        bool child_is_schema = true;
        if (json.is_object() && is_schema) {
            const std::string& key = child.key();
            if (key == "enum" || key == "const" || key == "default" || key == "examples") continue;
            // Members of these are named by the schema's author: "$id" may be a property.
            for (const char* names : {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
                if (key == names) child_is_schema = false;
        }
        scan(*child, place, child_is_schema);
    }
}

const SchemaDocument::Place& SchemaDocument::place_of(const Json& schema) const {
    const auto place = places_.find(&schema);
    return place == places_.end() ? places_.at(root_) : place->second;
}

const Json& SchemaDocument::follow(const Json& schema, const std::string& ref) const {
    const Place& from = place_of(schema);
    const Json* at = from.resource;
    std::string fragment = ref;
    if (!ref.starts_with('#')) {
        const std::string uri = resolve(from.base, ref);
        if (const auto exact = by_id_.find(uri); exact != by_id_.end()) return *exact->second;
        const auto found = by_id_.find(without_fragment(uri));
        if (found == by_id_.end())
            unsupported(schema, "$ref '" + ref +
                                    "' is not in the schema, and schemas elsewhere are not fetched: put it into $defs");
        at = found->second;
        fragment = uri.find('#') == uri.npos ? "" : uri.substr(uri.find('#'));
    }
    if (fragment.empty() || fragment == "#") return *at;
    if (!fragment.starts_with("#/")) {
        const auto found = by_id_.find(place_of(*at).base + fragment);
        if (found == by_id_.end()) invalid(schema, "$ref '" + ref + "' leads nowhere");
        return *found->second;
    }
    for (size_t begin = 2; begin <= fragment.size();) {
        const size_t end = std::min(fragment.find('/', begin), fragment.size());
        const std::string part = unescaped(std::string_view(fragment).substr(begin, end - begin));
        const Json* next = nullptr;
        if (at->is_object()) {
            if (const auto member = at->find(part); member != at->end()) next = &*member;
        } else if (at->is_array() && !part.empty() && part.size() < 9 &&
                   part.find_first_not_of("0123456789") == part.npos) {
            if (const size_t index = std::stoul(part); index < at->size()) next = &(*at)[index];
        }
        if (!next) invalid(schema, "$ref '" + ref + "' leads nowhere");
        at = next;
        begin = end + 1;
    }
    return *at;
}

void SchemaDocument::fail(Status status, const Json& at, const std::string& what) const {
    std::string path;
    find_path(*root_, at, path);
    throw Error(status, "JSON schema at '#" + path + "': " + what);
}

void SchemaDocument::invalid(const Json& at, const std::string& what) const { fail(Status::InvalidArgument, at, what); }
void SchemaDocument::unsupported(const Json& at, const std::string& what) const {
    fail(Status::UnsupportedArgument, at, what);
}

}  // namespace gptoss::text
