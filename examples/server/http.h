// HTTP around the endpoints: who may come in, how large a request may be, errors in OpenAI's shape, event streams.
#pragma once

#include <httplib.h>

#include "fields.h"
#include "turn.h"

namespace server {

// An answer in the making. An endpoint gets an answer's pieces and says what the client is sent.
class Answer {
  public:
    virtual ~Answer() = default;

    // The events of a stream: at its beginning, for a piece, at its end, and for an error in its middle.
    virtual std::string begin() { return {}; }
    virtual std::string add(const Piece& piece) = 0;
    virtual std::string finish(const Usage& usage) = 0;
    virtual std::string fail(const ApiError& error) = 0;
    // The whole answer, once all pieces are added.
    virtual Json json(const Usage& usage) = 0;
};

// A request that has come in whole.
struct Exchange {
    const httplib::Request& request;
    httplib::Response& response;
    const Json& body;
    std::function<bool()> gone;  // whether the client went away
    Clock::time_point arrival;
};

// Generates the turn and answers with it, as one JSON or as a stream of events.
void answer(Service& service, const Exchange& exchange, Turn turn, std::unique_ptr<Answer> answer, bool stream);

// JSON for the wire: what is not UTF-8 becomes U+FFFD.
std::string dump(const Json& json);
// One event of a stream; event: its name, "" for none.
std::string event(const Json& data, const std::string& name = {});

using Endpoint = void (*)(Service&, const Exchange&);

// Sets up limits, checks and errors, and the pages that need no body.
void set_up(httplib::Server& http, Service& service);
void post(httplib::Server& http, Service& service, const std::string& path, Endpoint endpoint);

void chat_completions(Service& service, const Exchange& exchange);
void responses(Service& service, const Exchange& exchange);
void completions(Service& service, const Exchange& exchange);
void embeddings(Service& service, const Exchange& exchange);

}  // namespace server
