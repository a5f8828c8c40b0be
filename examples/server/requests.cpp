#include "requests.h"

#include <cfloat>
#include <charconv>
#include <random>

namespace server {

namespace {

std::mt19937_64& random_numbers() {
    thread_local std::mt19937_64 numbers{(uint64_t{std::random_device()()} << 32) ^ std::random_device()()};
    return numbers;
}

}  // namespace

void check_common(const Service& service, const Field& body) {
    const Field model = body["model"];
    if (model.given()) {
        const std::string& name = model.string();
        if (service.options.strict_model && name != service.options.name)
            throw ApiError(
                404, "invalid_request_error", "model_not_found", "model",
                "There is no model \"" + name + "\" here; this server has \"" + service.options.name + "\".");
    }
}

Sampling read_sampling(const Service& service, const Field& body) {
    const auto number = [&](const char* name, double least, double most, double otherwise) {
        const Field field = body[name];
        return static_cast<float>(field.given() ? field.number(least, most) : otherwise);
    };
    Sampling sampling;
    sampling.temperature = number("temperature", 0, 2, service.options.temperature);
    sampling.top_p = std::max(number("top_p", 0, 1, service.options.top_p), FLT_MIN);  // the library takes no 0
    sampling.min_p = number("min_p", 0, 1, 0);
    sampling.presence_penalty = number("presence_penalty", -2, 2, 0);
    sampling.frequency_penalty = number("frequency_penalty", -2, 2, 0);
    sampling.repetition_penalty = number("repetition_penalty", 0.01, 100, 1);
    const Field top_k = body["top_k"], seed = body["seed"];
    sampling.top_k = static_cast<uint32_t>(top_k.given() ? std::max<int64_t>(top_k.integer(-1, INT32_MAX), 0)
                                                         : service.options.top_k);
    const Field bias = body["logit_bias"];
    if (bias.given()) {
        for (const auto& entry : bias.object().json().items()) {
            const std::string& name = entry.key();
            uint32_t token = UINT32_MAX;
            const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), token);
            if (error != std::errc() || end != name.data() + name.size() || token >= service.vocabulary_size)
                bias.fail("an object whose keys are tokens of the model's vocabulary");
            sampling.biased.push_back(token);
            sampling.biases.push_back(static_cast<float>(bias[name.c_str()].number(-100, 100)));
        }
    }
    sampling.seed = seed.given() ? static_cast<uint64_t>(seed.integer(INT64_MIN, INT64_MAX)) : random_numbers()();
    return sampling;
}

std::vector<std::string> read_stop(const Field& stop) {
    std::vector<std::string> strings;
    if (!stop.given()) return strings;
    if (stop.is_string()) {
        if (!stop.string().empty()) strings.push_back(stop.string());
        return strings;
    }
    for (const Field& element : stop.elements()) {
        if (element.string().empty()) element.fail("a string that is not empty");
        strings.push_back(element.string());
    }
    if (strings.size() > 4) stop.fail("an array of 4 strings or fewer");
    return strings;
}

size_t read_max_tokens(std::initializer_list<Field> fields) {
    for (const Field& field : fields)
        if (field.given()) return static_cast<size_t>(field.integer(1, INT32_MAX));
    return 0;
}

std::optional<uint32_t> read_top_logprobs(const Field& top_logprobs, bool wanted) {
    const auto n = static_cast<uint32_t>(top_logprobs.given() ? top_logprobs.integer(0, 20) : 0);
    return wanted ? std::optional(n) : std::nullopt;
}

std::string read_effort(const Field& effort) {
    const std::string name = effort.string_or("medium");
    if (name == "none" || name == "minimal") return "low";
    if (name == "xhigh" || name == "max") return "high";
    if (name != "low" && name != "medium" && name != "high") effort.fail("one of \"low\", \"medium\", \"high\"");
    return name;
}

std::string new_id(const char* prefix) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    std::string id = prefix;
    std::uniform_int_distribution<int> digit(0, 61);
    for (int i = 0; i < 24; ++i) id += digits[digit(random_numbers())];
    return id;
}

}  // namespace server
