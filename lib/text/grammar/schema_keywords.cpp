// What each keyword of a JSON schema says about each type.
#include <algorithm>
#include <cmath>

#include "text/grammar/formats.h"
#include "text/grammar/numbers.h"
#include "text/grammar/regex_syntax.h"
#include "text/grammar/schema_shapes.h"

namespace gptoss::text {

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
        const RegexId allowed = allowed_names(*names);
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

}  // namespace gptoss::text
