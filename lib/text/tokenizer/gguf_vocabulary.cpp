#include <cstring>

#include "base/error.h"
#include "text/tokenizer/sources.h"

namespace gptoss::text {

namespace {

// Value types of GGUF metadata.
enum Type : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64 };

class Reader {
  public:
    explicit Reader(std::string_view bytes) : bytes_(bytes) {}

    template <typename T>
    T value() {
        T out;
        std::memcpy(&out, take(sizeof out).data(), sizeof out);
        return out;
    }
    std::string_view string() { return take(value<uint64_t>()); }
    std::string_view take(uint64_t size) {
        if (size > bytes_.size()) throw Error(Status::IoError, "the metadata is truncated");
        std::string_view out = bytes_.substr(0, size);
        bytes_.remove_prefix(size);
        return out;
    }
    void skip(uint32_t type) {
        if (type == String) {
            string();
        } else if (type == Array) {
            const uint32_t element = value<uint32_t>();
            if (element == Array) throw Error(Status::IoError, "an array of arrays in the metadata");
            for (uint64_t count = value<uint64_t>(); count > 0; --count) skip(element);
        } else {
            static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
            if (type >= sizeof sizes) throw Error(Status::IoError, "value type " + std::to_string(type));
            take(sizes[type]);
        }
    }

  private:
    std::string_view bytes_;
};

struct Metadata {
    std::string_view model, pre;
    std::vector<std::string_view> tokens, merges;
    std::vector<int32_t> types;
    Token unknown = no_token;
};

// The count of an array whose elements must have this type.
uint64_t array_of(Reader& reader, std::string_view key, uint32_t type, uint32_t expected) {
    if (type != Array || reader.value<uint32_t>() != expected)
        throw Error(Status::IoError, std::string(key) + " has an unexpected type");
    const uint64_t count = reader.value<uint64_t>();
    if (count > max_vocabulary)
        throw Error(Status::IoError, std::string(key) + " has " + std::to_string(count) + " elements");
    return count;
}

void read_strings(Reader& reader, std::string_view key, uint32_t type, std::vector<std::string_view>& out) {
    out.clear();
    for (uint64_t count = array_of(reader, key, type, String); count > 0; --count) out.push_back(reader.string());
}

Metadata read_metadata(std::string_view bytes) {
    Reader reader(bytes);
    if (reader.take(4) != "GGUF") throw Error(Status::IoError, "no GGUF file");
    const uint32_t version = reader.value<uint32_t>();
    if (version != 2 && version != 3) throw Error(Status::IoError, "GGUF version " + std::to_string(version));
    reader.value<uint64_t>();  // tensors
    Metadata out;
    for (uint64_t count = reader.value<uint64_t>(); count > 0; --count) {
        const std::string_view key = reader.string();
        const uint32_t type = reader.value<uint32_t>();
        if (key == "tokenizer.ggml.model" && type == String)
            out.model = reader.string();
        else if (key == "tokenizer.ggml.pre" && type == String)
            out.pre = reader.string();
        else if (key == "tokenizer.ggml.tokens")
            read_strings(reader, key, type, out.tokens);
        else if (key == "tokenizer.ggml.merges")
            read_strings(reader, key, type, out.merges);
        else if (key == "tokenizer.ggml.unknown_token_id" && type == U32)
            out.unknown = reader.value<uint32_t>();
        else if (key == "tokenizer.ggml.token_type") {
            out.types.clear();
            for (uint64_t n = array_of(reader, key, type, I32); n > 0; --n)
                out.types.push_back(reader.value<int32_t>());
        } else
            reader.skip(type);
    }
    return out;
}

}  // namespace

std::optional<TokenizerParts> parse_gguf(std::string_view bytes) {
    const Metadata metadata = read_metadata(bytes);
    if (metadata.tokens.empty()) return std::nullopt;
    if (metadata.model != "gpt2")
        throw Error(Status::UnsupportedArgument, "tokenizer model \"" + std::string(metadata.model) + "\"");
    const bool gpt2 = metadata.pre == "gpt-2";
    if (!gpt2 && metadata.pre != "gpt-4o")
        throw Error(Status::UnsupportedArgument, "pre-tokenizer \"" + std::string(metadata.pre) + "\"");
    if (!metadata.types.empty() && metadata.types.size() != metadata.tokens.size())
        throw Error(Status::IoError, "tokenizer.ggml.token_type has " + std::to_string(metadata.types.size()) +
                                         " elements for " + std::to_string(metadata.tokens.size()) + " tokens");

    if (metadata.unknown != no_token && metadata.unknown >= metadata.tokens.size())
        throw Error(Status::IoError, "tokenizer.ggml.unknown_token_id is " + std::to_string(metadata.unknown));

    constexpr int32_t control = 3, user_defined = 4, unused = 5;
    std::vector<std::string> tokens(metadata.tokens.size());
    std::vector<SpecialToken> specials;
    for (Token token = 0; token < tokens.size(); ++token) {
        const int32_t type = metadata.types.empty() ? 1 : metadata.types[token];
        const std::string name(metadata.tokens[token]);
        if (type == control || type == user_defined || type == unused)
            specials.push_back({name, token, type == user_defined});
        else
            tokens[token] = from_byte_level(name);
    }
    Vocabulary vocabulary(tokens);
    std::vector<Vocabulary::Merge> merges;
    for (std::string_view merge : metadata.merges) {
        // As in llama.cpp, a merge that makes no token of the vocabulary is none.
        const size_t space = merge.find(' ', 1);
        if (space == std::string_view::npos) continue;
        const Vocabulary::Merge pair = find_merge(vocabulary, merge.substr(0, space), merge.substr(space + 1));
        if (pair.left != no_token && pair.right != no_token && pair.token != no_token) merges.push_back(pair);
    }
    vocabulary.set_merges(merges);
    return TokenizerParts{.vocabulary = std::move(vocabulary),
                          .splitter = Splitter({{gpt2 ? gpt2_pattern : o200k_pattern}}),
                          .specials = std::move(specials),
                          .whole_pieces = !gpt2,
                          .unknown = metadata.unknown};
}

}  // namespace gptoss::text
