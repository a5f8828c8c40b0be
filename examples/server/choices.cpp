#include "choices.h"

#include "requests.h"

namespace server {

namespace {

Json usage_json(const Usage& usage) {
    return {{"prompt_tokens", usage.prompt},
            {"completion_tokens", usage.generated},
            {"total_tokens", usage.prompt + usage.generated},
            {"prompt_tokens_details", {{"cached_tokens", usage.cached}}},
            {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning}}}};
}

}  // namespace

ChoicesAnswer::ChoicesAnswer(const Service& service, const char* id_prefix, const char* event_object,
                             bool include_usage)
    : id_(new_id(id_prefix)),
      model_(service.options.name),
      event_object_(event_object),
      include_usage_(include_usage) {}

std::string ChoicesAnswer::finish(const Usage& usage) {
    std::string events;
    if (include_usage_) events = event(whole(event_object_, Json::array(), usage));
    return events + "data: [DONE]\n\n";
}

std::string ChoicesAnswer::chunk(Json choice) const {
    Json data = head(event_object_);
    data["choices"] = Json::array({std::move(choice)});
    if (include_usage_) data["usage"] = nullptr;
    return event(data);
}

Json ChoicesAnswer::whole(const char* object, Json choices, const Usage& usage) const {
    Json answer = head(object);
    answer["choices"] = std::move(choices);
    answer["usage"] = usage_json(usage);
    return answer;
}

Json ChoicesAnswer::head(const char* object) const {
    return {{"id", id_}, {"object", object}, {"created", created_}, {"model", model_}};
}

}  // namespace server
