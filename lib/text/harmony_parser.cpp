#include <nlohmann/json.hpp>

#include "text/harmony.h"
#include "text/utf8.h"

namespace gptoss::text {

namespace {

constexpr const char* replacement = "\xEF\xBF\xBD";  // U+FFFD

// Moves the whole characters of bytes to the result, each invalid sequence as U+FFFD, and leaves the start of one.
std::string take_characters(std::string& bytes) {
    std::string out;
    size_t i = 0;
    while (i < bytes.size()) {
        const Utf8Step step = utf8_step(std::string_view(bytes).substr(i));
        if (step.incomplete) break;
        if (step.valid)
            out.append(bytes, i, step.size);
        else
            out += replacement;
        i += step.size;
    }
    bytes.erase(0, i);
    return out;
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// The parts of text between white space.
std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words;
    bool in_word = false;
    for (char c : text) {
        if (is_space(c)) {
            in_word = false;
        } else {
            if (!in_word) words.emplace_back();
            words.back() += c;
            in_word = true;
        }
    }
    return words;
}

std::string join(const std::vector<std::string>& words) {
    std::string out;
    for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
    return out;
}

bool is_role(std::string_view name) {
    return name == "user" || name == "assistant" || name == "system" || name == "developer" || name == "tool";
}

struct Header {
    std::string role, name, recipient, channel, content_type;
    std::string rest;  // what is no part of a header
    bool malformed = false;
};

// Takes "<|channel|>name" out of text; what stands around it closes up.
void take_channel(std::string& text, Header& header) {
    const std::string_view marker = special_name(Special::Channel);
    const size_t at = text.find(marker);
    if (at == std::string::npos) return;
    size_t end = at + marker.size();
    while (end < text.size() && !is_space(text[end]) && text[end] != '<') ++end;
    header.channel = text.substr(at + marker.size(), end - at - marker.size());
    if (header.channel.empty()) header.malformed = true;
    text.erase(at, end - at);
}

// A recipient, which may do without "to=", and a content type behind it. Of more words the best is made.
void read_words(const std::vector<std::string>& words, Header& header) {
    auto is_recipient = [](const std::string& word) { return word.starts_with("to="); };
    auto name_of = [&](const std::string& word) { return is_recipient(word) ? word.substr(3) : word; };
    if (words.size() == 1 || (words.size() == 2 && !is_recipient(words[1]))) {
        header.recipient = name_of(words[0]);
        if (words.size() == 2) header.content_type = words[1];
    } else if (!words.empty()) {
        header.malformed = true;
        for (const std::string& word : words) {
            if (header.recipient.empty() && is_recipient(word))
                header.recipient = name_of(word);
            else
                header.content_type += (header.content_type.empty() ? "" : " ") + word;
        }
    }
}

// implied_role: of a header that need not name its role; "" for others. Of a header that has no end, only the role and
// the channel count: the rest is text.
Header parse_header(std::string text, const std::string& implied_role, bool has_end) {
    Header header;
    take_channel(text, header);
    const std::string constrain(special_name(Special::Constrain));
    for (size_t at = 0; (at = text.find(constrain, at)) != std::string::npos; at += constrain.size() + 1)
        text.insert(at, " ");  // "to=f<|constrain|>json" is two words
    std::vector<std::string> words = words_of(text);

    header.role = implied_role;
    if (header.role.empty()) {
        header.role = "assistant";
        if (words.empty()) {
            header.malformed = true;
        } else if (is_role(words[0])) {
            header.role = words[0];
            if (header.role == "tool") header.name = words[0];
        } else if (words.size() > 1) {  // the name of a tool and a recipient
            header.role = "tool";
            header.name = words[0];
            words.erase(words.begin());
        } else {
            header.malformed = true;
            if (has_end) words.clear();  // a role that is none is no recipient either
        }
    }
    if (!words.empty() && words[0] == header.role) words.erase(words.begin());

    if (has_end) {
        read_words(words, header);
    } else {
        header.rest = join(words);
        header.malformed = true;
    }
    // A second marker glued to the recipient: the model began its header anew.
    const std::string_view channel = special_name(Special::Channel);
    if (size_t at = header.recipient.find(channel); at != std::string::npos) {
        header.recipient.erase(at);
        header.malformed = true;
    }
    return header;
}

}  // namespace

HarmonyParser::HarmonyParser(std::shared_ptr<const Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) { reset(); }

void HarmonyParser::reset() {
    messages_.clear();
    malformed_ = false;
    begin("assistant");  // the prompt ends with "<|start|>assistant"
}

// Reads a header next; role is what it means where it names none.
void HarmonyParser::begin(const char* role) {
    state_ = State::Header;
    message_ = {};
    message_.role = implied_role_ = role;
    header_.clear();
    pending_.clear();
    delta_.clear();
}

void HarmonyParser::process(Token token) {
    delta_.clear();
    const std::string* name = tokenizer_->special_token_name(token);
    auto is = [&](Special special) { return name && *name == special_name(special); };
    const bool ends = is(Special::End) || is(Special::Return) || is(Special::Call);

    if (state_ == State::ExpectStart && !is(Special::Start)) {
        begin("assistant");  // a message without its start
        message_.malformed = true;
    }
    if (is(Special::Start) && state_ != State::Content) {
        if (!header_.empty()) finish();  // a header that never came to its end
        begin("");
        message_.tokens.push_back(token);
        return;
    }
    message_.tokens.push_back(token);
    if (ends || (name && *name == "<|endoftext|>")) {
        if (!ends) message_.malformed = true;
        finish();
    } else if (state_ == State::Content) {
        add_content(token);
    } else if (is(Special::Message)) {
        Header header = parse_header(header_text(), implied_role_, true);
        message_.role = std::move(header.role);
        message_.name = std::move(header.name);
        message_.recipient = std::move(header.recipient);
        message_.channel = std::move(header.channel);
        message_.content_type = std::move(header.content_type);
        message_.malformed = message_.malformed || header.malformed;
        state_ = State::Content;
    } else {
        header_.push_back(token);
    }
    malformed_ = malformed_ || message_.malformed;
}

void HarmonyParser::add_content(Token token) {
    const std::string* name = tokenizer_->special_token_name(token);
    const std::string_view bytes = name ? *name : tokenizer_->text_token(token);
    if (name || bytes.empty()) message_.malformed = true;
    pending_ += bytes.empty() ? replacement : bytes;
    delta_ = take_characters(pending_);
    message_.content += delta_;
}

std::string HarmonyParser::header_text() const {
    std::string bytes;
    for (Token token : header_) {
        const std::string* name = tokenizer_->special_token_name(token);
        bytes += name ? *name : tokenizer_->text_token(token);
    }
    std::string text = take_characters(bytes);
    return bytes.empty() ? text : text + replacement;
}

// The message as it is if its turn ends here.
HarmonyParser::Message HarmonyParser::unfinished() const {
    Message message = message_;
    if (state_ == State::Header) {
        Header header = parse_header(header_text(), implied_role_, false);
        message.role = std::move(header.role);
        message.name = std::move(header.name);
        message.channel = std::move(header.channel);
        message.content = std::move(header.rest);
        message.malformed = true;
    } else if (!pending_.empty()) {
        message.content += replacement;
    }
    return message;
}

void HarmonyParser::finish() {
    messages_.push_back(unfinished());
    malformed_ = malformed_ || messages_.back().malformed;
    begin("");
    state_ = State::ExpectStart;
}

std::string HarmonyParser::messages_json() const {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    auto add = [&](const Message& message) {
        nlohmann::ordered_json json = {{"role", message.role}};
        if (!message.name.empty()) json["name"] = message.name;
        if (!message.recipient.empty()) json["recipient"] = message.recipient;
        json["content"] = message.content;
        if (!message.channel.empty()) json["channel"] = message.channel;
        if (!message.content_type.empty()) json["content_type"] = message.content_type;
        if (message.malformed) json["raw_tokens"] = message.tokens;
        out.push_back(std::move(json));
    };
    for (const Message& message : messages_) add(message);
    if (state_ != State::ExpectStart && !message_.tokens.empty()) add(unfinished());
    return out.dump();
}

}  // namespace gptoss::text
