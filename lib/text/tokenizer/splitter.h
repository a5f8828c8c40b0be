// Cuts text into the pieces that are encoded on their own, by the vocabulary's regular expressions.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;

namespace gptoss::text {

// The o200k pattern, as published.
extern const char* const o200k_pattern;
// GPT-2's, which "ByteLevel" pre-tokenizers imply.
extern const char* const gpt2_pattern;

class Splitter {
  public:
    struct Rule {
        std::string pattern;
        bool keep_matches = true;  // what is not kept is no piece: it is dropped
        bool keep_gaps = true;     // text between matches
    };
    // What one thread needs while it splits.
    class Scratch {
      public:
        explicit Scratch(const Splitter& splitter);

      private:
        friend class Splitter;
        struct Free {
            void operator()(pcre2_real_match_data_8* data) const;
            void operator()(pcre2_real_match_context_8* limits) const;
        };
        std::unique_ptr<pcre2_real_match_context_8, Free> limits_;
        std::vector<std::unique_ptr<pcre2_real_match_data_8, Free>> match_data_;  // one a rule
    };
    using Sink = std::function<void(std::string_view piece)>;

    // Rules apply one after another, each to the pieces of the one before. Throws IoError for a pattern that does not
    // compile.
    explicit Splitter(const std::vector<Rule>& rules);

    // Hands every piece to the sink, in order. text must be valid UTF-8. Throws UnsupportedArgument where a pattern
    // takes too many steps.
    void split(std::string_view text, Scratch& scratch, const Sink& sink) const;

  private:
    struct Free {
        void operator()(pcre2_real_code_8* code) const;
    };
    struct Compiled {
        std::unique_ptr<pcre2_real_code_8, Free> code;
        bool keep_matches, keep_gaps;
    };

    void split(size_t rule, std::string_view text, Scratch& scratch, const Sink& sink) const;

    std::vector<Compiled> rules_;
};

}  // namespace gptoss::text
