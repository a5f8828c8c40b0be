// The text of an answer as its tokens come, up to a stop string.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace gptoss::text {

class TextStream {
  public:
    // Throws InvalidArgument for an empty stop string.
    TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stop_strings);

    // Returns what the text grows by, whole characters: what is not UTF-8 becomes U+FFFD, and what may begin a stop
    // string waits for the next tokens. A special token is no text, and ends what waits. last: nothing waits any more.
    std::string add(Token token, bool last);
    // Whether a stop string stands in the text, which then ends before it.
    bool stopped() const { return stopped_; }

  private:
    size_t waiting() const;

    const std::shared_ptr<const Tokenizer> tokenizer_;
    const std::vector<std::string> stop_strings_;
    std::string bytes_;  // the start of a character
    std::string held_;   // whole characters
    bool stopped_ = false;
};

}  // namespace gptoss::text
