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

// Owns a document, or a part of one that is being parsed. A destructor of the library allocates for a value that has
// children, so these go first, from the inside out.
template <typename Json>
class JsonRoot {
  public:
    // Calls refuse(const std::string& what_is_wrong), which throws, for text that is no such document.
    template <typename Refuse>
    JsonRoot(std::string_view text, JsonRules rules, const Refuse& refuse) {
        Builder<Refuse> builder{value_, rules, refuse};
        Json::sax_parse(text.begin(), text.end(), &builder);
    }
    JsonRoot(JsonRoot&& other) noexcept : value_(std::move(other.value_)) {}
    JsonRoot& operator=(JsonRoot&&) = delete;
    ~JsonRoot() { take_apart(value_); }

    const Json& operator*() const { return value_; }

  private:
    explicit JsonRoot(Json&& value) noexcept : value_(std::move(value)) {}

    // The library's parser calls the functions of a JSON builder, by these names. Objects of ordered members copy them
    // as they grow, and destroy the copies, so an object or an array is made once all that is in it is there.
    template <typename Refuse>
    struct Builder {
        struct Open {
            std::vector<std::pair<std::string, JsonRoot>> items;  // an array's have no names
            std::string name;                                     // of the member whose value comes next
        };
        Json& root;
        const JsonRules rules;
        const Refuse& refuse;
        std::vector<Open> open;  // objects and arrays, from the outside in

        bool add(Json&& value) {
            JsonRoot owner(std::move(value));
            if (open.empty())
                root = std::move(owner.value_);
            else
                open.back().items.emplace_back(std::move(open.back().name), std::move(owner));
            return true;
        }
        bool begin() {
            if (open.size() >= rules.max_depth)
                refuse("is nested more than " + std::to_string(rules.max_depth) + " deep");
            open.emplace_back();
            return true;
        }
        bool end_object() {
            JsonRoot made(Json::object());
            auto& members = made.value_.template get_ref<typename Json::object_t&>();
            join_equal_names(open.back().items);
            if constexpr (requires { members.reserve(0); }) members.reserve(open.back().items.size());
            for (auto& [name, value] : open.back().items) {
                // An object of ordered members looks each name up in all before it, unless they are its vector's.
                // The place comes first, in a statement of its own: if that fails, the value is still its owner's.
                Json* place;
                if constexpr (requires { members.emplace_back(std::string(), nullptr); })
                    place = &members.emplace_back(std::move(name), nullptr).second;
                else
                    place = &members.emplace(std::move(name), nullptr).first->second;
                *place = std::move(value.value_);
            }
            open.pop_back();
            return add(std::move(made.value_));
        }
        // A name that comes again keeps its first place and its last value.
        void join_equal_names(std::vector<std::pair<std::string, JsonRoot>>& items) const {
            std::vector<size_t> order(items.size());
            for (size_t i = 0; i < order.size(); i++) order[i] = i;
            std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
                return items[a].first != items[b].first ? items[a].first < items[b].first : a < b;
            });
            std::vector<bool> again(items.size());
            size_t first = 0;  // in order: of the items of one name
            for (size_t i = 1; i < order.size(); i++) {
                auto &kept = items[order[first]], &item = items[order[i]];
                if (kept.first != item.first) {
                    first = i;
                    continue;
                }
                if (rules.unique_keys) refuse("key '" + item.first + "' appears twice");
                std::swap(kept.second.value_, item.second.value_);
                again[order[i]] = true;
            }
            size_t left = 0;
            for (size_t i = 0; i < items.size(); i++) {
                if (again[i]) continue;
                if (left != i) {
                    items[left].first = std::move(items[i].first);
                    std::swap(items[left].second.value_, items[i].second.value_);
                }
                left++;
            }
            while (items.size() > left) items.pop_back();
        }
        bool end_array() {
            JsonRoot made(Json::array());
            auto& elements = made.value_.template get_ref<typename Json::array_t&>();
            elements.reserve(open.back().items.size());
            for (auto& [name, value] : open.back().items) elements.push_back(std::move(value.value_));
            open.pop_back();
            return add(std::move(made.value_));
        }

        bool null() { return add(nullptr); }
        bool boolean(bool value) { return add(value); }
        bool number_integer(typename Json::number_integer_t value) { return add(value); }
        bool number_unsigned(typename Json::number_unsigned_t value) { return add(value); }
        bool number_float(typename Json::number_float_t value, const std::string&) { return add(value); }
        bool string(std::string& value) { return add(std::move(value)); }
        bool binary(typename Json::binary_t&) { return false; }  // JSON has none
        bool start_object(size_t) { return begin(); }
        bool start_array(size_t) { return begin(); }
        bool key(std::string& name) {
            open.back().name = std::move(name);
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
