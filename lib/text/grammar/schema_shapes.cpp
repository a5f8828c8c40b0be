#include "text/grammar/schema_shapes.h"

#include <algorithm>
#include <cmath>

#include "text/grammar/formats.h"
#include "text/grammar/numbers.h"
#include "text/grammar/regex_syntax.h"

namespace gptoss::text {

namespace {

constexpr size_t max_work = 300'000;
constexpr int max_depth = 3;

const Json* find(const Json& schema, const char* keyword) {
    const auto member = schema.find(keyword);
    return member == schema.end() ? nullptr : &*member;
}

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

// ------------------------------------------------------------------------------------------------------- type by type

Shape Shapes::of_value(const Json& value) {
    Shape shape;
    switch (value.type()) {
        case Json::value_t::null:
            shape.null = true;
            break;
        case Json::value_t::boolean:
            (value.get<bool>() ? shape.yes : shape.no) = true;
            break;
        case Json::value_t::string:
            shape.string = key_text(value.get_ref<const std::string&>());
            break;
        case Json::value_t::array: {
            ArrayShape array;
            for (const Json& element : value)
                array.first.push_back(condition({{Demand::Kind::Value, false, &element}}));
            array.min = array.max = static_cast<uint32_t>(value.size());
            shape.arrays.push_back(std::move(array));
            break;
        }
        case Json::value_t::object: {
            ObjectShape object;
            for (auto member = value.begin(); member != value.end(); ++member)
                object.properties.push_back({member.key(), condition({{Demand::Kind::Value, false, &*member}}), true});
            shape.objects.push_back(std::move(object));
            break;
        }
        default: {
            const Bound bound{value.dump()};
            shape.number = number_range(pool_, bound, bound);
            break;
        }
    }
    return shape;
}

Shape Shapes::of_enumeration(const Json& schema) {
    Shape all;
    std::vector<std::string> strings;
    std::vector<RegexId> numbers;
    if (!find(schema, "enum")->is_array()) document_.invalid(schema, "enum is a list of values");
    for (const Json& value : *find(schema, "enum")) {
        if (value.is_string()) {
            strings.push_back("\"" + json_escaped(value.get_ref<const std::string&>()) + "\"");
            continue;
        }
        Shape one = of_value(value);
        numbers.push_back(one.number);
        one.number = RegexPool::nothing;
        all = join(std::move(all), one);
    }
    all.string = pool_.literals(std::move(strings));
    all.number = pool_.either(std::move(numbers));
    return all;
}

Shape Shapes::of_types(const Json& schema) {
    Shape shape = any();
    if (const Json* types = find(schema, "type")) {
        const Shape all = std::move(shape);
        shape = {};
        const auto add = [&](const Json& type) {
            const std::string name = type.is_string() ? type.get<std::string>() : "";
            if (name == "null") {
                shape.null = true;
            } else if (name == "boolean") {
                shape.no = shape.yes = true;
            } else if (name == "number") {
                shape.number = any_number_;
            } else if (name == "integer") {
                if (shape.number == RegexPool::nothing)
                    shape.number = integer(pool_, !document_.integers_have_no_point(schema));
            } else if (name == "string") {
                shape.string = any_string_;
            } else if (name == "array") {
                shape.arrays = all.arrays;
            } else if (name == "object") {
                shape.objects = all.objects;
            } else {
                document_.invalid(schema, "type " + type.dump() +
                                              " is none of null, boolean, number, integer, string, "
                                              "array and object");
            }
        };
        if (types->is_array())
            for (const Json& type : *types) add(type);
        else
            add(*types);
    }
    if (find(schema, "enum")) shape = meet(shape, of_enumeration(schema));
    if (const Json* value = find(schema, "const")) shape = meet(shape, of_value(*value));
    return shape;
}

uint32_t Shapes::count_of(const Json& schema, const char* keyword, uint32_t otherwise) {
    const Json* value = find(schema, keyword);
    if (!value) return otherwise;
    if (!value->is_number() || value->get<double>() < 0 || value->get<double>() != std::floor(value->get<double>()))
        document_.invalid(schema, std::string(keyword) + " is a whole number, 0 or more");
    return static_cast<uint32_t>(std::min(value->get<double>(), 4e9));
}

void Shapes::add_numbers(const Json& schema, Shape& shape) {
    if (shape.number == RegexPool::nothing) return;
    const auto narrow = [&](RegexId numbers) {
        shape.number = shape.number == any_number_ ? numbers : pool_.both(shape.number, numbers);
        if (!pool_.can_match(shape.number)) shape.number = RegexPool::nothing;
    };
    const auto bound = [&](const char* inclusive, const char* exclusive) {
        std::vector<Bound> bounds;
        const Json* value = find(schema, inclusive);
        const Json* strict = find(schema, exclusive);
        const bool is_strict = strict && strict->is_boolean() && strict->get<bool>();  // draft 4
        for (const Json* number : {value, strict}) {
            if (!number || number->is_boolean()) continue;
            if (!number->is_number())
                document_.invalid(schema, std::string(number == value ? inclusive : exclusive) + " is a number");
            bounds.push_back({number->dump(), number == strict || is_strict});
        }
        return bounds;
    };
    for (const Bound& min : bound("minimum", "exclusiveMinimum")) narrow(number_range(pool_, min, std::nullopt));
    for (const Bound& max : bound("maximum", "exclusiveMaximum")) narrow(number_range(pool_, std::nullopt, max));
    if (const Json* of = find(schema, "multipleOf")) {
        if (!of->is_number() || of->get<double>() <= 0) document_.invalid(schema, "multipleOf is a number above 0");
        const std::optional<RegexId> multiples = number_multiple(pool_, of->dump());
        if (!multiples) document_.unsupported(schema, "multipleOf with more than 17 digits is not supported");
        narrow(*multiples);
    }
}

void Shapes::add_strings(const Json& schema, Shape& shape) {
    if (shape.string == RegexPool::nothing) return;
    const auto narrow = [&](RegexId strings) {
        shape.string = shape.string == any_string_ ? strings : pool_.both(shape.string, strings);
        if (!pool_.can_match(shape.string)) shape.string = RegexPool::nothing;
    };
    const auto expression = [&](std::string_view text, Anchoring anchoring) {
        const RegexId content = [&] {
            try {
                return parse_regex(pool_, text, anchoring, Encoding::JsonString);
            } catch (const Error& error) {
                if (error.status() == Status::InsufficientResources) throw;
                document_.unsupported(schema, std::string("pattern: ") + error.what());
            }
        }();
        return pool_.concat({pool_.literal("\""), content, pool_.literal("\"")});
    };
    const uint32_t min = count_of(schema, "minLength", 0);
    const uint32_t max = count_of(schema, "maxLength", RegexPool::unbounded);
    if (min > max) {
        shape.string = RegexPool::nothing;
        return;
    }
    if (min > 0 || max != RegexPool::unbounded) narrow(json_string(pool_, min, max));
    if (const Json* pattern = find(schema, "pattern")) {
        if (!pattern->is_string()) document_.invalid(schema, "pattern is a string");
        narrow(expression(pattern->get_ref<const std::string&>(), Anchoring::Search));
    }
    if (const Json* name = find(schema, "format")) {
        if (!name->is_string()) document_.invalid(schema, "format is a string");
        const std::string& text = name->get_ref<const std::string&>();
        const Format* format = find_format(text);
        if (!format && !is_annotation(text))
            document_.unsupported(schema, "format '" + text + "' is not supported; use pattern");
        if (format) narrow(expression(format->regex, Anchoring::Whole));
        if (format && format->max_length > 0) narrow(json_string(pool_, 0, format->max_length));
    }
}

void Shapes::add_arrays(const Json& schema, Shape& shape) {
    if (shape.arrays.empty()) return;
    ArrayShape array;
    const Json* items = find(schema, "items");
    const Json* first = find(schema, "prefixItems");
    const Json* rest = items;
    if (!first && items && items->is_array()) {  // before 2020-12
        first = items;
        rest = find(schema, "additionalItems");
    }
    if (first) {
        if (!first->is_array()) document_.invalid(schema, "prefixItems is a list of schemas");
        for (const Json& item : *first) array.first.push_back(condition_of(item));
    }
    const bool is_plain = !find(schema, "$ref") && !find(schema, "allOf") && !find(schema, "anyOf") &&
                          !find(schema, "oneOf") && !find(schema, "if") && !find(schema, "contains");
    if (const Json* unevaluated = find(schema, "unevaluatedItems");
        unevaluated && !rest && !(unevaluated->is_boolean() && unevaluated->get<bool>())) {
        if (!is_plain) document_.unsupported(schema, "unevaluatedItems beside other schemas is not supported");
        rest = unevaluated;
    }
    if (rest) array.rest = condition_of(*rest);
    array.min = count_of(schema, "minItems", 0);
    array.max = count_of(schema, "maxItems", RegexPool::unbounded);
    if (array.rest == never) array.max = std::min(array.max, static_cast<uint32_t>(array.first.size()));
    for (uint32_t i = 0; i < array.first.size(); ++i)
        if (array.first[i] == never) array.max = std::min(array.max, i);
    const Json* unique = find(schema, "uniqueItems");
    if (unique && unique->is_boolean() && unique->get<bool>() && array.max > 1)
        document_.unsupported(schema, "uniqueItems is not supported");
    if (const Json* contains = find(schema, "contains")) {
        const uint32_t at_least = count_of(schema, "minContains", 1);
        if (at_least > 1 || find(schema, "maxContains"))
            document_.unsupported(schema, "minContains above 1 and maxContains are not supported");
        if (at_least == 1) {
            ArrayShape some;
            some.some = condition_of(*contains);
            some.min = 1;
            ArrayShape both;
            if (some.some == never) array.min = 1, array.max = 0;
            if (meet(array, some, both)) array = both;
        }
    }
    std::vector<ArrayShape> arrays;
    for (const ArrayShape& old : shape.arrays) {
        ArrayShape both;
        if (array.min <= array.max && meet(old, array, both)) arrays.push_back(std::move(both));
    }
    shape.arrays = std::move(arrays);
}

void Shapes::add_objects(const Json& schema, Shape& shape) {
    if (shape.objects.empty()) return;
    const auto object_of = [&](const char* keyword) {
        const Json* value = find(schema, keyword);
        if (value && !value->is_object()) document_.invalid(schema, std::string(keyword) + " is an object");
        return value;
    };
    struct Part {
        RegexId keys;
        Condition value;
        bool matched;
    };
    std::vector<Part> parts = {{any_string_, anything, false}};
    ObjectShape object;
    if (const Json* patterns = object_of("patternProperties")) {
        for (auto pattern = patterns->begin(); pattern != patterns->end(); ++pattern) {
            RegexId keys;
            try {
                keys = parse_regex(pool_, pattern.key(), Anchoring::Search, Encoding::JsonString);
            } catch (const Error& error) {
                if (error.status() == Status::InsufficientResources) throw;
                document_.unsupported(schema, std::string("patternProperties: ") + error.what());
            }
            keys = pool_.concat({pool_.literal("\""), keys, pool_.literal("\"")});
            const Condition value = condition_of(*pattern);
            std::vector<Part> finer;
            for (const Part& part : parts) {
                spend(1);
                const RegexId in = part.keys == any_string_ ? keys : pool_.both(part.keys, keys);
                const RegexId out = pool_.without(part.keys, keys);
                if (pool_.can_match(in)) finer.push_back({in, both(part.value, value), true});
                if (pool_.can_match(out)) finer.push_back({out, part.value, part.matched});
            }
            parts = std::move(finer);
        }
    }
    const bool is_plain = !find(schema, "$ref") && !find(schema, "allOf") && !find(schema, "anyOf") &&
                          !find(schema, "oneOf") && !find(schema, "if") && !find(schema, "dependentSchemas");
    const Json* additional = find(schema, "additionalProperties");
    if (const Json* unevaluated = find(schema, "unevaluatedProperties");
        unevaluated && !additional && !(unevaluated->is_boolean() && unevaluated->get<bool>())) {
        if (!is_plain) document_.unsupported(schema, "unevaluatedProperties beside other schemas is not supported");
        additional = unevaluated;
    }
    // For keys with a schema of their own, the patterns count and the additional properties do not.
    const auto pattern_value = [&](const std::string& name) {
        for (const Part& part : parts)
            if (part.keys == any_string_ || pool_.matches(part.keys, "\"" + json_escaped(name) + "\"")) return part;
        return Part{RegexPool::nothing, never, false};
    };
    if (const Json* properties = object_of("properties"))
        for (auto property = properties->begin(); property != properties->end(); ++property)
            object.properties.push_back(
                {property.key(), both(condition_of(*property), pattern_value(property.key()).value), false});
    const Condition otherwise = additional ? condition_of(*additional) : anything;
    if (const Json* required = find(schema, "required"); required && !required->is_boolean()) {
        if (!required->is_array()) document_.invalid(schema, "required is a list of names");
        std::unordered_map<std::string_view, size_t> index;
        for (size_t i = 0; i < object.properties.size(); ++i) index.emplace(object.properties[i].name, i);
        std::vector<ObjectShape::Property> more;
        for (const Json& name : *required) {
            if (!name.is_string()) document_.invalid(schema, "required is a list of names");
            const std::string& text = name.get_ref<const std::string&>();
            if (const auto found = index.find(text); found != index.end()) {
                if (found->second < object.properties.size()) object.properties[found->second].required = true;
                continue;
            }
            index.emplace(text, object.properties.size() + more.size());
            const Part part = pattern_value(text);
            more.push_back({text, part.matched ? part.value : otherwise, true});
        }
        object.properties.insert(object.properties.end(), more.begin(), more.end());
    }
    for (const Part& part : parts) {
        const Condition value = part.matched ? part.value : otherwise;
        if (value != never) object.others.push_back({part.keys, value});
    }
    object.min = count_of(schema, "minProperties", 0);
    object.max = count_of(schema, "maxProperties", RegexPool::unbounded);
    if (const Json* names = find(schema, "propertyNames")) {
        const RegexId allowed = [&] {
            const PartScope scope(open_, depth_);
            return shape_of_names(*names);
        }();
        if (allowed != any_string_) {
            for (ObjectShape::Property& property : object.properties)
                if (!pool_.matches(allowed, "\"" + json_escaped(property.name) + "\"")) property.value = never;
            for (ObjectShape::Keys& keys : object.others)
                keys.keys = keys.keys == any_string_ ? allowed : pool_.both(keys.keys, allowed);
            std::erase_if(object.others, [&](const auto& keys) { return !pool_.can_match(keys.keys); });
        }
    }
    for (const ObjectShape::Property& property : object.properties)
        if (property.required && property.value == never) object.min = 1, object.max = 0;
    std::vector<ObjectShape> objects;
    for (const ObjectShape& old : shape.objects) {
        ObjectShape both;
        if (object.min <= object.max && meet(old, object, both)) objects.push_back(std::move(both));
    }
    shape.objects = std::move(objects);
}

RegexId Shapes::shape_of_names(const Json& names) { return shape(condition_of(names)).string; }

// Without the property, or with it and all that depends on it.
void Shapes::add_dependencies(const Json& schema, Shape& shape) {
    for (const char* keyword : {"dependencies", "dependentRequired", "dependentSchemas"}) {
        const Json* all = find(schema, keyword);
        if (!all) continue;
        if (!all->is_object()) document_.invalid(schema, std::string(keyword) + " is an object");
        for (auto entry = all->begin(); entry != all->end(); ++entry) {
            Shape without = any(), with;
            without.objects[0].properties.push_back({entry.key(), never, false});
            with.objects = any().objects;
            with.objects[0].properties.push_back({entry.key(), anything, true});
            if (entry->is_array()) {
                for (const Json& name : *entry)
                    if (name.is_string() && name != entry.key())
                        with.objects[0].properties.push_back({name.get<std::string>(), anything, true});
            } else {
                with = meet(with, expand_schema(*entry));
            }
            shape = meet(shape, join(std::move(without), with));
        }
    }
}

// -------------------------------------------------------------------------------------------------------- and, or, not

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
    spend(a.properties.size() * b.properties.size() / 64);
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
    spend(b.arrays.size() + b.objects.size());
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
    for (const ArrayShape& array : shape.arrays) {
        Shape ways;
        ways.arrays = complement(array);
        Shape left;
        left.arrays = std::move(out.arrays);
        out.arrays = meet(left, ways).arrays;
    }
    for (const ObjectShape& object : shape.objects) {
        Shape ways;
        ways.objects = complement(object);
        Shape left;
        left.objects = std::move(out.objects);
        out.objects = meet(left, ways).objects;
    }
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
