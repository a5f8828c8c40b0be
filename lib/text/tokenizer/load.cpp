#include "base/fail.h"
#include "base/file.h"
#include "base/path.h"
#include "base/platform.h"
#include "base/text.h"
#include "text/tokenizer/sources.h"

namespace gptoss::text {

namespace {

constexpr uint64_t max_file = 256 << 20;  // real vocabularies stay below 30 MB

// A text file's vocabulary: JSON begins with a brace, a .tiktoken file with base64.
TokenizerParts parse_text(const File& file) {
    const std::string text = file.read_all(max_file);
    const size_t begin = text.find_first_not_of(" \t\r\n");
    try {
        return begin != text.npos && text[begin] == '{' ? parse_tokenizer_json(text) : parse_tiktoken(text);
    } catch (const Error& e) {
        throw Error(e.status(), path_text(file.path()) + ": " + e.what());
    }
}

// By content: what a download is called says nothing. nullopt: a GGUF file without a vocabulary.
std::optional<TokenizerParts> parse(const std::string& path) {
    const File file(path);
    if (is_gguf(file)) return gguf_vocabulary(Gguf::read(file, is_vocabulary_key));
    return parse_text(file);
}

// The vocabulary file of a directory: the first by name of the first kind that is there, be it a link to nothing.
std::string find_file(const std::string& directory) {
    const std::vector<std::string> names = platform::names_in(directory);
    for (const std::string& name : names)
        if (name == "tokenizer.json") return directory + "/" + name;
    for (const char* extension : {".tiktoken", ".gguf"})
        for (const std::string& name : names)
            if (ascii_lower(name).ends_with(extension)) return directory + "/" + name;
    fail(directory, "holds no vocabulary: expected a tokenizer.json, .tiktoken or .gguf file");
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::o200k_harmony() { return std::make_shared<const Tokenizer>(o200k_parts()); }

std::shared_ptr<const Tokenizer> Tokenizer::from_path(const std::string& path) {
    // what can't be looked at is a file, which then says why
    std::optional<TokenizerParts> parts = parse(is_directory(path) ? find_file(path) : path);
    if (!parts) fail(path, "holds no vocabulary: expected metadata 'tokenizer.ggml.tokens'");
    return std::make_shared<const Tokenizer>(std::move(*parts));
}

std::shared_ptr<const Tokenizer> Tokenizer::of_model(const std::string& path) {
    std::optional<TokenizerParts> parts = path.empty() ? std::nullopt : parse(path);
    return std::make_shared<const Tokenizer>(parts ? std::move(*parts) : o200k_parts());
}

}  // namespace gptoss::text
