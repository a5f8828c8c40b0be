#include <algorithm>
#include <fstream>
#include <system_error>

#include "base/directory.h"
#include "base/error.h"
#include "text/tokenizer/sources.h"

namespace gptoss::text {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t max_file = 256 << 20;  // real vocabularies stay below 30 MB; GGUF metadata likewise

// The file, or its start if it is larger.
std::string read(const fs::path& path, uint64_t max_size) {
    std::ifstream file(path, std::ios::binary);
    std::error_code error;
    const uint64_t size = fs::file_size(path, error);
    std::string bytes;
    if (file && !error) {
        bytes.resize(std::min(size, max_size));
        file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    if (!file || error) throw Error(Status::IoError, path.string() + ": cannot be read");
    return bytes;
}

bool has_extension(const fs::path& path, const char* extension) { return path.extension() == extension; }

// nullopt: a GGUF file without a vocabulary.
std::optional<TokenizerParts> parse(const fs::path& path) {
    try {
        if (has_extension(path, ".gguf")) {
            // Metadata comes first and is small beside the weights: most often the first part of the file has it all.
            const uint64_t size = fs::file_size(path);
            for (uint64_t part = 32 << 20;; part = max_file) {
                try {
                    return parse_gguf(read(path, part));
                } catch (const Error&) {
                    if (part >= std::min(size, max_file)) throw;
                }
            }
        }
        const std::string bytes = read(path, max_file + 1);
        if (bytes.size() > max_file) throw Error(Status::IoError, "too large for a vocabulary");
        if (has_extension(path, ".tiktoken")) return parse_tiktoken(bytes);
        if (has_extension(path, ".json")) return parse_tokenizer_json(bytes);
    } catch (const Error& e) {
        const std::string name = path.string() + ": ";
        throw Error(e.status(), std::string_view(e.what()).starts_with(name) ? e.what() : name + e.what());
    }
    throw Error(Status::IoError, path.string() + ": neither .json, .tiktoken nor .gguf");
}

// The vocabulary file of a directory: the first by name of the first kind that is there.
std::optional<fs::path> find_file(const fs::path& directory) {
    if (fs::exists(directory / "tokenizer.json")) return directory / "tokenizer.json";
    const std::vector<fs::path> paths = paths_in(directory);
    for (const char* extension : {".tiktoken", ".gguf"})
        for (const fs::path& path : paths)
            if (has_extension(path, extension)) return path;
    return std::nullopt;
}

std::optional<TokenizerParts> parse_path(const fs::path& path) {
    try {
        if (!fs::is_directory(path)) return parse(path);
        std::optional<fs::path> file = find_file(path);
        if (file) return parse(*file);
        return std::nullopt;
    } catch (const fs::filesystem_error& e) {
        throw Error(Status::IoError, path.string() + ": " + e.code().message());
    }
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::o200k_harmony() { return std::make_shared<const Tokenizer>(o200k_parts()); }

std::shared_ptr<const Tokenizer> Tokenizer::from_path(const fs::path& path) {
    std::optional<TokenizerParts> parts = parse_path(path);
    if (!parts) throw Error(Status::IoError, path.string() + ": holds no vocabulary");
    return std::make_shared<const Tokenizer>(std::move(*parts));
}

std::shared_ptr<const Tokenizer> Tokenizer::for_checkpoint(const fs::path& path) {
    std::optional<TokenizerParts> parts = parse_path(path);
    return std::make_shared<const Tokenizer>(parts ? std::move(*parts) : o200k_parts());
}

}  // namespace gptoss::text
