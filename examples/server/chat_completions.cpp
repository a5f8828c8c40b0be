// POST /v1/chat/completions
#include "choices.h"
#include "conversation.h"
#include "requests.h"

namespace server {

namespace {

const char* finish_reason(Piece::End end) {
    return end == Piece::End::length ? "length" : end == Piece::End::call ? "tool_calls" : "stop";
}

class ChatAnswer : public ChoicesAnswer {
  public:
    // with_logprobs: the answer has log-probabilities of its text's tokens.
    ChatAnswer(const Service& service, int choices, bool with_logprobs, bool include_usage)
        : ChoicesAnswer(service, "chatcmpl-", "chat.completion.chunk", include_usage),
          with_logprobs_(with_logprobs),
          choices_(static_cast<size_t>(choices)) {}

    std::string begin() override {
        std::string events;
        for (size_t i = 0; i < choices_.size(); ++i)
            events += delta(static_cast<int>(i), {{"role", "assistant"}, {"content", ""}});
        return events;
    }

    std::string add(const Piece& piece) override {
        Choice& choice = choices_[static_cast<size_t>(piece.choice)];
        switch (piece.kind) {
            case Piece::Kind::reasoning:
                if (piece.begins) return {};
                choice.reasoning += piece.text;
                return delta(piece.choice, {{"reasoning", piece.text}, {"reasoning_content", piece.text}});
            case Piece::Kind::text:
                if (piece.begins) return {};
                choice.text += piece.text;
                choice.logprobs.insert(choice.logprobs.end(), piece.logprobs.begin(), piece.logprobs.end());
                return delta(piece.choice, {{"content", piece.text}}, logprobs_json(piece.logprobs));
            case Piece::Kind::call:
                return add_call(choice, piece);
            case Piece::Kind::end:
                choice.end = piece.end;
                return delta(piece.choice, Json::object(), nullptr, finish_reason(piece.end));
        }
        return {};
    }

    Json json(const Usage& usage) override {
        Json choices = Json::array();
        for (const Choice& choice : choices_) {
            const bool called = !choice.calls.empty();
            Json message = {{"role", "assistant"},
                            {"content", called && choice.text.empty() ? Json() : Json(choice.text)},
                            {"refusal", nullptr}};
            if (!choice.reasoning.empty()) message["reasoning"] = message["reasoning_content"] = choice.reasoning;
            if (called) message["tool_calls"] = choice.calls;
            choices.push_back({{"index", choices.size()},
                               {"message", std::move(message)},
                               {"logprobs", logprobs_json(choice.logprobs)},
                               {"finish_reason", finish_reason(choice.end)}});
        }
        return whole("chat.completion", std::move(choices), usage);
    }

  private:
    struct Choice {
        std::string text, reasoning;
        Json calls = Json::array(), logprobs = Json::array();
        Piece::End end = Piece::End::stop;
    };

    std::string add_call(Choice& choice, const Piece& piece) {
        Json shown;
        if (piece.begins) {
            choice.calls.push_back({{"id", new_id("call_")},
                                    {"type", "function"},
                                    {"function", {{"name", piece.text}, {"arguments", ""}}}});
            shown = choice.calls.back();
        } else {
            Json& arguments = choice.calls.back()["function"]["arguments"];
            arguments = arguments.get<std::string>() + piece.text;
            shown = {{"function", {{"arguments", piece.text}}}};
        }
        shown["index"] = choice.calls.size() - 1;
        return delta(piece.choice, {{"tool_calls", Json::array({shown})}});
    }

    Json logprobs_json(const Json& logprobs) const {
        return with_logprobs_ ? Json{{"content", logprobs}, {"refusal", nullptr}} : Json();
    }

    std::string delta(int choice, Json delta, Json logprobs = nullptr, const char* reason = nullptr) const {
        return chunk({{"index", choice},
                      {"delta", std::move(delta)},
                      {"logprobs", std::move(logprobs)},
                      {"finish_reason", reason ? Json(reason) : Json()}});
    }

    const bool with_logprobs_;
    std::vector<Choice> choices_;
};

void add_assistant(Conversation& conversation, const Field& message) {
    const Field calls = message["tool_calls"], content = message["content"];
    const Field reasoning = message["reasoning"].given() ? message["reasoning"] : message["reasoning_content"];
    const bool calls_follow = calls.given() && !calls.elements().empty();
    conversation.reasoning(reasoning.string_or(""));
    // Clients send a turn that was cut off in its reasoning back without a content.
    if (content.given()) {
        const std::string text = read_text(content, {"text"});
        if (!text.empty() || !calls_follow) conversation.assistant(text, calls_follow);
    }
    if (!calls_follow) return;
    for (const Field& call : calls.elements()) {
        const Field function = call.object()["function"];
        conversation.call(call["id"].string(), function.object()["name"].string(), function["arguments"].string());
    }
}

void add_message(Conversation& conversation, const Field& message) {
    const Field role = message.object()["role"], content = message["content"];
    const std::string& name = role.string();
    if (name == "system" || name == "developer")
        conversation.developer(read_text(content, {"text"}));
    else if (name == "user")
        conversation.user(read_text(content, {"text"}));
    else if (name == "assistant")
        add_assistant(conversation, message);
    else if (name == "tool")
        conversation.result(message["tool_call_id"], read_text(content, {"text"}));
    else
        role.fail("\"system\", \"developer\", \"user\", \"assistant\" or \"tool\"");
}

void check_unsupported(const Field& body) {
    for (const char* name : {"functions", "function_call"})
        if (body[name].given()) body[name].refuse("it was replaced by tools and tool_choice.");
}

}  // namespace

void chat_completions(Service& service, const Exchange& exchange) {
    const Field body(exchange.body);
    check_common(service, body);
    check_unsupported(body);

    Conversation conversation(read_effort(body["reasoning_effort"]));
    const Json choice = read_tool_choice(body["tool_choice"]);
    const bool may_call = choice != "none";
    if (may_call) conversation.choose(choice);
    if (const Field format = body["response_format"]; format.given()) {
        const Field schema = format.object()["json_schema"];
        conversation.format(format["type"], schema.given() ? schema.object()["schema"] : schema);
    }
    if (body["tools"].given()) {
        for (const Field& tool : body["tools"].elements()) {
            if (tool.object()["type"].string() != "function") tool["type"].refuse("there are functions only.");
            if (may_call) conversation.tool(tool["function"]);
        }
    }
    const std::vector<Field> messages = body["messages"].elements();
    if (messages.empty()) body["messages"].fail("an array with a message");
    for (const Field& message : messages) add_message(conversation, message);

    Turn turn;
    turn.sampling = read_sampling(service, body);
    turn.stop = read_stop(body["stop"]);
    turn.max_tokens = read_max_tokens({body["max_completion_tokens"], body["max_tokens"]});
    turn.top_logprobs = read_top_logprobs(body["top_logprobs"], body["logprobs"].boolean_or(false));
    if (body["top_logprobs"].given() && !turn.top_logprobs)
        throw invalid("top_logprobs", "top_logprobs needs \"logprobs\": true beside it.");
    turn.choices = body["n"].given() ? static_cast<int>(body["n"].integer(1, 128)) : 1;
    turn.prompt = conversation.render(service, "messages");
    turn.tools = conversation.tools();
    turn.grammar = conversation.grammar(service);
    const bool stream = body["stream"].boolean_or(false);
    const bool include_usage =
        body["stream_options"].given() && body["stream_options"].object()["include_usage"].boolean_or(false);
    auto chat = std::make_unique<ChatAnswer>(service, turn.choices, turn.top_logprobs.has_value(), include_usage);
    answer(service, exchange, std::move(turn), std::move(chat), stream);
}

}  // namespace server
