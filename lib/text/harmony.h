// OpenAI's Harmony format: conversations to tokens, and what the model answers back to messages.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace gptoss::text {

// The tokens of a conversation given as JSON, ready for the assistant's turn. Throws InvalidArgument, naming the
// message and the field.
std::vector<Token> render_conversation(const Tokenizer& tokenizer, std::string_view conversation_json);

// Takes the tokens of the assistant's turn one by one. Never fails: a message that breaks the format comes back as
// text, flagged, with its tokens.
class HarmonyParser {
  public:
    explicit HarmonyParser(std::shared_ptr<const Tokenizer> tokenizer);

    void process(Token token);
    void reset();

    // Of the message being generated; empty where there is none.
    const std::string& role() const { return message_.role; }
    const std::string& channel() const { return message_.channel; }
    const std::string& recipient() const { return message_.recipient; }
    const std::string& content_type() const { return message_.content_type; }
    // What the last token added to the text: whole characters only.
    const std::string& delta() const { return delta_; }

    bool is_malformed() const { return malformed_; }
    // As a JSON array. The last message is unfinished if tokens of it have come, and is given as if it ended here.
    std::string messages_json() const;

  private:
    enum class State { ExpectStart, Header, Content };
    struct Message {
        std::string role, name, recipient, channel, content_type, content;
        bool malformed = false;
        std::vector<Token> tokens;  // all that came for it
    };

    void begin(const char* role);
    void finish();
    void add_content(Token token);
    std::string header_text() const;
    Message unfinished() const;

    const std::shared_ptr<const Tokenizer> tokenizer_;
    std::vector<Message> messages_;  // finished ones
    State state_;
    Message message_;
    std::string implied_role_;  // of the message whose header is being read, where the header need not name it
    std::vector<Token> header_;
    std::string pending_;  // the start of a character
    std::string delta_;
    bool malformed_ = false;
};

}  // namespace gptoss::text
