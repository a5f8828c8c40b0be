// A conversation with a model: renders it, generates, runs the functions that the model calls.
#pragma once

#include <vector>

#include "conversation.h"
#include "handles.h"
#include "options.h"
#include "view.h"

namespace chat {

class Chat {
  public:
    enum class Outcome { Answered, Stopped, Failed };

    // Loads the model. Throws Failure.
    Chat(const Options& options, View& view);

    Conversation conversation;

    // Says this to the model and shows its answer. What the model gets wrong is shown; throws Failure for what the
    // library can't do. A turn without an answer is forgotten.
    Outcome answer(const std::string& text);

    // Such as "gptoss-nano on llvmpipe".
    std::string title() const;

  private:
    // Where the model's messages end: with its answer, with a call, or before either.
    struct Reply {
        Json messages;
        gptoss_stop_reason stop = gptoss_stop_reason_none;
        bool interrupted = false;
    };

    static int on_token(void* self, uint32_t token);
    std::vector<uint32_t> render() const;
    std::vector<uint32_t> render_what_fits();
    Reply generate();
    Json messages() const;
    void show_malformed(const Reply& reply) const;
    Outcome finish(const Reply& reply);

    View& view_;
    Model model_;
    Tokenizer tokenizer_;
    Context context_;
    Sampler sampler_;
    Parser parser_;
    std::string name_;
    size_t context_length_ = 0;
    size_t max_tokens_;
    std::vector<uint32_t> reply_tokens_;
};

}  // namespace chat
