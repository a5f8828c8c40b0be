#include "http.h"

#ifndef _WIN32
#include <poll.h>
#include <sys/socket.h>
#endif

#include <cstring>

// page.html, as cmake/embed.cmake writes it.
namespace gptoss {
extern const unsigned char page[];
extern const size_t page_size;
}  // namespace gptoss

namespace server {

namespace {

const char* const json_type = "application/json";

// Takes as long for a wrong key as for the right one.
bool equal_in_constant_time(std::string_view given, std::string_view key) {
    unsigned difference = given.size() != key.size();
    for (size_t i = 0; i < given.size(); ++i)
        difference |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(key[i % key.size()]);
    return difference == 0;
}

std::string key_of(const httplib::Request& request) {
    const std::string authorization = request.get_header_value("Authorization");
    const std::string scheme = "Bearer ";
    if (authorization.compare(0, scheme.size(), scheme) == 0) return authorization.substr(scheme.size());
    return request.get_header_value("X-Api-Key");
}

// A page elsewhere can give its own name this machine's address; then only the Host header tells.
bool is_loopback_name(std::string host) {
    if (!host.empty() && host[0] == '[')
        host = host.substr(0, host.find(']') + 1);
    else
        host = host.substr(0, host.find(':'));
    return host.empty() || host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

bool is_loopback_address(const std::string& host) {
    return host == "localhost" || host == "::1" || host.starts_with("127.");
}

void send_error(httplib::Response& response, const ApiError& error) {
    response.status = error.status();
    if (error.status() == 429 || error.status() == 503) response.set_header("Retry-After", "1");
    response.set_content(dump(error.json()), json_type);
}

#ifdef _WIN32
bool no_socket_above(socket_t) { return false; }

bool is_closed(socket_t socket) {
    WSAPOLLFD polled = {socket, POLLRDNORM, 0};
    if (WSAPoll(&polled, 1, 0) <= 0) return false;
    char byte;
    return (polled.revents & (POLLHUP | POLLERR)) != 0 || recv(socket, &byte, 1, MSG_PEEK) <= 0;
}
#else
bool no_socket_above(socket_t descriptor) { return errno == EBADF && descriptor > 4096; }

bool is_closed(socket_t socket) {
    pollfd polled = {socket, POLLRDHUP, 0};
    return poll(&polled, 1, 0) > 0 && (polled.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}
#endif

// Whether the client of a request closed its connection. cpp-httplib keeps the socket to itself, so it is the one among
// this process's that has the client's address.
std::function<bool()> watch(const httplib::Request& request) {
    for (socket_t fd = 3; fd < 65536; ++fd) {
        sockaddr_storage address{};
        socklen_t size = sizeof address;
        if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
            if (no_socket_above(fd)) break;
            continue;
        }
        char host[NI_MAXHOST], port[NI_MAXSERV];
        if (getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, port, sizeof port,
                        NI_NUMERICHOST | NI_NUMERICSERV) == 0 &&
            request.remote_addr == host && std::to_string(request.remote_port) == port)
            return [fd] { return is_closed(fd); };
    }
    return [] { return false; };
}

// Calls f and turns what it throws into an answer.
template <typename F>
void guarded(httplib::Response& response, F&& f) {
    try {
        f();
    } catch (const ApiError& e) {
        send_error(response, e);
    } catch (const ClientGone&) {
        response.status = 499;
    } catch (const gptoss::Error& e) {
        send_error(response, api_error(e));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "gptoss-server: %s\n", e.what());
        send_error(response, {500, "server_error", "internal_error", "", e.what()});
    }
}

std::string read_body(const httplib::Request& request, const httplib::ContentReader& reader, size_t limit) {
    // Read in any case: what is left of a body would be taken for the connection's next request.
    std::string body;
    bool too_long = std::strtoull(request.get_header_value("Content-Length").c_str(), nullptr, 10) > limit;
    const bool whole = reader([&](const char* data, size_t size) {
        too_long = too_long || body.size() + size > limit;
        if (!too_long) body.append(data, size);
        return !too_long;
    });
    if (request.get_header_value("Content-Type").compare(0, std::strlen(json_type), json_type) != 0)
        throw ApiError(415, "invalid_request_error", "unsupported_media_type", "",
                       std::string("The header Content-Type has to be ") + json_type + ".");
    if (too_long)
        throw ApiError(413, "invalid_request_error", "body_too_large", "",
                       "The body has more than the " + std::to_string(limit) + " bytes that this server takes.");
    if (!whole) throw invalid("", "The body did not come whole.", "invalid_body");
    return body;
}

// What may be written of a stream that is under way.
struct Stream {
    Service& service;
    Generation generation;
    std::unique_ptr<Answer> answer;

    bool write(httplib::DataSink& sink) {
        const auto send = [&](const std::string& text) {
            if (!text.empty() && !sink.write(text.data(), text.size())) throw ClientGone();
        };
        try {
            send(answer->begin());
            for (std::vector<Piece> pieces; !(pieces = generation.next()).empty();) {
                std::string events;
                for (const Piece& piece : pieces) events += answer->add(piece);
                send(events);
            }
            send(answer->finish(generation.usage()));
        } catch (const ClientGone&) {
            service.metrics.count_disconnect();
            return false;
        } catch (const ApiError& e) {
            const std::string text = answer->fail(e);
            sink.write(text.data(), text.size());
        }
        sink.done();
        return true;
    }
};

httplib::Server::HandlerResponse check_access(const Service& service, const httplib::Request& request,
                                              httplib::Response& response) {
    const Options& options = service.options;
    const bool open = request.method == "OPTIONS" || request.path == "/" || request.path == "/health";
    const auto refuse = [&](const ApiError& error) {
        send_error(response, error);
        return httplib::Server::HandlerResponse::Handled;
    };
    if (is_loopback_address(options.host) && !is_loopback_name(request.get_header_value("Host")))
        return refuse({403, "invalid_request_error", "wrong_host", "",
                       "This server answers to localhost alone; it has to be started with --host for other names."});
    if (!open && !options.api_key.empty() && !equal_in_constant_time(key_of(request), options.api_key))
        return refuse({401, "invalid_request_error", "invalid_api_key", "",
                       "The API key is missing or wrong; it is expected as Authorization: Bearer KEY."});
    return httplib::Server::HandlerResponse::Unhandled;
}

Json models_json(const Service& service) {
    return {
        {"object", "list"},
        {"data",
         {{{"id", service.options.name}, {"object", "model"}, {"created", service.created}, {"owned_by", "openai"}}}}};
}

}  // namespace

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string event(const Json& data, const std::string& name) {
    return (name.empty() ? "" : "event: " + name + "\n") + "data: " + dump(data) + "\n\n";
}

void answer(Service& service, const Exchange& exchange, Turn turn, std::unique_ptr<Answer> answer, bool stream) {
    const size_t limit = service.contexts.context_length();
    if (turn.prompt.empty()) throw invalid("prompt", "The prompt has no tokens, and at least one is needed.");
    if (turn.prompt.size() >= limit)
        throw invalid("messages",
                      "The prompt has " + std::to_string(turn.prompt.size()) + " tokens, and the context holds " +
                          std::to_string(limit) + ", the answer included.",
                      "context_length_exceeded");
    if (stream) {
        // The connection's thread still runs the provider when the request is gone.
        const std::shared_ptr<Stream> state(new Stream{
            service, Generation(service, std::move(turn), exchange.gone, exchange.arrival), std::move(answer)});
        exchange.response.set_header("Cache-Control", "no-store");
        exchange.response.set_chunked_content_provider(
            "text/event-stream", [state](size_t, httplib::DataSink& sink) { return state->write(sink); });
        return;
    }
    Generation generation(service, std::move(turn), exchange.gone, exchange.arrival);
    for (std::vector<Piece> pieces; !(pieces = generation.next()).empty();)
        for (const Piece& piece : pieces) answer->add(piece);
    exchange.response.set_content(dump(answer->json(generation.usage())), json_type);
}

void set_up(httplib::Server& http, Service& service) {
    const Options& options = service.options;
    http.set_payload_max_length(options.max_body);
    http.set_keep_alive_max_count(1000);
    http.set_read_timeout(10);
    http.set_write_timeout(10);
    http.set_tcp_nodelay(true);
    http.set_pre_routing_handler(
        [&service](const auto& request, auto& response) { return check_access(service, request, response); });
    http.set_post_routing_handler([&service](const auto& request, auto& response) {
        response.set_header("X-Content-Type-Options", "nosniff");
        if (!service.options.cors_origin.empty()) {
            response.set_header("Access-Control-Allow-Origin", service.options.cors_origin);
            response.set_header("Vary", "Origin");
        }
        if (response.status == 499) service.metrics.count_disconnect();
        const bool known = request.path == "/v1/chat/completions" || request.path == "/v1/responses" ||
                           request.path == "/v1/completions" || request.path == "/v1/embeddings" ||
                           request.path == "/v1/models";
        service.metrics.count_request(known ? request.path : "other", response.status);
    });
    http.set_error_handler([](const auto& request, auto& response) {
        if (!response.body.empty() || response.status == 499) return;
        const int status = response.status;
        const std::string what = request.method + " " + request.path;
        if (status == 404)
            send_error(response,
                       {status, "invalid_request_error", "not_found", "", "There is nothing at " + what + "."});
        else
            send_error(response, {status, "invalid_request_error", "", "", "The request " + what + " is malformed."});
    });
    if (!options.cors_origin.empty())
        http.Options(".*", [](const auto&, auto& response) {
            response.set_header("Access-Control-Allow-Methods", "GET, POST");
            response.set_header("Access-Control-Allow-Headers", "*, Authorization, Content-Type");
            response.set_header("Access-Control-Max-Age", "600");
            response.status = 204;
        });
    http.Get("/", [](const auto&, auto& response) {
        response.set_header("Content-Security-Policy",
                            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src "
                            "'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
        response.set_content(reinterpret_cast<const char*>(gptoss::page), gptoss::page_size,
                             "text/html; charset=utf-8");
    });
    http.Get("/health", [&service](const auto&, auto& response) {
        const bool lost = service.device_lost;
        if (lost) response.status = 503;
        response.set_content(lost ? R"({"status":"device lost"})" : R"({"status":"ok"})", json_type);
    });
    http.Get("/metrics", [&service](const auto&, auto& response) {
        response.set_content(service.metrics.text(service.contexts.running(), service.contexts.waiting()),
                             "text/plain; version=0.0.4");
    });
    http.Get("/v1/models",
             [&service](const auto&, auto& response) { response.set_content(dump(models_json(service)), json_type); });
    http.Get("/v1/models/(.+)", [&service](const auto& request, auto& response) {
        guarded(response, [&] {
            const std::string name = request.matches[1];
            if (name != service.options.name)
                throw ApiError(404, "invalid_request_error", "model_not_found", "model",
                               "There is no model \"" + name + "\" here.");
            response.set_content(dump(models_json(service)["data"][0]), json_type);
        });
    });
}

void post(httplib::Server& http, Service& service, const std::string& path, Endpoint endpoint) {
    http.Post(path, [&service, endpoint](const httplib::Request& request, httplib::Response& response,
                                         const httplib::ContentReader& reader) {
        const Clock::time_point arrival = Clock::now();
        guarded(response, [&] {
            const Json body = parse_body(read_body(request, reader, service.options.max_body));
            endpoint(service, {request, response, body, watch(request), arrival});
        });
    });
}

}  // namespace server
