// JSON schemas in normal form: the texts that a schema allows, type by type. Scalars are regular expressions; arrays
// and objects are lists of alternatives whose parts are conditions, worked out when they are asked for. In this form
// schemas can be combined by and, or and not.
#pragma once

#include <map>
#include <unordered_set>

#include "text/grammar/characters.h"
#include "text/grammar/schema_document.h"

namespace gptoss::text {

// One thing that a value must fulfil.
struct Demand {
    enum class Kind : uint8_t {
        Schema,  // json is a schema
        Value,   // the value equals json
        Never,
    };
    Kind kind;
    bool negated = false;
    const Json* json = nullptr;
    auto operator<=>(const Demand&) const = default;
};

// All of several demands; an id.
using Condition = uint32_t;
inline constexpr Condition anything = 0, never = 1;

struct ArrayShape {
    std::vector<Condition> first;  // of the first elements
    Condition rest = anything;     // of those behind them
    uint32_t min = 0, max = RegexPool::unbounded;
    Condition some = anything;  // that one element at least fulfils, where first is empty
    bool operator==(const ArrayShape&) const = default;
};

struct ObjectShape {
    struct Property {
        std::string name;
        Condition value;
        bool required;
        bool operator==(const Property&) const = default;
    };
    // All keys without a property of their own, in sets that are apart.
    struct Keys {
        RegexId keys;  // with quotes
        Condition value;
        bool operator==(const Keys&) const = default;
    };
    std::vector<Property> properties;
    std::vector<Keys> others;
    uint32_t min = 0, max = RegexPool::unbounded;
    bool operator==(const ObjectShape&) const = default;
};

struct Shape {
    bool null = false, no = false, yes = false;
    RegexId number = RegexPool::nothing, string = RegexPool::nothing;
    std::vector<ArrayShape> arrays;
    std::vector<ObjectShape> objects;

    bool is_empty() const {
        return !null && !no && !yes && number == RegexPool::nothing && string == RegexPool::nothing && arrays.empty() &&
               objects.empty();
    }
};

class Shapes {
  public:
    Shapes(const SchemaDocument& document, RegexPool& pool);

    Condition condition_of(const Json& schema) { return condition({{Demand::Kind::Schema, false, &schema}}); }
    const Shape& shape(Condition condition);
    Condition both(Condition a, Condition b);
    RegexId any_string() const { return any_string_; }
    RegexId any_number() const { return any_number_; }
    size_t num_conditions() const { return demands_.size(); }

  private:
    using Demands = std::vector<Demand>;

    Condition condition(Demands demands);
    // Each of the results alone means that the condition is not fulfilled.
    std::vector<Condition> negations(Condition condition);

    Shape any() const;
    Shape expand(const Demand& demand);
    Shape expand_schema(const Json& schema);
    Shape of_value(const Json& value);
    Shape of_types(const Json& schema);
    Shape of_enumeration(const Json& schema);
    RegexId allowed_names(const Json& names);
    void add_numbers(const Json& schema, Shape& shape);
    void add_strings(const Json& schema, Shape& shape);
    void add_arrays(const Json& schema, Shape& shape);
    void add_objects(const Json& schema, Shape& shape);
    void add_dependencies(const Json& schema, Shape& shape);
    void refuse_unknown(const Json& schema);
    Shape exactly_one(const Json& schema, const Json& ways);

    Shape meet(const Shape& a, const Shape& b);
    bool meet(const ArrayShape& a, const ArrayShape& b, ArrayShape& out);
    bool meet(const ObjectShape& a, const ObjectShape& b, ObjectShape& out);
    Shape join(Shape a, const Shape& b);
    Shape complement(const Shape& shape);
    std::vector<ArrayShape> complement(const ArrayShape& shape);
    std::vector<ObjectShape> complement(const ObjectShape& shape);
    Condition value_of(const ObjectShape& shape, const std::string& name, bool& is_named);
    bool is_impossible(const Shape& shape);
    bool is_impossible(Condition condition);
    void spend(size_t work);
    RegexId key_text(const std::string& name) { return pool_.literal("\"" + json_escaped(name) + "\""); }
    uint32_t count_of(const Json& schema, const char* keyword, uint32_t otherwise);

    const SchemaDocument& document_;
    RegexPool& pool_;
    const RegexId any_string_, any_number_, decimal_;
    std::vector<Demands> demands_;
    std::map<Demands, Condition> by_demands_;
    std::unordered_map<Condition, Shape> shapes_;
    std::unordered_set<const Json*> open_;  // schemas being expanded
    const Json* at_ = nullptr;              // the schema being expanded, for messages
    size_t work_ = 0;
    int depth_ = 0;  // of questions about parts while a whole is being expanded
};

}  // namespace gptoss::text
