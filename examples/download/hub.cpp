#include "hub.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

namespace hub {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t max_files = 100'000;

bool is_hexadecimal(const std::string& text, size_t length) {
    return text.size() == length && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// A path that stays in the folder that it is resolved in, on any file system, and hides nothing.
bool is_plain(const std::string& path) {
    if (path.empty() || path.size() > 1000 || path.ends_with('/')) return false;
    size_t begin = 0;
    while (begin <= path.size()) {
        const size_t end = std::min(path.find('/', begin), path.size());
        const std::string part = path.substr(begin, end - begin);
        if (part.empty() || part == "." || part == ".." || part.size() > 200) return false;
        begin = end + 1;
    }
    return std::none_of(path.begin(), path.end(), [](unsigned char c) { return c < ' ' || c == 0x7F || c == '\\'; });
}

bool is_name(const std::string& text) {
    return !text.empty() && text.size() <= 96 && text[0] != '.' && text[0] != '-' &&
           std::all_of(text.begin(), text.end(),
                       [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_' || c == '-'; });
}

Json parse(const std::string& text, const std::string& url) {
    Json json = Json::parse(text, nullptr, false);
    if (json.is_discarded()) throw std::runtime_error(url + ": the answer is not JSON: is this a Hugging Face hub?");
    return json;
}

std::string string_at(const Json& json, const char* key) {
    const auto found = json.is_object() ? json.find(key) : json.end();
    return json.is_object() && found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

File read_file(const Json& entry) {
    File file{string_at(entry, "path"), 0, "", string_at(entry, "oid")};
    const auto size = entry.find("size");
    if (size == entry.end() || !size->is_number_unsigned())
        throw std::runtime_error("the hub lists \"" + printable(file.path) + "\" without a size");
    file.size = size->get<uint64_t>();
    if (const auto lfs = entry.find("lfs"); lfs != entry.end() && lfs->is_object()) {
        file.sha256 = string_at(*lfs, "oid");
        file.git_id.clear();  // of the pointer in its place
    }
    return file;
}

bool is_small(const std::string& path) {
    static const char* const names[] = {
        "config.json",         "generation_config.json",  "tokenizer.json",    "tokenizer_config.json",
        "chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "model.safetensors.index.json"};
    return std::find(std::begin(names), std::end(names), path) != std::end(names);
}

// NAME-00001-of-00003.gguf is a part of NAME: then NAME; else the path itself.
std::string gguf_model(const std::string& path) {
    const std::string stem = path.substr(0, path.size() - 5);
    const size_t at = stem.size() - std::min<size_t>(stem.size(), 15);
    const std::string part = stem.substr(at);
    const auto digits = [](const std::string& text) {
        return text.find_first_not_of("0123456789") == std::string::npos;
    };
    const bool split = part.size() == 15 && part[0] == '-' && part.substr(6, 4) == "-of-" &&
                       digits(part.substr(1, 5)) && digits(part.substr(10));
    return split ? stem.substr(0, at) : path;
}

Needed needed_gguf(const std::vector<File>& files, const Name& name) {
    std::map<std::string, std::vector<File>> models;
    for (const File& file : files)
        if (file.path.ends_with(".gguf")) models[gguf_model(file.path)].push_back(file);
    if (!name.file.empty()) {
        const auto found = models.find(gguf_model(name.file));
        if (found == models.end()) throw std::runtime_error(name.repository + " has no file " + name.file);
        models = {{found->first, found->second}};
    }
    if (models.empty())
        throw std::runtime_error(name.repository +
                                 " has no model: neither config.json with .safetensors files, nor .gguf");
    if (models.size() > 1) {
        std::string names;
        for (const auto& [model, parts] : models) names += "\n  " + name.repository + "/" + parts.front().path;
        throw std::runtime_error(name.repository + " has " + std::to_string(models.size()) + " models: name one of" +
                                 names);
    }
    Needed needed;
    needed.weights = models.begin()->second;
    std::sort(needed.weights.begin(), needed.weights.end(),
              [](const File& a, const File& b) { return a.path < b.path; });
    needed.model = needed.weights.front().path;
    if (models.begin()->first == needed.model) return needed;
    const size_t parts = std::stoul(needed.model.substr(needed.model.size() - 10, 5));
    if (parts != needed.weights.size())
        throw std::runtime_error(name.repository + " has " + std::to_string(needed.weights.size()) + " of the " +
                                 std::to_string(parts) + " files of " + models.begin()->first);
    return needed;
}

}  // namespace

Name Name::parse(const std::string& text) {
    Name name;
    std::string rest = text.starts_with("hf:") ? text.substr(3) : text;
    const size_t at = rest.find('@');
    if (at != std::string::npos) name.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
    const size_t slash = rest.find('/'), second = rest.find('/', slash == std::string::npos ? slash : slash + 1);
    if (second != std::string::npos) name.file = rest.substr(second + 1);
    name.repository = rest.substr(0, second);
    const bool good = slash != std::string::npos && is_name(name.repository.substr(0, slash)) &&
                      is_name(name.repository.substr(slash + 1)) && is_plain(name.revision) &&
                      (second == std::string::npos || (is_plain(name.file) && name.file.ends_with(".gguf")));
    if (!good)
        throw std::runtime_error("\"" + printable(text) +
                                 "\" is no model of a hub: expected OWNER/NAME or OWNER/NAME/FILE.gguf, and @REVISION "
                                 "after it where it is not main");
    return name;
}

std::string Name::text() const {
    return repository + (file.empty() ? "" : "/" + file) + (revision == "main" ? "" : "@" + revision);
}

Listing list(Connection& connection, const Name& name) {
    const std::string api = connection.settings().endpoint + "/api/models/" + name.repository;
    char* const escaped = curl_easy_escape(nullptr, name.revision.c_str(), static_cast<int>(name.revision.size()));
    std::string url = api + "/revision/" + std::string(escaped);
    curl_free(escaped);
    Listing listing;
    listing.commit = string_at(parse(connection.get(url).body, url), "sha");
    if (!is_hexadecimal(listing.commit, 40)) throw std::runtime_error(url + ": the answer names no commit");

    std::set<std::string> paths;
    url = api + "/tree/" + listing.commit + "?recursive=true";
    while (!url.empty()) {
        const Connection::Response page = connection.get(url);
        const Json json = parse(page.body, url);
        if (!json.is_array()) throw std::runtime_error(url + ": the answer is no list of files");
        for (const Json& entry : json) {
            if (string_at(entry, "type") != "file") continue;
            listing.files.push_back(read_file(entry));
            const std::string& path = listing.files.back().path;
            if (!is_plain(path))
                throw std::runtime_error("the hub lists \"" + printable(path) + "\", which is no name for a file here");
            if (!paths.insert(path).second) throw std::runtime_error("the hub lists " + path + " twice");
        }
        if (listing.files.size() > max_files || (json.empty() && !page.next.empty()))
            throw std::runtime_error("the hub's list of files does not end");
        url = page.next;
    }
    return listing;
}

Needed needed(const Listing& listing, const Name& name) {
    Needed needed;
    bool configured = false;
    for (const File& file : listing.files) {
        if (file.path.find('/') != std::string::npos) continue;  // original/, metal/: the same in other formats
        configured |= file.path == "config.json";
        if (is_small(file.path)) needed.small.push_back(file);
        if (file.path.ends_with(".safetensors")) needed.weights.push_back(file);
    }
    if (!configured || needed.weights.empty() || !name.file.empty()) needed = needed_gguf(listing.files, name);
    for (const auto* files : {&needed.small, &needed.weights})
        for (const File& file : *files)
            if (!is_hexadecimal(file.sha256, 64) && !(file.sha256.empty() && is_hexadecimal(file.git_id, 40)))
                throw std::runtime_error("the hub lists " + file.path + " without a checksum");
    return needed;
}

uint64_t Needed::bytes() const {
    uint64_t sum = 0;
    for (const auto* files : {&small, &weights})
        for (const File& file : *files) sum += file.size;
    return sum;
}

fs::path cache_folder(const Name& name) {
    const auto absolute = [](const char* variable) -> const char* {
        const char* value = std::getenv(variable);
        return value && *value == '/' ? value : nullptr;
    };
    std::string revision = name.revision == "main" ? "" : "@" + name.revision;
    std::replace(revision.begin(), revision.end(), '/', '+');
    const std::string folder = name.repository + revision;
    if (const char* models = absolute("GPTOSS_MODELS")) return fs::path(models) / folder;
    const char *cache = absolute("XDG_CACHE_HOME"), *home = absolute("HOME");
    if (!cache && !home) throw std::runtime_error("GPTOSS_MODELS, XDG_CACHE_HOME and HOME name no folder for models");
    return (cache ? fs::path(cache) : fs::path(home) / ".cache") / "libgptoss" / "models" / folder;
}

std::string size_text(uint64_t bytes) {
    static const char* const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    double value = static_cast<double>(bytes);
    size_t unit = 0;
    for (; value >= 999.5 && unit < 4; ++unit) value /= 1000;
    char text[32];
    std::snprintf(text, sizeof text, unit > 0 && value < 99.5 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

}  // namespace hub
