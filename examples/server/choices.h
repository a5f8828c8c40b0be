// The answers of /v1/chat/completions and /v1/completions both have choices, each with an end of its own; this is what
// they share.
#pragma once

#include "http.h"

namespace server {

class ChoicesAnswer : public Answer {
  public:
    std::string finish(const Usage& usage) override;
    std::string fail(const ApiError& error) override { return event(error.json()); }

  protected:
    // id_prefix: such as "cmpl-"; event_object: what an event says it is; include_usage: at the end of a stream.
    ChoicesAnswer(const Service& service, const char* id_prefix, const char* event_object, bool include_usage);

    // An event with one choice.
    std::string chunk(Json choice) const;
    // The whole answer.
    Json whole(const char* object, Json choices, const Usage& usage) const;

  private:
    Json head(const char* object) const;

    const std::string id_, model_;
    const char* const event_object_;
    const std::time_t created_ = std::time(nullptr);
    const bool include_usage_;
};

}  // namespace server
