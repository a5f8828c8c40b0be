// POST /v1/completions: text goes on, without Harmony. Special tokens in a prompt count as such.
#include "choices.h"
#include "requests.h"

namespace server {

namespace {

class CompletionAnswer : public ChoicesAnswer {
  public:
    // with_logprobs: the answer has log-probabilities of its tokens.
    CompletionAnswer(const Service& service, std::string echo, int choices, bool with_logprobs, bool include_usage)
        : ChoicesAnswer(service, "cmpl-", "text_completion", include_usage),
          echo_(std::move(echo)),
          with_logprobs_(with_logprobs),
          choices_(static_cast<size_t>(choices), {echo_}) {}

    std::string begin() override {
        std::string events;
        for (size_t i = 0; i < choices_.size() && !echo_.empty(); ++i)
            events += chunk(choice_json(i, echo_, nullptr, nullptr));
        return events;
    }

    std::string add(const Piece& piece) override {
        Choice& choice = choices_[static_cast<size_t>(piece.choice)];
        if (piece.kind == Piece::Kind::end) {
            choice.reason = piece.end == Piece::End::length ? "length" : "stop";
            return chunk(choice_json(static_cast<size_t>(piece.choice), "", choice.reason, nullptr));
        }
        if (piece.begins) return {};
        choice.text += piece.text;
        Json logprobs = choice.take(piece.logprobs);
        for (const auto& [name, values] : logprobs.items())
            choice.logprobs[name].insert(choice.logprobs[name].end(), values.begin(), values.end());
        return chunk(choice_json(static_cast<size_t>(piece.choice), piece.text, nullptr,
                                 with_logprobs_ ? std::move(logprobs) : Json()));
    }

    Json json(const Usage& usage) override {
        Json choices = Json::array();
        for (const Choice& choice : choices_)
            choices.push_back(
                choice_json(choices.size(), choice.text, choice.reason, with_logprobs_ ? choice.logprobs : Json()));
        return whole("text_completion", std::move(choices), usage);
    }

  private:
    struct Choice {
        std::string text;
        const char* reason = "stop";
        Json logprobs = no_logprobs();
        size_t characters = 0;  // of the tokens so far

        // Of the next tokens of the text, in the shape of this endpoint. The token that was drawn is among the
        // likeliest.
        Json take(const Json& tokens) {
            Json taken = no_logprobs();
            for (const Json& token : tokens) {
                Json likeliest = {{token["token"], token["logprob"]}};
                for (const Json& likely : token["top_logprobs"])
                    likeliest[likely["token"].get<std::string>()] = likely["logprob"];
                taken["tokens"].push_back(token["token"]);
                taken["token_logprobs"].push_back(token["logprob"]);
                taken["top_logprobs"].push_back(std::move(likeliest));
                taken["text_offset"].push_back(characters);
                for (const Json& byte : token["bytes"]) characters += (byte.get<int>() & 0xC0) != 0x80;
            }
            return taken;
        }
    };

    static Json no_logprobs() {
        return {{"tokens", Json::array()},
                {"token_logprobs", Json::array()},
                {"top_logprobs", Json::array()},
                {"text_offset", Json::array()}};
    }

    static Json choice_json(size_t index, const std::string& text, const char* reason, Json logprobs) {
        return {{"index", index},
                {"text", text},
                {"logprobs", std::move(logprobs)},
                {"finish_reason", reason ? Json(reason) : Json()}};
    }

    const std::string echo_;
    const bool with_logprobs_;
    std::vector<Choice> choices_;
};

std::vector<uint32_t> read_prompt(const Service& service, const Field& prompt) {
    if (prompt.is_string()) return service.tokenizer.encode(prompt.string(), true);
    const std::vector<Field> elements = prompt.elements();
    if (elements.size() == 1 && !elements[0].json().is_number()) return read_prompt(service, elements[0]);
    std::vector<uint32_t> tokens;
    const int64_t last = service.model.info().vocabulary_size - int64_t{1};
    for (const Field& element : elements) {
        if (element.is_string() || element.json().is_array()) prompt.refuse("one prompt a request.");
        tokens.push_back(static_cast<uint32_t>(element.integer(0, last)));
    }
    return tokens;
}

}  // namespace

void completions(Service& service, const Exchange& exchange) {
    const Field body(exchange.body);
    check_common(service, body);
    if (body["suffix"].given() && !body["suffix"].string().empty()) body["suffix"].refuse("the model fills no gaps.");
    const Field best_of = body["best_of"], n = body["n"], stream_options = body["stream_options"];

    Turn turn;
    turn.harmony = false;
    turn.sampling = read_sampling(service, body);
    turn.stop = read_stop(body["stop"]);
    turn.max_tokens = body["max_tokens"].given() ? read_max_tokens({body["max_tokens"]}) : 16;
    turn.choices = n.given() ? static_cast<int>(n.integer(1, 128)) : 1;
    if (best_of.given() && best_of.integer(1, 128) != turn.choices) best_of.refuse("it can be n alone.");
    turn.prompt = read_prompt(service, body["prompt"]);
    std::string echo = body["echo"].boolean_or(false) ? service.tokenizer.decode(turn.prompt) : "";
    turn.top_logprobs = read_top_logprobs(body["logprobs"], body["logprobs"].given());
    if (turn.top_logprobs && !echo.empty())
        body["logprobs"].refuse("a prompt that is echoed has no log-probabilities.");
    const bool include_usage = stream_options.given() && stream_options.object()["include_usage"].boolean_or(false);
    auto completion = std::make_unique<CompletionAnswer>(service, std::move(echo), turn.choices,
                                                         turn.top_logprobs.has_value(), include_usage);
    answer(service, exchange, std::move(turn), std::move(completion), body["stream"].boolean_or(false));
}

}  // namespace server
