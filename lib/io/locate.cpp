#include "io/locate.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <vector>

#include "base/fail.h"
#include "base/file.h"
#include "base/gguf.h"
#include "base/path.h"
#include "base/platform.h"
#include "base/text.h"
#include "io/config.h"
#include "io/json.h"

namespace gptoss::io {

namespace {

constexpr size_t max_small_file = 1 << 20;
constexpr const char* openai_checkpoint = "give openai/gpt-oss-20b's directory, its original/, or a .gguf file";

// "a, b and 3 more", for messages.
std::string list_of(const std::vector<std::string>& names) {
    constexpr size_t most = 3;
    std::string out;
    for (size_t i = 0; i < std::min(most, names.size()); i++) out += (i > 0 ? ", " : "") + quote(names[i]);
    return names.size() > most ? out + " and " + std::to_string(names.size() - most) + " more" : out;
}

// The names in a directory that satisfy a condition.
template <typename F>
std::vector<std::string> names_in(const std::string& directory, F&& wanted) {
    std::vector<std::string> names;
    for (std::string& name : platform::names_in(directory))
        if (wanted(name)) names.push_back(std::move(name));
    return names;
}

bool begins_with(const File& file, std::string_view start) {
    std::string found(start.size(), '\0');
    if (file.size() < start.size()) return false;
    file.read(0, reinterpret_cast<std::byte*>(found.data()), found.size());
    return found == start;
}

// Whether a file begins with a safetensors header: its size, then an object.
bool is_safetensors(const File& file) {
    std::array<std::byte, 9> start;
    if (file.size() < start.size()) return false;
    file.read(0, start.data(), start.size());
    uint64_t size = 0;
    for (int i = 7; i >= 0; i--) size = size << 8 | std::to_integer<uint64_t>(start[i]);
    return size <= file.size() - 8 && start[8] == std::byte{'{'};
}

// What Hugging Face's cache keeps of one model: snapshots/COMMIT, of which refs/main names the current one.
std::string find_snapshot(const std::string& directory) {
    const std::string snapshots = directory + "/snapshots", main = directory + "/refs/main";
    if (is_there(main)) {
        std::string commit = File(main).read_all(max_small_file);
        while (!commit.empty() && (commit.back() == '\n' || commit.back() == ' ')) commit.pop_back();
        const bool is_name = !commit.empty() && commit.find('/') == commit.npos && commit[0] != '.';
        if (is_name && is_directory(snapshots + "/" + commit)) return snapshots + "/" + commit;
    }
    const auto commits =
        names_in(snapshots, [&](const std::string& n) { return n[0] != '.' && is_directory(snapshots + "/" + n); });
    if (commits.size() != 1)
        fail(directory, "is a model in Hugging Face's cache, with " +
                            (commits.empty() ? "no snapshot: download it again"
                                             : std::to_string(commits.size()) + " snapshots, " + list_of(commits) +
                                                   ": give one of snapshots/"));
    return snapshots + "/" + commits[0];
}

// NAME-00002-of-00003.gguf: the name of the file with another number; "" for a name that is not of this form.
std::string split_name(const std::string& name, uint64_t number) {
    constexpr std::string_view form = "-00000-of-00000.gguf";
    if (name.size() < form.size()) return "";
    std::string ending = name.substr(name.size() - form.size());
    for (size_t i = 0; i < form.size(); i++)
        if (form[i] == '0' ? ending[i] < '0' || ending[i] > '9' : ascii_lower({&ending[i], 1})[0] != form[i]) return "";
    std::string digits = std::to_string(number);
    digits.insert(0, 5 - std::min<size_t>(5, digits.size()), '0');
    return name.substr(0, name.size() - form.size()) + ending.replace(1, 5, digits);
}

bool is_gguf_name(const std::string& name) { return ascii_lower(name).ends_with(".gguf"); }

// The GGUF model of a directory that has no other; "" for none.
std::string find_gguf(const std::string& directory) {
    const auto models = names_in(directory, [&](const std::string& name) {
        if (!is_gguf_name(name) || ascii_lower(name).starts_with("mmproj")) return false;
        const std::string first = split_name(name, 1);
        return first.empty() || first == name || !is_there(directory + "/" + first);
    });
    if (models.size() > 1)
        fail(directory,
             "holds " + std::to_string(models.size()) + " GGUF models, " + list_of(models) + ": give one of them");
    return models.empty() ? "" : directory + "/" + models[0];
}

[[noreturn]] void refuse_adapter(const std::string& directory) {
    const std::string path = directory + "/adapter_config.json";
    const std::string text = File(path).read_all(max_small_file);
    const JsonRoot<nlohmann::json> document = parse_json(text.data(), text.size(), path);
    const JsonOrigin origin = json_origin(path);
    const std::string base =
        JsonNode(*document, origin).text({"base_model_name_or_path"}, "a model that it does not name");
    fail(directory, "is a PEFT adapter of " + quote(base) + ", not a model: give the model itself");
}

[[noreturn]] void refuse_metal(const std::string& path) {
    fail(path, "is in OpenAI's Metal format, which this library does not read: " + std::string(openai_checkpoint));
}

Location locate_directory(const std::string& path) {
    if (is_there(path + "/config.json")) return {path};
    if (is_directory(path + "/snapshots")) return locate_directory(find_snapshot(path));
    if (is_there(path + "/original/config.json")) return {path + "/original"};
    if (const std::string gguf = find_gguf(path); !gguf.empty()) return locate_checkpoint(gguf);
    if (is_there(path + "/adapter_config.json")) refuse_adapter(path);
    for (const char* metal : {"/model.bin", "/metal/model.bin"})
        if (is_there(path + metal)) refuse_metal(path);
    const auto cached = names_in(path, [](const std::string& name) { return name.starts_with("models--"); });
    if (!cached.empty())
        fail(path, "is Hugging Face's cache of several models: give the directory of one, such as " + list_of(cached));
    if (is_directory(path + "/blobs") && is_directory(path + "/manifests"))
        fail(path, "is Ollama's store of models, whose gpt-oss this library does not read: " +
                       std::string(openai_checkpoint));
    const auto weights = names_in(path, [](const std::string& name) { return name.ends_with(".safetensors"); });
    if (!weights.empty())
        fail(path, "holds " + list_of(weights) + " but no config.json: download the model's config.json beside it");
    fail(path, "holds no model: expected config.json with .safetensors files, or a .gguf file");
}

// The directory around a file of a Hugging Face checkpoint.
Location locate_around(const std::string& path) {
    const std::string around = directory_of(path);
    if (is_there(around + "/adapter_config.json") && !is_there(around + "/config.json")) refuse_adapter(around);
    if (!is_there(around + "/config.json"))
        fail(path,
             "is one file of a checkpoint, and there is no config.json beside it: give a directory that has "
             "config.json and the .safetensors files");
    return {around, false, file_name(path)};
}

Location locate_gguf(const File& file) {
    const std::string& path = file.path();
    const Gguf gguf = Gguf::read(file, [](std::string_view key) { return key == "split.no"; });
    const uint32_t number = gguf.integer("split.no").value_or(0);
    if (number == 0) return {path, true};
    const std::string first = split_name(path, 1);
    if (first.empty() || split_name(path, number + 1) != path || !is_there(first))
        fail(path, "is file " + std::to_string(number + 1) +
                       " of a split model, and the first, …-00001-of-….gguf, is "
                       "not beside it: give the first file, with the others beside it");
    return {first, true};
}

}  // namespace

bool is_there(const std::string& path) {
    std::error_code error;
    return std::filesystem::symlink_status(to_path(path), error).type() != std::filesystem::file_type::not_found &&
           !error;
}

Location locate_checkpoint(const std::string& path) {
    if (is_directory(path)) return locate_directory(path);
    const File file(path);
    if (is_gguf(file)) return locate_gguf(file);
    if (is_safetensors(file) || begins_with(file, "{")) return locate_around(path);
    if (begins_with(file, "GPT-OSS v1.0")) refuse_metal(path);
    if (begins_with(file, "PK\x03\x04") || begins_with(file, "\x80\x02"))
        fail(path, "is a PyTorch file, which this library does not read: " + std::string(openai_checkpoint));
    if (begins_with(file, "<"))
        fail(path, "is a web page, perhaps an error in place of the download: download the file again");
    if (file.size() == 0) fail(path, "is empty: download the file again");
    fail(path, "is not a GGUF file, nor a file of a Hugging Face checkpoint");
}

}  // namespace gptoss::io
