#include "text/grammar/json_schema.h"

#include <algorithm>

#include "text/grammar/schema_shapes.h"

namespace gptoss::text {

namespace {

constexpr uint32_t longest_indentation = 120;
constexpr size_t max_states = 200'000;  // of an object with counted properties

class Emitter {
  public:
    Emitter(Program& program, const SchemaDocument& document)
        : program_(program),
          pool_(program.pool),
          document_(document),
          shapes_(document, program.pool),
          space_(space(program.pool)) {
        colon_ = pool_.concat(pool_.literal(":"), space_);
        comma_ = pool_.concat(pool_.literal(","), space_);
    }

    uint32_t emit() {
        const uint32_t first = rule_of(shapes_.condition_of(document_.root()));
        while (!open_.empty()) {
            const Condition condition = open_.back();
            open_.pop_back();
            const Address begin = emit(shapes_.shape(condition));
            program_.rules[rules_.at(condition)] = begin;
        }
        return first;
    }

  private:
    static RegexId space(RegexPool& pool) {
        ByteSet blank;
        blank.add(' '), blank.add('\t');
        const RegexId line = pool.concat({pool.optional(pool.literal("\r")), pool.literal("\n"),
                                          pool.repeat(pool.bytes(blank), 0, longest_indentation)});
        return pool.optional(pool.either({pool.literal(" "), line}));
    }

    uint32_t rule_of(Condition condition) {
        const auto [entry, is_new] = rules_.emplace(condition, 0);
        if (is_new) {
            entry->second = program_.add_rule();
            open_.push_back(condition);
        }
        return entry->second;
    }

    Address value(Condition condition, Address next) { return program_.call(rule_of(condition), next); }

    Address emit(const Shape& shape) {
        std::vector<Address> ways;
        const auto add = [&](RegexId regex) {
            if (regex != RegexPool::nothing) ways.push_back(program_.match(regex, Program::return_address));
        };
        if (shape.null) add(pool_.literal("null"));
        if (shape.no) add(pool_.literal("false"));
        if (shape.yes) add(pool_.literal("true"));
        add(shape.number);
        add(shape.string);
        for (const ArrayShape& array : shape.arrays) ways.push_back(emit(array));
        for (const ObjectShape& object : shape.objects) ways.push_back(emit(object));
        return program_.split(ways);
    }

    Address emit(const ArrayShape& array) {
        const Address close = program_.match(pool_.concat(space_, pool_.literal("]")), Program::return_address);
        const auto item = [&](Condition condition, Address next) {
            return program_.match(comma_, value(condition, next));
        };
        if (array.some != anything) {
            // Elements, then one that fulfils the condition, then elements.
            const Address behind =
                program_.loop(item(array.rest, Program::return_address), 0, RegexPool::unbounded, close);
            const uint32_t both = rule_of(shapes_.both(array.rest, array.some));
            const Address found = program_.call(both, behind);
            const Address before = program_.loop(value(array.rest, program_.match(comma_, Program::return_address)), 0,
                                                 RegexPool::unbounded, found);
            return program_.match(pool_.literal("["), program_.match(space_, before));
        }
        const uint32_t count = static_cast<uint32_t>(array.first.size());
        const auto left = [&](uint32_t of, uint32_t done) {
            return of == RegexPool::unbounded ? of : of - std::min(of, done);
        };
        // From the last element to the first; an array may end wherever its minimum is reached.
        const uint32_t fixed = std::min(std::max(count, 1u), array.max);
        Address behind = close;
        if (array.max > fixed)
            behind = program_.loop(item(array.rest, Program::return_address), left(array.min, fixed),
                                   left(array.max, fixed), close);
        else if (fixed < array.min)
            behind = program_.split({});
        for (uint32_t i = fixed; i-- > 0;) {
            const Condition condition = i < count ? array.first[i] : array.rest;
            std::vector<Address> ways;
            if (i > 0)
                ways.push_back(item(condition, behind));
            else
                ways.push_back(program_.match(space_, value(condition, behind)));
            if (i >= array.min) ways.push_back(close);
            behind = program_.split(ways);
        }
        return program_.match(pool_.literal("["), behind);
    }

    // How many properties an object has, as far as its bounds depend on it: towards the minimum, keys that no property
    // is named after count once, as they may repeat.
    struct Count {
        uint32_t sure = 0, all = 0;
        bool has_other = false;
        auto operator<=>(const Count&) const = default;
    };

    class ObjectEmitter {
      public:
        ObjectEmitter(Emitter& outer, const ObjectShape& object)
            : outer_(outer), program_(outer.program_), pool_(outer.pool_), object_(object) {
            std::vector<std::string> names;
            for (const ObjectShape::Property& property : object.properties)
                names.push_back("\"" + json_escaped(property.name) + "\"");
            named_ = pool_.literals(std::move(names));
            for (size_t i = 0; i < object.properties.size(); ++i)
                if (object.properties[i].required) last_required_ = i + 1;
        }

        Address emit() {
            close_ = program_.match(pool_.concat(outer_.space_, pool_.literal("}")), Program::return_address);
            // What can follow once all named properties are past, then each of them, from the last to the first.
            std::vector<Count> counts = {{}};
            std::vector<std::vector<Count>> reachable;
            for (const ObjectShape::Property& property : object_.properties) {
                reachable.push_back(counts);
                std::vector<Count> next;
                for (const Count& count : counts) {
                    if (!property.required) next.push_back(count);
                    if (property.value != never) next.push_back(with_named(count));
                }
                sort_unique(next);
                counts = std::move(next);
                states_ += counts.size();
                if (states_ > max_states)
                    outer_.document_.unsupported(outer_.document_.root(),
                                                 "minProperties or maxProperties of an object with so many properties "
                                                 "is not supported");
            }
            reachable.push_back(counts);
            std::map<Count, Address> behind, key;  // by what came so far: behind a value, and where a key must come
            for (const Count& count : counts) {
                key[count] = other_key(count);
                behind[count] = behind_other(count);
            }
            for (size_t i = object_.properties.size(); i-- > 0;) {
                std::map<Count, Address> behind_now, key_now;
                for (const Count& count : reachable[i]) {
                    const ObjectShape::Property& property = object_.properties[i];
                    std::vector<Address> ways;
                    if (property.value != never && count.all < object_.max)
                        ways.push_back(named(property, behind.at(with_named(count))));
                    if (!property.required) ways.push_back(key.at(count));
                    key_now[count] = program_.split(ways);
                    std::vector<Address> ends = {program_.match(outer_.comma_, key_now[count])};
                    if (i >= last_required_ && count.sure >= object_.min) ends.push_back(close_);
                    behind_now[count] = program_.split(ends);
                }
                key = std::move(key_now);
                behind = std::move(behind_now);
            }
            std::vector<Address> ways = {program_.match(outer_.space_, key.at({}))};
            if (last_required_ == 0 && object_.min == 0) ways.push_back(close_);
            return program_.match(pool_.literal("{"), program_.split(ways));
        }

      private:
        static void sort_unique(std::vector<Count>& counts) {
            std::sort(counts.begin(), counts.end());
            counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
        }
        Count with_named(Count count) const {
            count.sure = std::min(count.sure + 1, object_.min);
            if (object_.max != RegexPool::unbounded) count.all = std::min(count.all + 1, object_.max);
            return count;
        }
        Count with_other(Count count) const {
            if (!count.has_other) count.sure = std::min(count.sure + 1, object_.min);
            if (object_.max != RegexPool::unbounded) count.all = std::min(count.all + 1, object_.max);
            count.has_other = true;
            return count;
        }

        Address named(const ObjectShape::Property& property, Address next) {
            const RegexId text = pool_.literal("\"" + json_escaped(property.name) + "\"", outer_.colon_);
            return program_.match(text, outer_.value(property.value, next));
        }

        // Where a key must come that no property is named after.
        Address other_key(const Count& count) {
            if (object_.others.empty() || count.all >= object_.max) return program_.split({});
            if (const auto known = other_keys_.find(count); known != other_keys_.end()) return known->second;
            const Address hole = program_.split({0, 0});  // other keys may follow each other: filled in below
            other_keys_[count] = hole;
            const Address next = behind_other(with_other(count));
            std::vector<Address> ways;
            for (const ObjectShape::Keys& keys : object_.others) {
                const RegexId texts = named_ == RegexPool::nothing ? keys.keys : pool_.without(keys.keys, named_);
                if (!pool_.can_match(texts)) continue;
                ways.push_back(program_.match(texts, program_.match(outer_.colon_, outer_.value(keys.value, next))));
            }
            program_.fill(hole, ways);
            return hole;
        }
        Address behind_other(const Count& count) {
            std::vector<Address> ways = {program_.match(outer_.comma_, other_key(count))};
            if (count.sure >= object_.min) ways.push_back(close_);
            return program_.split(ways);
        }

        Emitter& outer_;
        Program& program_;
        RegexPool& pool_;
        const ObjectShape& object_;
        RegexId named_ = RegexPool::nothing;
        size_t last_required_ = 0;
        size_t states_ = 0;
        Address close_ = 0;
        std::map<Count, Address> other_keys_;
    };

    Address emit(const ObjectShape& object) { return ObjectEmitter(*this, object).emit(); }

    Program& program_;
    RegexPool& pool_;
    const SchemaDocument& document_;
    Shapes shapes_;
    const RegexId space_;
    RegexId colon_, comma_;
    std::unordered_map<Condition, uint32_t> rules_;
    std::vector<Condition> open_;
};

}  // namespace

uint32_t add_json_schema(Program& program, const SchemaDocument& document) { return Emitter(program, document).emit(); }

}  // namespace gptoss::text
