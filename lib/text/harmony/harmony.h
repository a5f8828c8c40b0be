// OpenAI's Harmony format: conversations to tokens, and what the model answers back to messages.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace gptoss::text {

// The tokens of a conversation given as JSON, ready for the assistant's turn. Throws InvalidArgument, naming the
// message and the field.
std::vector<Token> render_conversation(const Tokenizer& tokenizer, std::string_view conversation_json);

// Takes the tokens of the assistant's turn one by one. No token is refused: a message that breaks the format comes back
// as text, flagged, with its tokens. Where memory is too short for a token nothing has happened, and it can come again.
class HarmonyParser {
  public:
    explicit HarmonyParser(std::shared_ptr<const Tokenizer> tokenizer);

    // Values equal enum gptoss_harmony_state of the public header.
    enum class State { ExpectStart, Header, Content };

    void process(Token token);
    void reset();

    State state() const { return now_.state; }

    // Of the message being generated; empty where there is none.
    const std::string& role() const { return now_.message.role; }
    const std::string& channel() const { return now_.message.channel; }
    const std::string& recipient() const { return now_.message.recipient; }
    const std::string& content_type() const { return now_.message.content_type; }
    // What the last token added to the text: whole characters only.
    const std::string& delta() const { return now_.delta; }

    bool is_malformed() const { return malformed_; }
    // As a JSON array. The last message is unfinished if tokens of it have come, and is given as if it ended here.
    std::string messages_json() const;

  private:
    struct Message {
        std::string role, name, recipient, channel, content_type, content;
        bool malformed = false;
        std::vector<Token> tokens;  // all that came for it
    };
    // The message being read.
    struct Reading {
        State state = State::ExpectStart;
        Message message;
        std::string implied_role;  // of the message whose header is being read, where the header need not name it
        std::vector<Token> header;
        std::string pending;  // the start of a character
        std::string delta;
    };

    static Reading header_of(const char* role);
    void add_content(Token token, const std::string* name);
    void add_to_header(Token token);
    void begin_or_end(Token token, const std::string* name);
    std::string header_text(const Reading& reading) const;
    Message unfinished(const Reading& reading) const;

    const std::shared_ptr<const Tokenizer> tokenizer_;
    std::vector<Message> messages_;  // finished ones
    Reading now_;
    bool malformed_ = false;
};

}  // namespace gptoss::text
