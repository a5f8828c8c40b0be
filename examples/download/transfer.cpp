#include "transfer.h"

#include <curl/curl.h>
#include <gptoss.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>

namespace hub {

namespace {

constexpr size_t max_document = 64 << 20;  // bytes of a listing
constexpr size_t max_message = 4096;       // bytes of an error's body
constexpr double max_wait = 600;           // seconds that a server may ask for

bool starts_with_scheme(const std::string& url, const char* scheme) {
    return url.size() > std::strlen(scheme) && ::curl_strnequal(url.c_str(), scheme, std::strlen(scheme));
}

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

// The scheme, host and port: what a token is meant for.
std::string origin(const std::string& url) {
    const size_t host = url.find("://");
    return url.substr(0, host == std::string::npos ? 0 : url.find_first_of("/?#", host + 3));
}

// The address in a header such as <https://…>; rel="next", "" where there is none.
std::string next_link(const std::string& header) {
    const size_t rel = header.find("rel=\"next\"");
    if (rel == std::string::npos) return {};
    const size_t begin = header.rfind('<', rel), end = header.rfind('>', rel);
    return begin < end && end != std::string::npos ? header.substr(begin + 1, end - begin - 1) : "";
}

}  // namespace

std::string printable(std::string text) {
    std::erase_if(text, [](unsigned char c) { return c < ' ' || c == 0x7F; });
    for (size_t at = 0; (at = text.find('\xC2', at)) != std::string::npos && at + 1 < text.size();)
        if (static_cast<unsigned char>(text[at + 1]) < 0xA0)  // U+0080 to U+009F are controls
            text.erase(at, 2);
        else
            at += 2;
    return text;
}

Settings Settings::from_environment() {
    Settings settings;
    if (const std::string endpoint = environment("HF_ENDPOINT"); !endpoint.empty()) settings.endpoint = endpoint;
    while (settings.endpoint.ends_with('/')) settings.endpoint.pop_back();
    if (!starts_with_scheme(settings.endpoint, "https://") && !starts_with_scheme(settings.endpoint, "http://"))
        throw std::runtime_error("HF_ENDPOINT is \"" + printable(settings.endpoint) +
                                 "\": expected an address such as https://huggingface.co");
    settings.token = environment("HF_TOKEN");
    const auto is_space = [](unsigned char c) { return c <= ' '; };
    std::erase_if(settings.token, is_space);  // a line's end from a file, which would end a header too
    return settings;
}

// The callbacks of one request share this. They may not throw through libcurl, so an exception of theirs is kept here.
struct Connection::Transfer {
    CURL* curl = nullptr;
    std::atomic<bool>* stop = nullptr;
    const Sink* sink = nullptr;  // of a file; else the body is kept
    uint64_t offset = 0, size = 0;
    std::string range{};  // the header Content-Range
    std::string link{}, message{}, body{};
    bool begun = false;
    std::exception_ptr thrown{};

    long status() const {
        long status = 0;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        return status;
    }

    void header(const std::string& line) {
        const auto value = [&](const char* name) {
            const size_t length = std::strlen(name);
            if (!curl_strnequal(line.c_str(), name, length)) return std::string();
            const size_t begin = line.find_first_not_of(' ', length), end = line.find_last_not_of("\r\n ");
            return begin == std::string::npos || end < begin ? "" : line.substr(begin, end - begin + 1);
        };
        if (line.starts_with("HTTP/")) range = link = message = "";  // of a redirection before
        if (const std::string text = value("content-range:"); !text.empty()) range = text;
        if (const std::string text = value("link:"); !text.empty()) link = text;
        if (const std::string text = value("x-error-message:"); !text.empty()) message = text;
    }

    // Holds the answer to what was asked for, before its first byte is taken.
    void begin() {
        begun = true;
        uint64_t from = 0, total = 0;
        if (status() == 206) {
            unsigned long long first = 0, last = 0, whole = 0;
            if (std::sscanf(range.c_str(), "bytes %llu-%llu/%llu", &first, &last, &whole) != 3)
                throw Transient("the server's Content-Range is \"" + printable(range) + "\"");
            from = first;
            total = whole;
            if (from != offset)
                throw Transient("the server sends bytes from " + std::to_string(from) + " on, and " +
                                std::to_string(offset) + " was asked for");
        } else {
            curl_off_t length = -1;
            curl_easy_getinfo(curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
            total = length < 0 ? size : static_cast<uint64_t>(length);
        }
        if (total != size)
            throw Transient("the server has " + std::to_string(total) + " bytes, and the hub lists " +
                            std::to_string(size));
        offset = from;
        sink->begin(from);
    }

    void write(const char* data, size_t n) {
        const long code = status();
        if (code != 200 && code != 206) {
            body.append(data, std::min(n, max_message - std::min(max_message, body.size())));
        } else if (!sink) {
            if (body.size() + n > max_document) throw std::runtime_error("the hub's answer is too long");
            body.append(data, n);
        } else {
            if (!begun) begin();
            if (n > size - offset)
                throw Transient("the server sends more than the " + std::to_string(size) + " bytes that the hub lists");
            sink->write(data, n);
            offset += n;
        }
    }
};

namespace {

template <typename Transfer, typename Call>
size_t guarded(Transfer& transfer, size_t size, Call call) {
    try {
        call();
        return size;
    } catch (...) {
        transfer.thrown = std::current_exception();
        return size + 1;  // anything but size ends the request
    }
}

}  // namespace

Connection::Connection(const Settings& settings, std::atomic<bool>& stop, std::function<void(const std::string&)> note)
    : settings_(settings), stop_(stop), note_(std::move(note)) {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
    curl_ = curl_easy_init();
    if (!curl_) throw std::runtime_error("libcurl cannot be set up");
}

Connection::~Connection() { curl_easy_cleanup(curl_); }

// Throws unless all of the answer came, and is a good one.
void Connection::perform(const std::string& url, Transfer& transfer) {
    curl_easy_reset(curl_);  // keeps connections
    transfer.curl = curl_;
    transfer.stop = &stop_;
    char error[CURL_ERROR_SIZE] = "";
    const bool secure = starts_with_scheme(url, "https://");
    const auto set = [&](CURLoption option, auto value) { curl_easy_setopt(curl_, option, value); };
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_ERRORBUFFER, error);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");  // nothing secret goes on in the open
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_MAXREDIRS, 10L);
    set(CURLOPT_BUFFERSIZE, 256L << 10);
    const long seconds = std::max(1L, std::lround(settings_.timeout));
    set(CURLOPT_CONNECTTIMEOUT, seconds);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, seconds);
    const uint32_t version = gptoss_version();
    const std::string agent =
        "libgptoss/" + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100);
    set(CURLOPT_USERAGENT, agent.c_str());
    if (!settings_.token.empty() && origin(url) == origin(settings_.endpoint)) {
        set(CURLOPT_HTTPAUTH, CURLAUTH_BEARER);  // libcurl leaves it out where a redirection goes to another host
        set(CURLOPT_XOAUTH2_BEARER, settings_.token.c_str());
    }
    const std::string range = std::to_string(transfer.offset) + "-";
    if (transfer.offset > 0) set(CURLOPT_RANGE, range.c_str());
    set(CURLOPT_WRITEDATA, &transfer);
    set(
        CURLOPT_WRITEFUNCTION, +[](char* data, size_t one, size_t n, void* to) {
            auto& t = *static_cast<Transfer*>(to);
            return guarded(t, one * n, [&] { t.write(data, one * n); });
        });
    set(CURLOPT_HEADERDATA, &transfer);
    set(
        CURLOPT_HEADERFUNCTION, +[](char* data, size_t one, size_t n, void* to) {
            auto& t = *static_cast<Transfer*>(to);
            return guarded(t, one * n, [&] { t.header(std::string(data, one * n)); });
        });
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFODATA, &transfer);
    set(
        CURLOPT_XFERINFOFUNCTION, +[](void* of, curl_off_t, curl_off_t, curl_off_t, curl_off_t) -> int {
            return static_cast<Transfer*>(of)->stop->load();
        });
    const CURLcode code = curl_easy_perform(curl_);
    if (stop_) throw Stopped();
    if (transfer.thrown) std::rethrow_exception(transfer.thrown);
    const std::string from = origin(url) + ": ";
    if (code != CURLE_OK) {
        const std::string reason = from + printable(*error ? error : curl_easy_strerror(code));
        switch (code) {
            case CURLE_UNSUPPORTED_PROTOCOL:
            case CURLE_URL_MALFORMAT:
            case CURLE_TOO_MANY_REDIRECTS:
            case CURLE_PEER_FAILED_VERIFICATION:
            case CURLE_SSL_CACERT_BADFILE:
            case CURLE_COULDNT_RESOLVE_PROXY:
                throw std::runtime_error(reason);
            default:
                throw Transient(reason);
        }
    }
    const long status = transfer.status();
    if (status == 200 || status == 206) return;
    const std::string said = printable(transfer.message.empty() ? transfer.body : transfer.message).substr(0, 300);
    std::string reason = from + "status " + std::to_string(status) + (said.empty() ? "" : ": " + said);
    if (status == 408 || status == 416 || status == 425 || status == 429 || status >= 500) {
        curl_off_t after = 0;
        curl_easy_getinfo(curl_, CURLINFO_RETRY_AFTER, &after);
        throw Transient(reason, static_cast<double>(after));
    }
    if (status == 401 || status == 403)
        reason += settings_.token.empty() ? " (for what is not public, set HF_TOKEN)" : " (with the token in HF_TOKEN)";
    throw std::runtime_error(reason);
}

Connection::Response Connection::get(const std::string& url) {
    Response response;
    retry("the list of files", [&] {
        Transfer transfer;
        perform(url, transfer);
        response = {std::move(transfer.body), next_link(transfer.link)};
    });
    if (!response.next.empty() && origin(response.next) != origin(url))
        throw std::runtime_error("the hub's list of files goes on at another address, " + printable(response.next));
    return response;
}

void Connection::fetch(const std::string& url, uint64_t offset, uint64_t size, const Sink& sink) {
    Transfer transfer;
    transfer.sink = &sink;
    transfer.offset = offset;
    transfer.size = size;
    perform(url, transfer);
    if (!transfer.begun) transfer.begin();  // there were no bytes
    if (transfer.offset != size)
        throw Transient("the server sent " + std::to_string(transfer.offset) + " of " + std::to_string(size) +
                        " bytes");
}

void Connection::wait(double seconds) const {
    using namespace std::chrono;
    const auto end = steady_clock::now() + duration<double>(seconds);
    while (!stop_ && steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(50));
    if (stop_) throw Stopped();
}

void Connection::retry(const std::string& what, const std::function<void()>& attempt,
                       const std::function<bool()>& progressed) {
    thread_local std::minstd_rand random{std::random_device()()};
    for (int failures = 0;;) {
        try {
            return attempt();
        } catch (const Transient& e) {
            if (progressed()) failures = 0;
            if (++failures > settings_.retries)
                throw std::runtime_error(what + ": " + e.what() + " (after " + std::to_string(failures) + " attempts)");
            if (e.wait > max_wait)
                throw std::runtime_error(what + ": " + e.what() + " (the server asks for a pause of " +
                                         std::to_string(std::lround(e.wait)) + " s: try again then)");
            // Twice as long each time, and not all at the same moment.
            const double back_off = std::min(60.0, 0.5 * std::exp2(failures - 1)) *
                                    std::uniform_real_distribution<double>(0.75, 1.25)(random);
            const double pause = std::max(back_off, e.wait);
            char seconds[32];
            std::snprintf(seconds, sizeof seconds, "%.1f", pause);
            note_(what + ": " + e.what() + "; again in " + seconds + " s");
            wait(pause);
        }
    }
}

}  // namespace hub
