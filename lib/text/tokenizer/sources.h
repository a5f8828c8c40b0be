// Where vocabularies come from. Parsers take the bytes of a file; messages name what in it is wrong, not the file.
#pragma once

#include <string_view>

#include "base/gguf.h"
#include "text/tokenizer/tokenizer.h"

namespace gptoss::text {

// The built-in vocabulary, from o200k.bin.
TokenizerParts o200k_parts();
// A .tiktoken file: a line a token, its bytes in base64 and its rank. It says nothing of a pattern and of special
// tokens: they are o200k's, the special tokens following the last rank in o200k_harmony's order.
TokenizerParts parse_tiktoken(std::string_view bytes);
// Hugging Face's tokenizer.json with a byte-level BPE model.
TokenizerParts parse_tokenizer_json(std::string_view bytes);
// What of a GGUF file's metadata makes a vocabulary, and the vocabulary; nullopt if there is none.
bool is_vocabulary_key(std::string_view key);
std::optional<TokenizerParts> gguf_vocabulary(const Gguf& gguf);

// The special tokens of o200k_harmony, the first with id `first`.
std::vector<SpecialToken> harmony_specials(Token first);

// What a token in GPT-2's byte-level alphabet stands for; the text itself if it is not all in that alphabet.
std::string from_byte_level(std::string_view text);

// The merge of two tokens in that alphabet; no_token for each of the three that does not exist.
Vocabulary::Merge find_merge(const Vocabulary& vocabulary, std::string_view left, std::string_view right);

}  // namespace gptoss::text
