// A conversation with a model: renders it, generates, runs the functions that the model calls.
#pragma once

#include <gptoss.hpp>

#include <optional>
#include <vector>

#include "conversation.h"
#include "options.h"
#include "view.h"

namespace chat {

class Chat {
  public:
    enum class Outcome { Answered, Stopped, Failed };

    // Loads the model. Throws gptoss::Error.
    Chat(const Options& options, View& view);

    Conversation conversation;
    Settings settings;  // of the next answer

    // Says this to the model and shows its answer. What the model gets wrong is shown; throws gptoss::Error for what
    // the library can't do, and std::system_error where the answer can't be written. A turn without an answer is
    // forgotten.
    Outcome answer(const std::string& text);
    // Drops the last answer and asks for another one, which takes another seed. A last question that got no answer is
    // asked again.
    Outcome retry();
    // Forgets everything, the question that retry() would ask among it.
    void reset();
    void load(const std::string& file);

    // Such as "gptoss-nano on llvmpipe".
    std::string title() const;

  private:
    // Where the model's messages end: with its answer, with a call, or before either.
    struct Reply {
        Json messages;
        gptoss_stop_reason stop = gptoss_stop_reason_none;
        bool interrupted = false;
    };

    bool on_token(uint32_t token);
    std::vector<uint32_t> render_what_fits();
    gptoss::Sampler sampler();
    gptoss::Grammar turn_grammar();
    Reply generate();
    void show_malformed(const Reply& reply) const;
    Outcome finish(const Reply& reply);

    View& view_;
    gptoss::Model model_;
    gptoss::Tokenizer tokenizer_;
    gptoss::Context context_;
    gptoss::HarmonyParser parser_;
    Json turn_;  // what the assistant's turn must be, as gptoss_grammar_create_from_harmony takes it
    std::optional<gptoss::Grammar> grammar_;
    std::string name_;
    std::string unanswered_;  // the last question, if its turn is forgotten
    uint64_t retries_ = 0;
    size_t context_length_ = 0;
    std::vector<uint32_t> reply_tokens_;
};

}  // namespace chat
