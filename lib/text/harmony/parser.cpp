#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "text/harmony/harmony.h"

namespace gptoss::text {

namespace {

constexpr const char* end_of_text = "<|endoftext|>";

bool is(const std::string* name, Special special) { return name && *name == special_name(special); }

bool ends_message(const std::string* name) {
    return is(name, Special::End) || is(name, Special::Return) || is(name, Special::Call) ||
           (name && *name == end_of_text);
}

// So that the next push_back cannot fail.
template <typename T>
void make_room(std::vector<T>& vector) {
    if (vector.size() == vector.capacity()) vector.reserve(2 * vector.size() + 8);
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
    Reading first = header_of("assistant");  // the prompt ends with "<|start|>assistant"
    messages_.clear();
    malformed_ = false;
    now_ = std::move(first);
}

// A header is read next; role is what it means where it names none.
HarmonyParser::Reading HarmonyParser::header_of(const char* role) {
    Reading reading;
    reading.state = State::Header;
    reading.message.role = reading.implied_role = role;
    return reading;
}

void HarmonyParser::process(Token token) {
    const std::string* name = tokenizer_->special_token_name(token);
    const bool ends = ends_message(name);
    if (now_.state == State::Content && !ends)
        add_content(token, name);
    else if (now_.state == State::Header && !ends && !is(name, Special::Start) && !is(name, Special::Message))
        add_to_header(token);
    else
        begin_or_end(token, name);
    malformed_ = malformed_ || now_.message.malformed;
}

void HarmonyParser::add_content(Token token, const std::string* name) {
    const std::string_view bytes = name ? *name : tokenizer_->text_token(token);
    std::string pending = now_.pending;
    pending += bytes.empty() ? kReplacement : bytes;
    std::string delta = take_characters(pending);
    make_room(now_.message.tokens);
    now_.message.content += delta;
    // from here nothing can fail
    now_.message.tokens.push_back(token);
    if (name || bytes.empty()) now_.message.malformed = true;
    now_.pending = std::move(pending);
    now_.delta = std::move(delta);
}

void HarmonyParser::add_to_header(Token token) {
    make_room(now_.message.tokens);
    make_room(now_.header);
    now_.message.tokens.push_back(token);
    now_.header.push_back(token);
    now_.delta.clear();
}

// What begins or ends a message or its header, on a copy of what is being read.
void HarmonyParser::begin_or_end(Token token, const std::string* name) {
    Reading next = now_;
    std::vector<Message> finished;
    if (now_.state == State::ExpectStart && !is(name, Special::Start)) {
        next = header_of("assistant");  // a message without its start
        next.message.malformed = true;
    }
    if (is(name, Special::Start)) {
        if (!next.header.empty()) finished.push_back(unfinished(next));  // a header that never came to its end
        next = header_of("");
        next.message.tokens.push_back(token);
    } else {
        next.message.tokens.push_back(token);
        if (is(name, Special::Message)) {
            Header header = parse_header(header_text(next), next.implied_role, true);
            next.message.role = std::move(header.role);
            next.message.name = std::move(header.name);
            next.message.recipient = std::move(header.recipient);
            next.message.channel = std::move(header.channel);
            next.message.content_type = std::move(header.content_type);
            next.message.malformed = next.message.malformed || header.malformed;
            next.state = State::Content;
        } else if (ends_message(name)) {
            if (*name == end_of_text) next.message.malformed = true;
            finished.push_back(unfinished(next));
            next = {};
        } else {
            next.header.push_back(token);
        }
    }
    next.delta.clear();
    make_room(messages_);
    // from here nothing can fail
    for (Message& message : finished) {
        malformed_ = malformed_ || message.malformed;
        messages_.push_back(std::move(message));
    }
    now_ = std::move(next);
}

std::string HarmonyParser::header_text(const Reading& reading) const {
    std::string bytes;
    for (Token token : reading.header) {
        const std::string* name = tokenizer_->special_token_name(token);
        bytes += name ? *name : tokenizer_->text_token(token);
    }
    std::string text = take_characters(bytes);
    return bytes.empty() ? text : text + kReplacement;
}

// The message as it is if its turn ends here.
HarmonyParser::Message HarmonyParser::unfinished(const Reading& reading) const {
    Message message = reading.message;
    if (reading.state == State::Header) {
        Header header = parse_header(header_text(reading), reading.implied_role, false);
        message.role = std::move(header.role);
        message.name = std::move(header.name);
        message.channel = std::move(header.channel);
        message.content = std::move(header.rest);
        message.malformed = true;
    } else if (!reading.pending.empty()) {
        message.content += kReplacement;
    }
    return message;
}

// Written without a document of the JSON library's, which could not be destroyed where memory is short.
std::string HarmonyParser::messages_json() const {
    std::string out;
    const auto quoted = [](const std::string& text) { return nlohmann::json(text).dump(); };
    const auto add = [&](const Message& message) {
        const auto member = [&](const char* name, const std::string& value) {
            if (!value.empty()) out += std::string(",\"") + name + "\":" + quoted(value);
        };
        out += (out.empty() ? "{\"role\":" : ",{\"role\":") + quoted(message.role);
        member("name", message.name);
        member("recipient", message.recipient);
        out += ",\"content\":" + quoted(message.content);
        member("channel", message.channel);
        member("content_type", message.content_type);
        if (message.malformed) {
            out += ",\"raw_tokens\":[";
            for (const Token& token : message.tokens)
                out += (&token == &message.tokens[0] ? "" : ",") + std::to_string(token);
            out += "]";
        }
        out += "}";
    };
    for (const Message& message : messages_) add(message);
    if (now_.state != State::ExpectStart && !now_.message.tokens.empty()) add(unfinished(now_));
    return "[" + out + "]";
}

}  // namespace gptoss::text
