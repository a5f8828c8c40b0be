// POST /v1/responses. Nothing is stored: a client sends the whole conversation each time.
#include <map>

#include "conversation.h"
#include "http.h"
#include "requests.h"

namespace server {

namespace {

// A function of a namespace: the parts of the name by which the model knows it.
struct SpacedName {
    std::string space, name;
};
using SpacedNames = std::map<std::string, SpacedName>;

class ResponseAnswer : public Answer {
  public:
    // settings: the members of the response that repeat what the request asked for.
    ResponseAnswer(Json settings, SpacedNames spaced) : settings_(std::move(settings)), spaced_(std::move(spaced)) {}

    std::string begin() override {
        std::string events = send("response.created", {{"response", response("in_progress", nullptr)}});
        return events += send("response.in_progress", {{"response", response("in_progress", nullptr)}});
    }

    std::string add(const Piece& piece) override {
        if (piece.kind == Piece::Kind::end) {
            end_ = piece.end;
            return end_item(piece.end == Piece::End::length ? "incomplete" : "completed");
        }
        if (piece.begins) {
            std::string events = end_item("completed");
            return events += begin_item(piece);
        }
        text_ += piece.text;
        logprobs_.insert(logprobs_.end(), piece.logprobs.begin(), piece.logprobs.end());
        return send(delta_name(), position({{"delta", piece.text}}, &piece.logprobs));
    }

    std::string finish(const Usage& usage) override {
        const bool cut = end_ == Piece::End::length;
        return send(cut ? "response.incomplete" : "response.completed", {{"response", json(usage)}});
    }

    std::string fail(const ApiError& error) override {
        Json failed = response("failed", nullptr);
        failed["error"] = {{"code", "server_error"}, {"message", error.what()}};
        return send("response.failed", {{"response", std::move(failed)}});
    }

    Json json(const Usage& usage) override {
        Json whole = response(end_ == Piece::End::length ? "incomplete" : "completed", &usage);
        if (end_ == Piece::End::length) whole["incomplete_details"] = {{"reason", "max_output_tokens"}};
        return whole;
    }

  private:
    // The members of an item that is being generated; its content comes at the end.
    Json item(const char* status) const {
        const bool begins = std::string_view(status) == "in_progress";
        switch (kind_) {
            case Piece::Kind::call: {
                Json call = {{"id", id_},           {"type", "function_call"}, {"status", status},
                             {"call_id", call_id_}, {"name", name_},           {"arguments", text_}};
                if (!space_.empty()) call["namespace"] = space_;
                return call;
            }
            case Piece::Kind::reasoning:
                return {{"id", id_},
                        {"type", "reasoning"},
                        {"status", status},
                        {"summary", Json::array()},
                        {"content", begins ? Json::array() : Json::array({part()})}};
            default:
                return {{"id", id_},
                        {"type", "message"},
                        {"status", status},
                        {"role", "assistant"},
                        {"content", begins ? Json::array() : Json::array({part()})}};
        }
    }

    Json part() const {
        if (kind_ == Piece::Kind::reasoning) return {{"type", "reasoning_text"}, {"text", text_}};
        return {{"type", "output_text"}, {"text", text_}, {"annotations", Json::array()}, {"logprobs", logprobs_}};
    }

    const char* delta_name() const {
        return kind_ == Piece::Kind::call        ? "response.function_call_arguments.delta"
               : kind_ == Piece::Kind::reasoning ? "response.reasoning_text.delta"
                                                 : "response.output_text.delta";
    }

    std::string begin_item(const Piece& piece) {
        kind_ = piece.kind;
        text_.clear();
        logprobs_.clear();
        const auto spaced = spaced_.find(piece.text);
        name_ = spaced == spaced_.end() ? piece.text : spaced->second.name;
        space_ = spaced == spaced_.end() ? "" : spaced->second.space;
        call_id_ = kind_ == Piece::Kind::call ? new_id("call_") : "";
        id_ = new_id(kind_ == Piece::Kind::call ? "fc_" : kind_ == Piece::Kind::reasoning ? "rs_" : "msg_");
        open_ = true;
        std::string events =
            send("response.output_item.added", {{"output_index", output_.size()}, {"item", item("in_progress")}});
        if (kind_ != Piece::Kind::call) events += send("response.content_part.added", position({{"part", part()}}));
        return events;
    }

    std::string end_item(const char* status) {
        if (!open_) return {};
        open_ = false;
        std::string events;
        if (kind_ == Piece::Kind::call) {
            events = send("response.function_call_arguments.done", position({{"name", name_}, {"arguments", text_}}));
        } else {
            const bool reasons = kind_ == Piece::Kind::reasoning;
            events = send(reasons ? "response.reasoning_text.done" : "response.output_text.done",
                          position({{"text", text_}}, &logprobs_));
            events += send("response.content_part.done", position({{"part", part()}}));
        }
        const size_t index = output_.size();
        output_.push_back(item(status));
        return events += send("response.output_item.done", {{"output_index", index}, {"item", output_.back()}});
    }

    // The place of an event in the response, and then its members, with log-probabilities where it is one of a text.
    Json position(const Json& members, const Json* logprobs = nullptr) const {
        Json data = {{"item_id", id_}, {"output_index", output_.size()}};
        if (kind_ != Piece::Kind::call) data["content_index"] = 0;
        data.update(members);
        if (logprobs && kind_ == Piece::Kind::text) data["logprobs"] = *logprobs;
        return data;
    }

    // Numbers the events in the order of its calls, which therefore must not stand in one expression.
    std::string send(const std::string& type, const Json& members) {
        Json data = {{"type", type}, {"sequence_number", sequence_++}};
        data.update(members);
        return event(data, type);
    }

    Json response(const char* status, const Usage* usage) const {
        Json whole = {{"id", response_id_},  {"object", "response"}, {"created_at", created_},       {"status", status},
                      {"background", false}, {"error", nullptr},     {"incomplete_details", nullptr}};
        whole.update(settings_);
        whole["output"] = output_;
        whole["usage"] = nullptr;
        if (usage)
            whole["usage"] = {{"input_tokens", usage->prompt},
                              {"input_tokens_details", {{"cached_tokens", usage->cached}}},
                              {"output_tokens", usage->generated},
                              {"output_tokens_details", {{"reasoning_tokens", usage->reasoning}}},
                              {"total_tokens", usage->prompt + usage->generated}};
        return whole;
    }

    const Json settings_;
    const SpacedNames spaced_;
    const std::string response_id_ = new_id("resp_");
    const std::time_t created_ = std::time(nullptr);
    size_t sequence_ = 0;
    Json output_ = Json::array();
    Piece::End end_ = Piece::End::stop;
    // the item that is being generated
    bool open_ = false;
    Piece::Kind kind_ = Piece::Kind::text;
    std::string id_, call_id_, name_, space_, text_;
    Json logprobs_ = Json::array();
};

void add_message(Conversation& conversation, const Field& item) {
    const Field role = item["role"], content = item["content"];
    const std::string& name = role.string();
    if (name == "system" || name == "developer")
        conversation.developer(read_text(content, {"input_text", "text"}));
    else if (name == "user")
        conversation.user(read_text(content, {"input_text", "text"}));
    else if (name == "assistant")
        conversation.assistant(read_text(content, {"output_text", "input_text", "text"}),
                               item["phase"].string_or("") == "commentary");
    else
        role.fail("\"system\", \"developer\", \"user\" or \"assistant\"");
}

void add_reasoning(Conversation& conversation, const Field& item) {
    if (item["content"].given())
        conversation.reasoning(read_text(item["content"], {"reasoning_text", "text"}));
    else if (item["summary"].given())
        conversation.reasoning(read_text(item["summary"], {"summary_text"}));
}

void add_item(Conversation& conversation, const Field& item) {
    const Field type = item.object()["type"];
    const std::string name = type.string_or("message");
    if (name == "message")
        add_message(conversation, item);
    else if (name == "reasoning")
        add_reasoning(conversation, item);
    else if (name == "function_call")
        conversation.call(item["call_id"].string(), name_in(item["namespace"].string_or(""), item["name"].string()),
                          item["arguments"].string());
    else if (name == "function_call_output")
        conversation.result(item["call_id"], read_text(item["output"], {"input_text", "output_text", "text"}));
    else
        type.refuse("this server knows message, reasoning, function_call and function_call_output.");
}

// Tools that OpenAI's own servers run: the model is told of none, since nobody here would answer its call.
bool is_hosted(const std::string& type) {
    return type.starts_with("web_search") || type == "file_search" || type == "code_interpreter" ||
           type == "image_generation";
}

// Offers the model functions, those of a namespace by names that begin with the namespace's, which are returned.
SpacedNames add_tools(Conversation& conversation, const Field& tools, bool may_call) {
    SpacedNames spaced;
    if (!tools.given()) return spaced;
    const auto add = [&](const Field& function, const std::string& space = {}) {
        if (function.object()["type"].string() != "function") function["type"].refuse("there are functions only.");
        if (may_call) conversation.tool(function, space);
    };
    for (const Field& tool : tools.elements()) {
        const std::string& type = tool.object()["type"].string();
        if (is_hosted(type)) continue;
        if (type != "namespace") {
            add(tool);
            continue;
        }
        const std::string& space = tool["name"].string();
        for (const Field& function : tool["tools"].elements()) {
            add(function, space);
            spaced[name_in(space, function["name"].string())] = {space, function["name"].string()};
        }
    }
    return spaced;
}

void check_unsupported(const Field& body) {
    for (const char* name : {"previous_response_id", "conversation", "prompt"})
        if (body[name].given()) body[name].refuse("this server stores nothing; send the whole conversation as input.");
    if (body["background"].boolean_or(false)) body["background"].refuse("this server answers at once.");
}

// Which log-probabilities are asked for: a number of likely tokens asks for them too.
std::optional<uint32_t> read_logprobs(const Field& body) {
    const Field top = body["top_logprobs"];
    bool wanted = top.given() && top.integer(0, 20) > 0;
    if (body["include"].given())
        for (const Field& part : body["include"].elements()) wanted |= part.string() == "message.output_text.logprobs";
    return read_top_logprobs(top, wanted);
}

Json settings_of(const Service& service, const Field& body, const Turn& turn, const std::string& effort) {
    const auto repeated = [&](const char* name, Json otherwise) {
        return body[name].given() ? body[name].json() : otherwise;
    };
    return {{"instructions", repeated("instructions", nullptr)},
            {"max_output_tokens", repeated("max_output_tokens", nullptr)},
            {"model", service.options.name},
            {"parallel_tool_calls", repeated("parallel_tool_calls", true)},
            {"previous_response_id", nullptr},
            {"reasoning", {{"effort", effort}, {"summary", nullptr}}},
            {"store", false},
            {"temperature", turn.sampling.temperature},
            {"text", repeated("text", {{"format", {{"type", "text"}}}})},
            {"tool_choice", repeated("tool_choice", "auto")},
            {"tools", repeated("tools", Json::array())},
            {"top_logprobs", turn.top_logprobs.value_or(0)},
            {"top_p", turn.sampling.top_p},
            {"truncation", "disabled"},
            {"metadata", repeated("metadata", Json::object())}};
}

}  // namespace

void responses(Service& service, const Exchange& exchange) {
    const Field body(exchange.body), input = body["input"], reasoning = body["reasoning"];
    check_common(service, body);
    check_unsupported(body);

    const std::string effort = read_effort(reasoning.given() ? reasoning.object()["effort"] : reasoning);
    Conversation conversation(effort);
    const Json choice = read_tool_choice(body["tool_choice"]);
    const bool may_call = choice != "none";
    if (may_call) conversation.choose(choice);
    const Field format = body["text"].given() ? body["text"].object()["format"] : body["text"];
    if (format.given()) conversation.format(format.object()["type"], format["schema"]);
    SpacedNames spaced = add_tools(conversation, body["tools"], may_call);
    if (body["instructions"].given()) conversation.developer(body["instructions"].string());
    if (input.is_string()) {
        conversation.user(input.string());
    } else {
        if (input.elements().empty()) input.fail("a string, or an array with an item");
        for (const Field& item : input.elements()) add_item(conversation, item);
    }

    Turn turn;
    turn.sampling = read_sampling(service, body);
    turn.max_tokens = read_max_tokens({body["max_output_tokens"]});
    turn.top_logprobs = read_logprobs(body);
    turn.prompt = conversation.render(service, "input");
    turn.tools = conversation.tools();
    turn.grammar = conversation.grammar(service);
    auto response = std::make_unique<ResponseAnswer>(settings_of(service, body, turn, effort), std::move(spaced));
    answer(service, exchange, std::move(turn), std::move(response), body["stream"].boolean_or(false));
}

}  // namespace server
