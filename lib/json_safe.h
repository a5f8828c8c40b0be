// What the JSON library does by functions that must not throw and yet allocate, without that: they end the process
// where memory is short.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace gptoss {

// Whether a value is that text. The library's == makes the text a value first.
template <typename Json>
bool is_text(const Json& json, std::string_view text) {
    return json.is_string() && json.template get_ref<const std::string&>() == text;
}

// Owns a parsed document. The library's destructor allocates, but not for a value whose children are gone: these go
// first, from the inside out.
template <typename Json>
class JsonRoot {
  public:
    JsonRoot(Json value) : value_(std::move(value)) {}
    JsonRoot(const JsonRoot&) = delete;
    JsonRoot& operator=(const JsonRoot&) = delete;
    ~JsonRoot() { take_apart(value_, 0); }

    const Json& operator*() const { return value_; }

  private:
    static constexpr int kDeepest = 1000;  // what is nested deeper than any real document is left to the library

    static void take_apart(Json& json, int depth) noexcept {
        if (!json.is_structured() || depth == kDeepest) return;
        for (Json& child : json) take_apart(child, depth + 1);
        json.clear();
    }

    Json value_;
};

}  // namespace gptoss
