// Reads lines from the terminal, with editing and a history that outlives the program.
#pragma once

#include <histedit.h>

#include <filesystem>
#include <memory>
#include <string>

namespace chat {

class LineEditor {
  public:
    enum class Outcome { Line, Interrupted, End };

    explicit LineEditor(std::filesystem::path history_file);  // empty: a history that is not kept
    ~LineEditor();

    // A line that ends with a backslash goes on in the next one.
    Outcome read(std::string& text);

  private:
    static char* prompt(EditLine* editor);
    static int read_character(EditLine* editor, wchar_t* character);

    const std::filesystem::path history_file_;
    EditLine* editor_;
    History* history_;
    bool continued_ = false;
};

// $XDG_STATE_HOME/gptoss/history or its default; creates the directory. Empty if there is no home.
std::filesystem::path default_history_file();

}  // namespace chat
