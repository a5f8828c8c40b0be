#include "text/tokenizer/text_stream.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"

namespace gptoss::text {

TextStream::TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stop_strings)
    : tokenizer_(std::move(tokenizer)), stop_strings_(std::move(stop_strings)) {
    for (size_t i = 0; i < stop_strings_.size(); i++)
        if (stop_strings_[i].empty())
            throw Error(Status::InvalidArgument, "stop_strings[" + std::to_string(i) + "] is empty");
}

std::string TextStream::add(Token token, bool last) {
    if (stopped_) return "";
    const std::string_view text = tokenizer_->text_token(token);
    const bool special = text.empty();
    bytes_ += text;
    held_ += take_characters(bytes_);
    if (special || last) {
        if (!bytes_.empty()) held_ += kReplacement;
        bytes_.clear();
    }
    size_t stop = std::string::npos;
    for (const std::string& string : stop_strings_) stop = std::min(stop, held_.find(string));
    stopped_ = stop != std::string::npos;
    const size_t end = stopped_ ? stop : special || last ? held_.size() : held_.size() - waiting();
    std::string out = held_.substr(0, end);
    held_.erase(0, end);
    return out;
}

// Bytes at the end of the text that a stop string begins with.
size_t TextStream::waiting() const {
    size_t most = 0;
    for (const std::string& string : stop_strings_)
        for (size_t n = std::min(string.size() - 1, held_.size()); n > most; n--)
            if (held_.ends_with(std::string_view(string).substr(0, n))) most = n;
    return most;
}

}  // namespace gptoss::text
