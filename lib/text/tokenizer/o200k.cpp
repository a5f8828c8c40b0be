#include <zlib.h>

#include <new>

#include "base/error.h"
#include "text/tokenizer/sources.h"

namespace gptoss {
extern const unsigned char o200k_data[];
extern const size_t o200k_data_size;
}  // namespace gptoss

namespace gptoss::text {

namespace {

constexpr uint32_t num_tokens = 199998;
constexpr uint32_t num_merges = num_tokens - 256;
constexpr uint32_t num_specials = 201088 - num_tokens;

}  // namespace

std::vector<SpecialToken> harmony_specials(Token first) {
    static const std::pair<uint32_t, const char*> named[] = {
        {0, "<|startoftext|>"}, {1, "<|endoftext|>"},    {4, "<|return|>"}, {5, "<|constrain|>"},
        {7, "<|channel|>"},     {8, "<|start|>"},        {9, "<|end|>"},    {10, "<|message|>"},
        {14, "<|call|>"},       {20, "<|endofprompt|>"},
    };
    std::vector<SpecialToken> specials;
    for (uint32_t i = 0; i < num_specials; ++i)
        specials.push_back({"<|reserved_" + std::to_string(first + i) + "|>", first + i});
    for (auto& [i, name] : named) specials[i].name = name;
    return specials;
}

// The format is described where it is made: make_o200k.py.
TokenizerParts o200k_parts() {
    std::vector<unsigned char> data(256 + 6 * num_merges);
    uLongf size = data.size();
    const int result = uncompress(data.data(), &size, o200k_data, o200k_data_size);
    if (result == Z_MEM_ERROR) throw std::bad_alloc();
    if (result != Z_OK || size != data.size()) throw Error(Status::InternalError, "the built-in vocabulary is damaged");
    std::vector<Vocabulary::Merge> merges(num_merges);
    const unsigned char* plane = data.data() + 256;
    for (Token Vocabulary::Merge::*side : {&Vocabulary::Merge::left, &Vocabulary::Merge::right})
        for (int shift = 0; shift < 24; shift += 8, plane += num_merges)
            for (uint32_t i = 0; i < num_merges; ++i) merges[i].*side |= uint32_t{plane[i]} << shift;

    std::string arena(reinterpret_cast<const char*>(data.data()), 256);
    arena.reserve(1400000);
    std::vector<uint32_t> offsets;
    offsets.reserve(num_tokens + 1);
    for (uint32_t i = 0; i <= 256; ++i) offsets.push_back(i);
    for (uint32_t i = 0; i < num_merges; ++i) {
        for (Token part : {merges[i].left, merges[i].right})
            arena.append(arena, offsets[part], offsets[part + 1] - offsets[part]);
        merges[i].token = 256 + i;
        offsets.push_back(static_cast<uint32_t>(arena.size()));
    }
    Vocabulary vocabulary(std::move(arena), std::move(offsets));
    vocabulary.set_merges(merges);
    return {.vocabulary = std::move(vocabulary),
            .splitter = Splitter({{o200k_pattern}}),
            .specials = harmony_specials(num_tokens)};
}

}  // namespace gptoss::text
