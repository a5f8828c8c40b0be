// JSON documents in a process that lives on where memory is short. The JSON library's destructors and some of its other
// functions that must not throw allocate, and end the process if that fails.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gptoss {

// Whether a value is that text. The library's == makes the text a value first.
template <typename Json>
bool is_text(const Json& json, std::string_view text) {
    return json.is_string() && json.template get_ref<const std::string&>() == text;
}

// What a document must not be, besides what is not JSON.
struct JsonRules {
    size_t max_depth = 128;    // of objects and arrays in each other; deeper ones would exhaust the stack
    bool unique_keys = false;  // else the last value of a key counts
};

// Owns a document. A destructor of the library allocates for a value that has children, so these go first, from the
// inside out; and a document is parsed into its owner, so that this holds for one that is never completed too.
template <typename Json>
class JsonRoot {
  public:
    // Calls refuse(const std::string& what_is_wrong), which throws, for text that is no such document.
    template <typename Refuse>
    JsonRoot(std::string_view text, JsonRules rules, const Refuse& refuse) {
        Builder<Refuse> builder{value_, rules, refuse};
        try {
            Json::sax_parse(text.begin(), text.end(), &builder);
        } catch (...) {
            take_apart(value_);
            throw;
        }
    }
    JsonRoot(JsonRoot&& other) noexcept : value_(std::move(other.value_)) {}
    JsonRoot& operator=(JsonRoot&&) = delete;
    ~JsonRoot() { take_apart(value_); }

    const Json& operator*() const { return value_; }

  private:
    // The library's parser calls these functions, by these names.
    template <typename Refuse>
    struct Builder {
        Json& root;
        const JsonRules rules;
        const Refuse& refuse;
        std::vector<Json*> open;  // objects and arrays, from the outside in
        Json* member = nullptr;   // of the innermost object, whose value comes next

        Json* add(Json value) {
            if (open.empty()) {
                root = std::move(value);
                return &root;
            }
            if (open.back()->is_array()) {
                open.back()->push_back(std::move(value));
                return &open.back()->back();
            }
            *member = std::move(value);
            return member;
        }
        bool begin(Json empty) {
            if (open.size() >= rules.max_depth) refuse("nested more than " + std::to_string(rules.max_depth) + " deep");
            open.push_back(add(std::move(empty)));
            return true;
        }
        bool end() {
            open.pop_back();
            return true;
        }

        bool null() { return add(nullptr); }
        bool boolean(bool value) { return add(value); }
        bool number_integer(typename Json::number_integer_t value) { return add(value); }
        bool number_unsigned(typename Json::number_unsigned_t value) { return add(value); }
        bool number_float(typename Json::number_float_t value, const std::string&) { return add(value); }
        bool string(std::string& value) { return add(std::move(value)); }
        bool binary(typename Json::binary_t&) { return false; }  // JSON has none
        bool start_object(size_t) { return begin(Json::object()); }
        bool start_array(size_t) { return begin(Json::array()); }
        bool end_object() { return end(); }
        bool end_array() { return end(); }
        bool key(std::string& name) {
            const size_t before = open.back()->size();
            member = &(*open.back())[name];
            if (open.back()->size() == before) {
                if (rules.unique_keys) refuse("key '" + name + "' appears twice");
                take_apart(*member);
            }
            return true;
        }
        bool parse_error(size_t, const std::string&, const typename Json::exception& error) {
            std::string_view what = error.what();  // "[json.exception.parse_error.101] parse error at line …"
            if (const size_t end = what.find("] "); end != what.npos) what.remove_prefix(end + 2);
            refuse("is not valid JSON: " + std::string(what));
            return false;
        }
    };

    static void take_apart(Json& json) noexcept {
        if (!json.is_structured()) return;
        for (Json& child : json) take_apart(child);
        json.clear();
    }

    Json value_;
};

}  // namespace gptoss
