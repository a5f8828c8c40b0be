// gptoss-server: OpenAI's API over libgptoss.
#include <cstdio>
#include <thread>

#include "http.h"
#include "system.h"

namespace server {

namespace {

gptoss::Model load(const Options& options) {
    gptoss_model_options load = {.struct_size = sizeof load};
    load.device = options.device.empty() ? nullptr : options.device.c_str();
    load.weights = options.weights;
    load.tier = options.tier;
    load.memory_budget = static_cast<uint64_t>(options.memory * 1e9);
    load.context_length = options.context_length;
    load.log = [](void*, gptoss_log_level level, const char* message) {
        if (level <= gptoss_log_level_warning) std::fprintf(stderr, "gptoss-server: %s\n", message);
    };
    return {options.model, load};
}

// Windows' SO_REUSEADDR lets two share a port, which elsewhere only lets a server follow another at once.
#ifdef _WIN32
constexpr int kAlone = SO_EXCLUSIVEADDRUSE;
#else
constexpr int kAlone = SO_REUSEADDR;
#endif

// Listens where no other server does: cpp-httplib's own default lets two share a port, and five connections wait.
int bind(httplib::Server& http, const Options& options) {
    static socket_t listening = INVALID_SOCKET;
    http.set_socket_options([](socket_t socket) {
        const int yes = 1;
        setsockopt(socket, SOL_SOCKET, kAlone, reinterpret_cast<const char*>(&yes), sizeof yes);
        listening = socket;
    });
    const int port = options.port == 0                               ? http.bind_to_any_port(options.host)
                     : http.bind_to_port(options.host, options.port) ? options.port
                                                                     : -1;
    if (port < 0)
        throw std::runtime_error("cannot listen on " + options.host + ", port " + std::to_string(options.port) +
                                 ": is another server there?");
    ::listen(listening, 512);
    return port;
}

// Tells the server to stop when it is asked to, or when the device is lost, and those that still run after the grace.
void watch(httplib::Server& http, Service& service, const programs::StopRequests& stops,
           const std::atomic<bool>& finished) {
    using namespace std::chrono_literals;
    while (!finished && !service.device_lost && !stops.wait(100ms)) {
    }
    while (!finished && !http.is_running()) std::this_thread::sleep_for(100ms);  // stop() is of no use before
    http.stop();
    const auto end = Clock::now() + std::chrono::duration<double>(service.options.grace);
    while (!finished && !service.device_lost && Clock::now() < end)
        if (stops.wait(100ms)) break;
    service.stopping = true;
}

int serve(const Options& options) {
    const programs::StopRequests stops;

    httplib::Server http;
    const int port = bind(http, options);
    Service service(options, load(options));
    const size_t length = service.contexts.context_length();  // makes the first context, so that a lack of memory shows
    set_up(http, service);
    post(http, service, "/v1/chat/completions", chat_completions);
    post(http, service, "/v1/responses", responses);
    post(http, service, "/v1/completions", completions);
    post(http, service, "/v1/embeddings", embeddings);
    // A thread a connection: those that run, those that wait, and some that are idle or refused.
    http.new_task_queue = [&] { return new httplib::ThreadPool(options.parallel + options.queue + 32); };

    std::atomic<bool> finished = false;
    std::thread watcher([&] { watch(http, service, stops, finished); });
    std::printf("%s, contexts of %zu tokens: http://%s:%d/\n", options.name.c_str(), length, options.host.c_str(),
                port);
    std::fflush(stdout);
    http.listen_after_bind();
    finished = true;
    watcher.join();
    return service.device_lost;
}

}  // namespace

}  // namespace server

int main(int argc, char** argv) {
    programs::begin(argc, argv);
    try {
        server::Options options;
        if (const std::optional<int> status = server::parse_options(argc, argv, options)) return *status;
        return server::serve(options);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "gptoss-server: %s\n", e.what());
        return 1;
    }
}
