// POST /v1/embeddings: a vector for each text, made of the model's last states.
#include <algorithm>
#include <cstring>

#include "http.h"
#include "requests.h"

namespace server {

namespace {

constexpr size_t kMostTexts = 2048;  // as OpenAI has it
constexpr size_t kTogether = 32;     // texts between two looks at whether the client still waits

// A text, or its tokens.
std::vector<uint32_t> read_text(const Service& service, const Field& input) {
    std::vector<uint32_t> tokens;
    if (input.is_string()) {
        tokens = service.tokenizer.encode(input.string(), false);
    } else {
        for (const Field& element : input.elements())
            tokens.push_back(static_cast<uint32_t>(element.integer(0, service.vocabulary_size - int64_t{1})));
    }
    if (tokens.empty()) input.fail("a text that is not empty");
    return tokens;
}

std::vector<std::vector<uint32_t>> read_input(const Service& service, const Field& input) {
    if (input.is_string()) return {read_text(service, input)};
    const std::vector<Field> elements = input.elements();
    if (!elements.empty() && elements[0].json().is_number()) return {read_text(service, input)};
    if (elements.empty() || elements.size() > kMostTexts)
        input.fail("an array of 1 to " + std::to_string(kMostTexts) + " texts");
    std::vector<std::vector<uint32_t>> texts;
    for (const Field& element : elements) texts.push_back(read_text(service, element));
    return texts;
}

// The bytes of little-endian float32 in base 64.
std::string base64(gptoss::span<const float> values) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string bytes;
    for (const float value : values) {
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        for (int i = 0; i < 4; ++i) bytes += static_cast<char>(bits >> 8 * i);
    }
    std::string text;
    for (size_t i = 0; i < bytes.size(); i += 3) {
        const auto byte = [&](size_t at) { return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0u; };
        const uint32_t three = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
        for (size_t d = 0; d < 4; ++d) text += i + d > bytes.size() ? '=' : digits[three >> (18 - 6 * d) & 63];
    }
    return text;
}

}  // namespace

void embeddings(Service& service, const Exchange& exchange) {
    const Field body(exchange.body);
    check_common(service, body);
    const Field input = body["input"], format = body["encoding_format"], dimensions = body["dimensions"],
                pooling = body["pooling"];
    const size_t hidden = service.model.info().hidden_size;
    const std::string encoding = format.string_or("float"), pooled = pooling.string_or("last");
    if (encoding != "float" && encoding != "base64") format.fail("\"float\" or \"base64\"");
    if (pooled != "last" && pooled != "mean") pooling.fail("\"last\" or \"mean\"");
    if (dimensions.given() && static_cast<size_t>(dimensions.integer(1, INT32_MAX)) != hidden)
        dimensions.refuse("the model's vectors have " + std::to_string(hidden) + " dimensions.");
    const auto texts = read_input(service, input);
    const size_t limit = service.contexts.context_length();
    size_t count = 0;
    for (const auto& text : texts) {
        if (text.size() > limit)
            throw invalid("input",
                          "A text has " + std::to_string(text.size()) + " tokens, and " + std::to_string(limit) +
                              " at most can be computed.",
                          "context_length_exceeded");
        count += text.size();
    }

    const auto check = [&] { check_wanted(service, exchange.gone, exchange.arrival); };
    // a place among those that are computed at once, and in the line before them
    const Contexts::Lease lease = service.contexts.acquire({}, check);
    Json data = Json::array();
    for (size_t begin = 0; begin < texts.size(); begin += kTogether) {
        check();
        const gptoss::span<const std::vector<uint32_t>> some(&texts[begin], std::min(kTogether, texts.size() - begin));
        const std::vector<float> vectors =
            service.model.embed(some, pooled == "mean" ? gptoss_pooling_mean : gptoss_pooling_last);
        for (size_t i = 0; i < some.size(); ++i) {
            const gptoss::span<const float> vector(&vectors[i * hidden], hidden);
            Json embedding =
                encoding == "base64" ? Json(base64(vector)) : Json(std::vector<float>(vector.begin(), vector.end()));
            data.push_back({{"object", "embedding"}, {"index", begin + i}, {"embedding", std::move(embedding)}});
        }
    }
    service.metrics.count_tokens(count, 0, 0);
    const Json answer = {{"object", "list"},
                         {"data", std::move(data)},
                         {"model", service.options.name},
                         {"usage", {{"prompt_tokens", count}, {"total_tokens", count}}}};
    exchange.response.set_content(dump(answer), "application/json");
}

}  // namespace server
