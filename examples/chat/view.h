// What the program shows: answers on standard output, everything else on standard error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace chat {

class View {
  public:
    // interactive: what the model says before it calls a function counts as a part of the answer.
    View(bool interactive, bool show_reasoning);

    bool show_reasoning;

    // The text that a token added to a message. Throws std::system_error if standard output takes no more.
    void add(std::string_view channel, std::string_view recipient, std::string_view text);
    // Ends the line being written.
    void end_message();

    // One dimmed line about what happens.
    void note(std::string_view text);
    // The same on a terminal alone, where the progress of the load takes its place.
    void loading(std::string_view text);
    void error(std::string_view text);
    void progress(uint64_t done, uint64_t total);
    void end_progress();

  private:
    enum class Section { None, Reasoning, HiddenReasoning, Call, Aside, Answer };

    void begin(Section section, std::string_view recipient);
    void write(std::string_view text);

    const bool interactive_;
    const bool answers_on_terminal_, notes_on_terminal_;
    Section section_ = Section::None;
    bool at_line_start_ = true;
    int percent_ = -1;
    bool line_is_progress_ = false;
};

}  // namespace chat
