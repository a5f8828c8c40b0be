// POST /v1/chat/completions
#include "conversation.h"
#include "http.h"
#include "requests.h"

namespace server {

namespace {

const char* finish_reason(Piece::End end) {
    return end == Piece::End::length ? "length" : end == Piece::End::call ? "tool_calls" : "stop";
}

Json usage_json(const Usage& usage) {
    return {{"prompt_tokens", usage.prompt},
            {"completion_tokens", usage.generated},
            {"total_tokens", usage.prompt + usage.generated},
            {"prompt_tokens_details", {{"cached_tokens", usage.cached}}},
            {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning}}}};
}

class ChatAnswer : public Answer {
  public:
    ChatAnswer(const Service& service, int choices, bool include_usage)
        : model_(service.options.name), include_usage_(include_usage), choices_(static_cast<size_t>(choices)) {}

    std::string begin() override {
        std::string events;
        for (size_t i = 0; i < choices_.size(); ++i)
            events += chunk(static_cast<int>(i), {{"role", "assistant"}, {"content", ""}});
        return events;
    }

    std::string add(const Piece& piece) override {
        Choice& choice = choices_[static_cast<size_t>(piece.choice)];
        switch (piece.kind) {
            case Piece::Kind::reasoning:
                if (piece.begins) return {};
                choice.reasoning += piece.text;
                return chunk(piece.choice, {{"reasoning", piece.text}, {"reasoning_content", piece.text}});
            case Piece::Kind::text:
                if (piece.begins) return {};
                choice.text += piece.text;
                return chunk(piece.choice, {{"content", piece.text}});
            case Piece::Kind::call:
                return add_call(choice, piece);
            case Piece::Kind::end:
                choice.end = piece.end;
                return chunk(piece.choice, Json::object(), finish_reason(piece.end));
        }
        return {};
    }

    std::string finish(const Usage& usage) override {
        std::string events;
        if (include_usage_) {
            Json last = head("chat.completion.chunk");
            last["choices"] = Json::array();
            last["usage"] = usage_json(usage);
            events = event(last);
        }
        return events + "data: [DONE]\n\n";
    }

    std::string fail(const ApiError& error) override { return event(error.json()); }

    Json json(const Usage& usage) override {
        Json answer = head("chat.completion");
        answer["choices"] = Json::array();
        for (const Choice& choice : choices_) {
            const bool called = !choice.calls.empty();
            Json message = {{"role", "assistant"},
                            {"content", called && choice.text.empty() ? Json() : Json(choice.text)},
                            {"refusal", nullptr}};
            if (!choice.reasoning.empty()) message["reasoning"] = message["reasoning_content"] = choice.reasoning;
            if (called) message["tool_calls"] = choice.calls;
            answer["choices"].push_back({{"index", answer["choices"].size()},
                                         {"message", std::move(message)},
                                         {"logprobs", nullptr},
                                         {"finish_reason", finish_reason(choice.end)}});
        }
        answer["usage"] = usage_json(usage);
        return answer;
    }

  private:
    struct Choice {
        std::string text, reasoning;
        Json calls = Json::array();
        Piece::End end = Piece::End::stop;
    };

    std::string add_call(Choice& choice, const Piece& piece) {
        Json delta;
        if (piece.begins) {
            choice.calls.push_back({{"id", new_id("call_")},
                                    {"type", "function"},
                                    {"function", {{"name", piece.text}, {"arguments", ""}}}});
            delta = choice.calls.back();
        } else {
            Json& arguments = choice.calls.back()["function"]["arguments"];
            arguments = arguments.get<std::string>() + piece.text;
            delta = {{"function", {{"arguments", piece.text}}}};
        }
        delta["index"] = choice.calls.size() - 1;
        return chunk(piece.choice, {{"tool_calls", Json::array({delta})}});
    }

    Json head(const char* object) const {
        return {{"id", id_}, {"object", object}, {"created", created_}, {"model", model_}};
    }

    std::string chunk(int choice, Json delta, const char* reason = nullptr) const {
        Json data = head("chat.completion.chunk");
        data["choices"] = Json::array({{{"index", choice},
                                        {"delta", std::move(delta)},
                                        {"logprobs", nullptr},
                                        {"finish_reason", reason ? Json(reason) : Json()}}});
        if (include_usage_) data["usage"] = nullptr;
        return event(data);
    }

    const std::string id_ = new_id("chatcmpl-"), model_;
    const std::time_t created_ = std::time(nullptr);
    const bool include_usage_;
    std::vector<Choice> choices_;
};

void add_assistant(Conversation& conversation, const Field& message) {
    const Field calls = message["tool_calls"], content = message["content"];
    const Field reasoning = message["reasoning"].given() ? message["reasoning"] : message["reasoning_content"];
    const bool calls_follow = calls.given() && !calls.elements().empty();
    conversation.reasoning(reasoning.string_or(""));
    if (content.given()) {
        const std::string text = read_text(content, {"text"});
        if (!text.empty() || !calls_follow) conversation.assistant(text, calls_follow);
    } else if (!calls_follow && !message["refusal"].given()) {
        content.fail("a string or an array of parts, where there are no tool_calls,");
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
    if (body["logprobs"].boolean_or(false)) body["logprobs"].refuse("this server has no log-probabilities yet.");
    if (body["top_logprobs"].given() && body["top_logprobs"].integer(0, 20) > 0)
        body["top_logprobs"].refuse("this server has no log-probabilities yet.");
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
    turn.choices = body["n"].given() ? static_cast<int>(body["n"].integer(1, 128)) : 1;
    turn.prompt = conversation.render(service, "messages");
    turn.tools = conversation.tools();
    turn.grammar = conversation.grammar(service);
    const bool stream = body["stream"].boolean_or(false);
    const bool include_usage =
        body["stream_options"].given() && body["stream_options"].object()["include_usage"].boolean_or(false);
    auto chat = std::make_unique<ChatAnswer>(service, turn.choices, include_usage);
    answer(service, exchange, std::move(turn), std::move(chat), stream);
}

}  // namespace server
