#include "text/grammar/schema_shapes.h"

#include <algorithm>

#include "text/grammar/numbers.h"

namespace gptoss::text {

namespace {

constexpr size_t max_work = 300'000;
constexpr int max_depth = 3;
constexpr size_t max_open = 300;

// For as long as it lives, schemas count as not being expanded: a part of them is looked at, not they themselves.
class PartScope {
  public:
    PartScope(std::unordered_set<const Json*>& open, int& depth) : open_(open), depth_(depth) {
        open_.swap(outer_);
        ++depth_;
    }
    ~PartScope() {
        open_.swap(outer_);
        --depth_;
    }
    PartScope(const PartScope&) = delete;
    PartScope& operator=(const PartScope&) = delete;

  private:
    std::unordered_set<const Json*>& open_;
    std::unordered_set<const Json*> outer_;
    int& depth_;
};

}  // namespace

Shapes::Shapes(const SchemaDocument& document, RegexPool& pool)
    : document_(document),
      pool_(pool),
      any_string_(json_string(pool)),
      any_number_(json_number(pool)),
      decimal_(decimal_number(pool)) {
    condition({});
    condition({{Demand::Kind::Never}});
}

void Shapes::spend(size_t work) {
    work_ += work;
    if (work_ > max_work)
        document_.unsupported(at_ ? *at_ : document_.root(),
                              "so many combinations of alternatives; use fewer or simpler "
                              "anyOf, oneOf, allOf, not, if or dependencies");
}

Condition Shapes::condition(Demands demands) {
    Demands kept;
    for (Demand demand : demands) {
        // A reference stands for its target, so that recursion comes back to the same condition.
        for (int i = 0; demand.kind == Demand::Kind::Schema && i < 100; ++i) {
            const Json& json = *demand.json;
            const Json* ref = json.is_object() ? find(json, "$ref") : nullptr;
            if (!ref || !ref->is_string() || (json.size() > 1 && !document_.ref_hides_siblings(json))) break;
            demand.json = &document_.follow(json, ref->get_ref<const std::string&>());
        }
        if (demand.kind == Demand::Kind::Schema && (demand.json->is_boolean() || *demand.json == Json::object())) {
            const bool all = !demand.json->is_boolean() || demand.json->get<bool>();
            if (all != demand.negated) continue;
            demand = {Demand::Kind::Never};
        }
        if (demand.kind == Demand::Kind::Never) {
            if (demand.negated) continue;
            kept = {{Demand::Kind::Never}};
            break;
        }
        if (std::find(kept.begin(), kept.end(), demand) == kept.end()) kept.push_back(demand);
    }
    const auto [entry, is_new] = by_demands_.emplace(kept, static_cast<Condition>(demands_.size()));
    if (is_new) demands_.push_back(std::move(kept));
    return entry->second;
}

Condition Shapes::both(Condition a, Condition b) {
    if (a == b || b == anything) return a;
    if (a == anything) return b;
    Demands all = demands_[a];
    all.insert(all.end(), demands_[b].begin(), demands_[b].end());
    return condition(std::move(all));
}

std::vector<Condition> Shapes::negations(Condition of) {
    std::vector<Condition> ways;
    const Demands demands = demands_[of];
    for (Demand demand : demands) {
        demand.negated = !demand.negated;
        ways.push_back(condition({demand}));
    }
    return ways;
}

const Shape& Shapes::shape(Condition of) {
    if (const auto known = shapes_.find(of); known != shapes_.end()) return known->second;
    Shape shape = any();
    const Demands demands = demands_[of];
    for (const Demand& demand : demands) shape = meet(shape, expand(demand));
    return shapes_.emplace(of, std::move(shape)).first->second;
}

Shape Shapes::any() const {
    return {true, true, true, any_number_, any_string_, {ArrayShape{}}, {ObjectShape{{}, {{any_string_, anything}}}}};
}

Shape Shapes::expand(const Demand& demand) {
    Shape shape;
    if (demand.kind == Demand::Kind::Value) shape = of_value(*demand.json);
    if (demand.kind == Demand::Kind::Schema) shape = expand_schema(*demand.json);
    return demand.negated ? complement(shape) : shape;
}

Shape Shapes::expand_schema(const Json& schema) {
    if (schema.is_boolean()) return schema.get<bool>() ? any() : Shape{};
    if (!schema.is_object()) document_.invalid(schema, "a schema is an object, true or false");
    const Json* outer = at_;
    at_ = &schema;
    spend(1);
    if (open_.size() >= max_open)
        document_.unsupported(schema, "schemas and references that are within each other more than " +
                                          std::to_string(max_open) + " deep are not supported");
    if (!open_.insert(&schema).second) document_.invalid(schema, "this schema refers to itself without end");
    const auto expanded = [&](const Json& part) { return expand_schema(part); };
    const auto list = [&](const char* keyword) {
        const Json* parts = find(schema, keyword);
        if (parts && (!parts->is_array() || parts->empty()))
            document_.invalid(schema, std::string(keyword) + " is a list of schemas");
        return parts;
    };
    Shape shape;
    const Json* ref = find(schema, "$ref");
    if (ref && !ref->is_string()) document_.invalid(schema, "$ref is a string");
    if (ref && document_.ref_hides_siblings(schema)) {
        shape = expanded(document_.follow(schema, ref->get_ref<const std::string&>()));
    } else {
        refuse_unknown(schema);
        shape = of_types(schema);
        add_numbers(schema, shape);
        add_strings(schema, shape);
        add_arrays(schema, shape);
        add_objects(schema, shape);
        if (ref) shape = meet(shape, expanded(document_.follow(schema, ref->get_ref<const std::string&>())));
        if (const Json* parts = list("allOf"))
            for (const Json& part : *parts) shape = meet(shape, expanded(part));
        if (const Json* parts = list("anyOf")) {
            Shape ways;
            for (const Json& part : *parts) ways = join(std::move(ways), meet(shape, expanded(part)));
            shape = ways;
        }
        if (const Json* parts = list("oneOf")) shape = meet(shape, exactly_one(schema, *parts));
        if (const Json* part = find(schema, "not")) shape = meet(shape, complement(expanded(*part)));
        if (const Json* condition = find(schema, "if")) {
            const Json* then = find(schema, "then");
            const Json* otherwise = find(schema, "else");
            if (then || otherwise) {
                const Shape test = expanded(*condition);
                const Shape yes = then ? meet(test, expanded(*then)) : test;
                const Shape no = otherwise ? meet(complement(test), expanded(*otherwise)) : complement(test);
                shape = meet(shape, join(yes, no));
            }
        }
        add_dependencies(schema, shape);
    }
    open_.erase(&schema);
    at_ = outer;
    return shape;
}

void Shapes::refuse_unknown(const Json& schema) {
    for (const char* keyword : {"$dynamicRef", "$recursiveRef", "extends", "disallow", "divisibleBy"})
        if (find(schema, keyword)) document_.unsupported(schema, std::string(keyword) + " is not supported");
}

// Combinations of shapes by and, or and not.

Shape Shapes::meet(const Shape& a, const Shape& b) {
    Shape out;
    out.null = a.null && b.null;
    out.no = a.no && b.no;
    out.yes = a.yes && b.yes;
    const auto narrow = [&](RegexId x, RegexId y, RegexId any) {
        const RegexId both = x == any ? y : y == any ? x : pool_.both(x, y);
        return pool_.can_match(both) ? both : RegexPool::nothing;
    };
    out.number = narrow(a.number, b.number, any_number_);
    out.string = narrow(a.string, b.string, any_string_);
    spend(a.arrays.size() * b.arrays.size() + a.objects.size() * b.objects.size());
    for (const ArrayShape& x : a.arrays)
        for (const ArrayShape& y : b.arrays)
            if (ArrayShape both; meet(x, y, both)) out.arrays.push_back(std::move(both));
    for (const ObjectShape& x : a.objects)
        for (const ObjectShape& y : b.objects)
            if (ObjectShape both; meet(x, y, both)) out.objects.push_back(std::move(both));
    return out;
}

bool Shapes::meet(const ArrayShape& a, const ArrayShape& b, ArrayShape& out) {
    out.min = std::max(a.min, b.min);
    out.max = std::min(a.max, b.max);
    out.rest = both(a.rest, b.rest);
    const auto of = [](const ArrayShape& array, size_t i) {
        return i < array.first.size() ? array.first[i] : array.rest;
    };
    for (size_t i = 0; i < std::max(a.first.size(), b.first.size()); ++i) {
        out.first.push_back(both(of(a, i), of(b, i)));
        if (out.first.back() == never) {
            out.max = std::min(out.max, static_cast<uint32_t>(i));
            out.first.pop_back();
            break;
        }
    }
    if (out.rest == never) out.max = std::min(out.max, static_cast<uint32_t>(out.first.size()));
    if (a.some != anything && b.some != anything && a.some != b.some)
        document_.unsupported(at_ ? *at_ : document_.root(), "more than one contains is not supported");
    out.some = a.some != anything ? a.some : b.some;
    if (out.some != anything && (!out.first.empty() || out.min > 1 || out.max != RegexPool::unbounded))
        document_.unsupported(at_ ? *at_ : document_.root(),
                              "contains beside prefixItems, minItems or maxItems is not supported");
    return out.min <= out.max;
}

Condition Shapes::value_of(const ObjectShape& shape, const std::string& name, bool& is_named) {
    for (const ObjectShape::Property& property : shape.properties) {
        if (property.name != name) continue;
        is_named = property.required;
        return property.value;
    }
    is_named = false;
    for (const ObjectShape::Keys& keys : shape.others)
        if (keys.keys == any_string_ || pool_.matches(keys.keys, "\"" + json_escaped(name) + "\"")) return keys.value;
    return never;
}

bool Shapes::meet(const ObjectShape& a, const ObjectShape& b, ObjectShape& out) {
    out.min = std::max(a.min, b.min);
    out.max = std::min(a.max, b.max);
    spend(a.properties.size() * b.properties.size() / 64 + (a.properties.size() + b.properties.size()) / 16);
    std::unordered_set<std::string_view> named;
    bool possible = out.min <= out.max;
    const auto add = [&](const ObjectShape::Property& property, const ObjectShape& other, bool other_is_second) {
        bool required = false;
        const Condition second = value_of(other, property.name, required);
        const Condition value = other_is_second ? both(property.value, second) : both(second, property.value);
        out.properties.push_back({property.name, value, property.required || required});
        if (value == never && out.properties.back().required) possible = false;
    };
    for (const ObjectShape::Property& property : a.properties) {
        named.insert(property.name);
        add(property, b, true);
    }
    for (const ObjectShape::Property& property : b.properties)
        if (!named.contains(property.name)) add(property, a, false);
    for (const ObjectShape::Keys& x : a.others)
        for (const ObjectShape::Keys& y : b.others) {
            const RegexId keys = x.keys == any_string_   ? y.keys
                                 : y.keys == any_string_ ? x.keys
                                                         : pool_.both(x.keys, y.keys);
            const Condition value = both(x.value, y.value);
            if (value != never && pool_.can_match(keys)) out.others.push_back({keys, value});
        }
    return possible;
}

Shape Shapes::join(Shape a, const Shape& b) {
    a.null = a.null || b.null;
    a.no = a.no || b.no;
    a.yes = a.yes || b.yes;
    const auto widen = [&](RegexId x, RegexId y, RegexId any) {
        return x == any || y == any ? any : pool_.either({x, y});
    };
    a.number = widen(a.number, b.number, any_number_);
    a.string = widen(a.string, b.string, any_string_);
    // Each object is compared with all others, property by property.
    const size_t properties = b.objects.empty() ? 0 : b.objects[0].properties.size();
    spend(b.arrays.size() + b.objects.size() + a.objects.size() * b.objects.size() * (4 + properties) / 1024);
    for (const ArrayShape& array : b.arrays)
        if (std::find(a.arrays.begin(), a.arrays.end(), array) == a.arrays.end()) a.arrays.push_back(array);
    for (const ObjectShape& object : b.objects)
        if (std::find(a.objects.begin(), a.objects.end(), object) == a.objects.end()) a.objects.push_back(object);
    return a;
}

Shape Shapes::complement(const Shape& shape) {
    Shape out = any();
    out.null = !shape.null;
    out.no = !shape.no;
    out.yes = !shape.yes;
    const auto rest = [&](RegexId texts, RegexId any, RegexId one_spelling) {
        if (texts == RegexPool::nothing || texts == any) return texts == any ? RegexPool::nothing : any;
        const RegexId rest = pool_.without(one_spelling, texts);
        return pool_.can_match(rest) ? rest : RegexPool::nothing;
    };
    out.number = rest(shape.number, any_number_, decimal_);
    out.string = rest(shape.string, any_string_, any_string_);
    const auto narrow = [&](auto Shape::*kind) {
        for (const auto& alternative : shape.*kind) {
            Shape left, ways;
            left.*kind = std::move(out.*kind);
            ways.*kind = complement(alternative);
            out.*kind = std::move(meet(left, ways).*kind);
        }
    };
    narrow(&Shape::arrays);
    narrow(&Shape::objects);
    return out;
}

std::vector<ArrayShape> Shapes::complement(const ArrayShape& shape) {
    std::vector<ArrayShape> ways;
    const auto refuse = [&] {
        document_.unsupported(at_ ? *at_ : document_.root(),
                              "not, oneOf or if over the elements of such an array is not supported");
    };
    if (shape.min > 0) ways.push_back({{}, anything, 0, shape.min - 1});
    const uint32_t count = static_cast<uint32_t>(shape.first.size());
    if (shape.max != RegexPool::unbounded) ways.push_back({{}, anything, shape.max + 1});
    for (uint32_t i = 0; i < count; ++i)
        for (Condition unlike : negations(shape.first[i])) {
            ArrayShape way;
            way.first.assign(i, anything);
            way.first.push_back(unlike);
            way.min = i + 1;
            ways.push_back(std::move(way));
        }
    if (shape.rest != anything && shape.max > count) {
        if (count > 0) refuse();
        for (Condition unlike : negations(shape.rest)) {
            if (unlike == anything)
                ways.push_back({{}, anything, 1});
            else
                ways.push_back({{}, anything, 1, RegexPool::unbounded, unlike});
        }
    }
    if (shape.some != anything) {
        const std::vector<Condition> unlike = negations(shape.some);
        if (unlike.size() != 1) refuse();
        ways.push_back({{}, unlike[0]});
    }
    return ways;
}

std::vector<ObjectShape> Shapes::complement(const ObjectShape& shape) {
    std::vector<ObjectShape> ways;
    const ObjectShape all{{}, {{any_string_, anything}}};
    for (const ObjectShape::Property& property : shape.properties) {
        if (property.required) {
            ways.push_back(all);
            ways.back().properties.push_back({property.name, never, false});
        }
        for (Condition unlike : negations(property.value)) {
            if (unlike == never) continue;
            ways.push_back(all);
            ways.back().properties.push_back({property.name, unlike, true});
        }
    }
    const bool is_open =
        shape.others.size() == 1 && shape.others[0].keys == any_string_ && shape.others[0].value == anything;
    if (!is_open)
        document_.unsupported(at_ ? *at_ : document_.root(),
                              "not, oneOf or if over additionalProperties, "
                              "patternProperties or propertyNames is not supported");
    if (shape.min > 0) {
        ways.push_back(all);
        ways.back().max = shape.min - 1;
    }
    if (shape.max != RegexPool::unbounded) {
        ways.push_back(all);
        ways.back().min = shape.max + 1;
    }
    return ways;
}

// The shapes of the alternatives, each without what another one allows too.
Shape Shapes::exactly_one(const Json& schema, const Json& ways) {
    std::vector<Shape> shapes;
    for (const Json& way : ways) shapes.push_back(expand_schema(way));
    Shape out;
    for (size_t i = 0; i < shapes.size(); ++i) {
        Shape only = shapes[i];
        for (size_t j = 0; j < shapes.size(); ++j) {
            if (i == j || is_impossible(meet(only, shapes[j]))) continue;
            const auto rest = [&] {
                try {
                    return complement(shapes[j]);
                } catch (const Error& error) {
                    if (error.status() != Status::UnsupportedArgument) throw;
                    document_.unsupported(schema, "oneOf is not supported where alternatives " + std::to_string(i) +
                                                      " and " + std::to_string(j) +
                                                      " may both hold; use anyOf, or tell them apart by a property "
                                                      "that is required and constant");
                }
            }();
            only = meet(only, rest);
        }
        out = join(std::move(out), only);
    }
    return out;
}

bool Shapes::is_impossible(const Shape& shape) {
    if (shape.null || shape.no || shape.yes || shape.number != RegexPool::nothing || shape.string != RegexPool::nothing)
        return false;
    const auto impossible = [&](const ArrayShape& array) {
        for (uint32_t i = 0; i < array.min && i <= array.first.size(); ++i)
            if (is_impossible(i < array.first.size() ? array.first[i] : array.rest)) return true;
        return false;
    };
    if (!std::all_of(shape.arrays.begin(), shape.arrays.end(), impossible)) return false;
    return std::all_of(shape.objects.begin(), shape.objects.end(), [&](const ObjectShape& object) {
        return std::any_of(object.properties.begin(), object.properties.end(),
                           [&](const auto& property) { return property.required && is_impossible(property.value); });
    });
}

RegexId Shapes::allowed_names(const Json& names) {
    const PartScope scope(open_, depth_);
    return shape(condition_of(names)).string;
}

// false where it would take too long to find out.
bool Shapes::is_impossible(Condition of) {
    if (of == anything || of == never) return of == never;
    if (depth_ >= max_depth || demands_[of].size() < 2) return false;
    const PartScope scope(open_, depth_);
    const Json* outer = at_;
    try {
        return is_impossible(shape(of));
    } catch (const Error& error) {
        if (error.status() == Status::InsufficientResources) throw;
        at_ = outer;
        return false;
    }
}

}  // namespace gptoss::text
