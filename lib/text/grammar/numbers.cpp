#include "text/grammar/numbers.h"

#include <algorithm>

namespace gptoss::text {

namespace {

// Without leading and trailing zeros; zero is "0" and never negative.
struct Decimal {
    bool negative = false;
    std::string whole = "0";
    std::string fraction;

    bool is_zero() const { return whole == "0" && fraction.empty(); }
};

Decimal parse_decimal(std::string_view text) {
    Decimal decimal;
    if (text.starts_with('-')) decimal.negative = true, text.remove_prefix(1);
    int exponent = 0;
    if (const size_t e = text.find_first_of("eE"); e != text.npos) {
        exponent = std::clamp(std::atoi(std::string(text.substr(e + 1)).c_str()), -2000, 2000);
        text = text.substr(0, e);
    }
    const size_t point = text.find('.');
    std::string digits(text.substr(0, point));
    int places = static_cast<int>(digits.size()) + exponent;  // of the digits before the point
    if (point != text.npos) digits += text.substr(point + 1);
    if (places < 0) {
        digits = std::string(static_cast<size_t>(-places), '0').append(digits);
        places = 0;
    }
    if (static_cast<size_t>(places) > digits.size()) digits.append(static_cast<size_t>(places) - digits.size(), '0');
    decimal.whole = digits.substr(0, static_cast<size_t>(places));
    decimal.fraction = digits.substr(static_cast<size_t>(places));
    decimal.whole.erase(0, std::min(decimal.whole.find_first_not_of('0'), decimal.whole.size()));
    if (decimal.whole.empty()) decimal.whole.push_back('0');
    decimal.fraction.erase(decimal.fraction.find_last_not_of('0') + 1);
    if (decimal.is_zero()) decimal.negative = false;
    return decimal;
}

// Magnitudes: a number without its sign.
class Magnitudes {
  public:
    explicit Magnitudes(RegexPool& pool)
        : pool_(pool),
          digit_(range('0', '9')),
          digits_(pool.repeat(digit_, 0, RegexPool::unbounded)),
          some_digits_(pool.repeat(digit_, 1, RegexPool::unbounded)),
          fraction_(pool.optional(pool.concat(text("."), some_digits_))),
          zeros_(pool.repeat(text("0"), 0, RegexPool::unbounded)) {}

    RegexId any() { return pool_.concat(pool_.either({text("0"), pool_.concat(range('1', '9'), digits_)}), fraction_); }

    RegexId at_least(const Decimal& bound, bool exclusive) {
        const std::string& whole = bound.whole;
        const uint32_t length = whole == "0" ? 0 : static_cast<uint32_t>(whole.size());
        std::vector<RegexId> greater = {
            pool_.concat(range('1', '9'), pool_.repeat(digit_, length, RegexPool::unbounded))};
        for (uint32_t i = 0; i < length; ++i)
            if (whole[i] < '9')
                greater.push_back(pool_.concat({text(whole.substr(0, i)), range(static_cast<char>(whole[i] + 1), '9'),
                                                pool_.repeat(digit_, length - i - 1, length - i - 1)}));
        return pool_.either({pool_.concat(pool_.either(std::move(greater)), fraction_),
                             pool_.concat(text(whole), fraction_at_least(bound.fraction, exclusive))});
    }

    RegexId at_most(const Decimal& bound, bool exclusive) {
        const std::string& whole = bound.whole;
        const uint32_t length = static_cast<uint32_t>(whole.size());
        std::vector<RegexId> less;
        if (length > 1) {
            less.push_back(text("0"));
            less.push_back(pool_.concat(range('1', '9'), pool_.repeat(digit_, 0, length - 2)));
        }
        for (uint32_t i = 0; i < length; ++i) {
            const char lowest = i == 0 && length > 1 ? '1' : '0';
            if (whole[i] > lowest)
                less.push_back(pool_.concat({text(whole.substr(0, i)), range(lowest, static_cast<char>(whole[i] - 1)),
                                             pool_.repeat(digit_, length - i - 1, length - i - 1)}));
        }
        return pool_.either({pool_.concat(pool_.either(std::move(less)), fraction_),
                             pool_.concat(text(whole), fraction_at_most(bound.fraction, exclusive))});
    }

    RegexId text(std::string_view text) { return pool_.literal(text); }

  private:
    RegexId range(char first, char last) {
        return pool_.bytes(ByteSet::range(static_cast<uint8_t>(first), static_cast<uint8_t>(last)));
    }

    RegexId fraction_at_least(const std::string& bound, bool exclusive) {
        if (bound.empty() && !exclusive) return fraction_;
        std::vector<RegexId> ways;
        for (size_t i = 0; i < bound.size(); ++i)
            if (bound[i] < '9')
                ways.push_back(
                    pool_.concat({text(bound.substr(0, i)), range(static_cast<char>(bound[i] + 1), '9'), digits_}));
        const RegexId more = exclusive ? pool_.concat({zeros_, range('1', '9'), digits_}) : digits_;
        ways.push_back(pool_.concat(text(bound), more));
        return pool_.concat(text("."), pool_.either(std::move(ways)));
    }

    RegexId fraction_at_most(const std::string& bound, bool exclusive) {
        const RegexId some_zeros = pool_.concat(text("0"), zeros_);
        if (bound.empty()) return exclusive ? RegexPool::nothing : pool_.optional(pool_.concat(text("."), some_zeros));
        std::vector<RegexId> ways;
        for (size_t i = 0; i < bound.size(); ++i) {
            if (bound[i] > '0')
                ways.push_back(
                    pool_.concat({text(bound.substr(0, i)), range('0', static_cast<char>(bound[i] - 1)), digits_}));
            if (i > 0) ways.push_back(text(bound.substr(0, i)));
        }
        if (!exclusive) ways.push_back(pool_.concat(text(bound), zeros_));
        return pool_.optional(pool_.concat(text("."), pool_.either(std::move(ways))));
    }

    RegexPool& pool_;
    const RegexId digit_, digits_, some_digits_, fraction_, zeros_;
};

}  // namespace

RegexId json_number(RegexPool& pool) {
    const RegexId digits = pool.repeat(pool.bytes(ByteSet::range('0', '9')), 1, RegexPool::unbounded);
    ByteSet e, sign;
    e.add('e'), e.add('E'), sign.add('+'), sign.add('-');
    const RegexId exponent = pool.concat({pool.bytes(e), pool.optional(pool.bytes(sign)), digits});
    return pool.concat(decimal_number(pool), pool.optional(exponent));
}

RegexId decimal_number(RegexPool& pool) {
    return pool.concat(pool.optional(pool.literal("-")), Magnitudes(pool).any());
}

RegexId integer(RegexPool& pool, bool with_point) {
    const RegexId digits = pool.repeat(pool.bytes(ByteSet::range('0', '9')), 0, RegexPool::unbounded);
    const RegexId whole = pool.either({pool.literal("0"), pool.concat(pool.bytes(ByteSet::range('1', '9')), digits)});
    const RegexId zeros = pool.concat(pool.literal("."), pool.repeat(pool.literal("0"), 1, RegexPool::unbounded));
    return pool.concat({pool.optional(pool.literal("-")), whole, with_point ? pool.optional(zeros) : RegexPool::empty});
}

RegexId number_range(RegexPool& pool, const std::optional<Bound>& min, const std::optional<Bound>& max) {
    Magnitudes magnitudes(pool);
    RegexId positive = magnitudes.any(), negative = positive;
    if (min) {
        const Decimal bound = parse_decimal(min->value);
        if (bound.negative) {
            negative = pool.both(negative, magnitudes.at_most(bound, min->exclusive));
        } else {
            positive = pool.both(positive, magnitudes.at_least(bound, min->exclusive));
            negative = bound.is_zero() && !min->exclusive ? pool.both(negative, magnitudes.at_most({}, false))
                                                          : RegexPool::nothing;
        }
    }
    if (max) {
        const Decimal bound = parse_decimal(max->value);
        if (bound.negative || (bound.is_zero() && max->exclusive)) {
            negative = pool.both(negative, magnitudes.at_least(bound, max->exclusive));
            positive = RegexPool::nothing;
        } else {
            positive = pool.both(positive, magnitudes.at_most(bound, max->exclusive));
        }
    }
    return pool.either({positive, pool.concat(magnitudes.text("-"), negative)});
}

std::optional<RegexId> number_multiple(RegexPool& pool, std::string_view of) {
    const Decimal divisor = parse_decimal(of);
    std::string digits = divisor.whole + divisor.fraction;
    digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
    if (digits.empty() || digits.size() > 17) return std::nullopt;
    const RegexId multiple = pool.multiple_of(std::stoull(digits), static_cast<uint32_t>(divisor.fraction.size()));
    return pool.both(decimal_number(pool), pool.concat(pool.optional(pool.literal("-")), multiple));
}

}  // namespace gptoss::text
