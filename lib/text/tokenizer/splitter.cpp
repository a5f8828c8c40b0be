#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/tokenizer/splitter.h"

#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <new>

#include "base/error.h"
#include "text/tokenizer/pattern.h"

namespace gptoss::text {

const char* const o200k_pattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

// Alternatives to try before o200k's own, which match ASCII exactly as those do, but without looking up properties of
// characters: words, numbers, punctuation, the end of a line before an indented one, and indentation. None of them
// matches where what follows, such as a character beyond ASCII or an apostrophe after a word, could make it longer.
const std::string o200k_ascii =
    R"([\x00-\x09\x0B\x0C\x0E-/:-@\[-`{-\x7F]?[A-Z]*+[a-z]++(?![^\x00-&(-\x7F])|[0-9]{1,3}+(?![^\x00-\x7F]))"
    R"(|(?: [!-/:-@\[-`{-~]|[!-/:-@\[-`{-~](?![A-Za-z]))[!-/:-@\[-`{-~]*+[\r\n/]*+(?![^\t-\r -~]))"
    R"(|\n(?=[ \t]*+[!-~])|[ ]+(?= [!-~])|)";

}  // namespace

const char* const gpt2_pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void Splitter::Free::operator()(pcre2_code_8* code) const { pcre2_code_free(code); }
void Splitter::Scratch::Free::operator()(pcre2_match_data_8* data) const { pcre2_match_data_free(data); }
void Splitter::Scratch::Free::operator()(pcre2_match_context_8* limits) const { pcre2_match_context_free(limits); }

Splitter::Splitter(const std::vector<Rule>& rules) {
    for (const Rule& rule : rules) {
        int error;
        size_t offset;
        rules_.push_back({{}, rule.keep_matches, rule.keep_gaps});
        const std::string pattern = (rule.pattern == o200k_pattern ? o200k_ascii : "") + portable_pattern(rule.pattern);
        rules_.back().code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                               PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                                               nullptr));
        if (!rules_.back().code) {
            if (error == PCRE2_ERROR_HEAP_FAILED) throw std::bad_alloc();
            char reason[256];
            pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(reason), sizeof reason);
            throw Error(Status::IoError, "pattern \"" + rule.pattern.substr(0, 80) + "\": " + reason + " at offset " +
                                             std::to_string(offset));
        }
        // Where the system forbids executable memory this fails, and pcre2_match interprets the pattern.
        pcre2_jit_compile(rules_.back().code.get(), PCRE2_JIT_COMPLETE);
    }
}

Splitter::Scratch::Scratch(const Splitter& splitter) : limits_(pcre2_match_context_create(nullptr)) {
    if (!limits_) throw std::bad_alloc();
    for (const Compiled& rule : splitter.rules_) {
        std::unique_ptr<pcre2_match_data, Free> data(pcre2_match_data_create_from_pattern(rule.code.get(), nullptr));
        if (!data) throw std::bad_alloc();
        match_data_.push_back(std::move(data));
    }
}

void Splitter::split(std::string_view text, Scratch& scratch, const Sink& sink) const {
    // A few steps a byte, beside PCRE2's own limit: a run of white space is one piece, however long it is.
    const size_t steps = 10'000'000 + 8 * text.size();
    pcre2_set_match_limit(scratch.limits_.get(), static_cast<uint32_t>(std::min<size_t>(steps, UINT32_MAX)));
    split(0, text, scratch, sink);
}

void Splitter::split(size_t index, std::string_view text, Scratch& scratch, const Sink& sink) const {
    if (text.empty()) return;
    if (index == rules_.size()) return sink(text);
    const Compiled& rule = rules_[index];
    pcre2_match_data* data = scratch.match_data_[index].get();
    auto emit = [&](size_t begin, size_t end) { split(index + 1, text.substr(begin, end - begin), scratch, sink); };
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const size_t* match = pcre2_get_ovector_pointer(data);
    size_t end = 0;  // of the match before
    while (end < text.size()) {
        // An empty match would stand still; no pre-tokenizer means one.
        int count = pcre2_match(rule.code.get(), subject, text.size(), end, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data,
                                scratch.limits_.get());
        if (count == PCRE2_ERROR_NOMATCH) break;
        if (count == PCRE2_ERROR_NOMEMORY) throw std::bad_alloc();
        if (count < 0)
            throw Error(Status::UnsupportedArgument, "the vocabulary's pattern takes too many steps on a text of " +
                                                         std::to_string(text.size()) + " bytes");
        const size_t begin = match[0], next = match[1];
        if (rule.keep_gaps && begin > end) emit(end, begin);
        if (rule.keep_matches) emit(begin, next);
        end = next;
    }
    if (rule.keep_gaps && end < text.size()) emit(end, text.size());
}

}  // namespace gptoss::text
