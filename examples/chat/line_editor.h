// Reads what the user types at the terminal, with editing and a history that outlives the program.
#pragma once

#ifndef _WIN32
#include <histedit.h>
#endif

#include <filesystem>
#include <memory>
#include <string>

namespace chat {

class LineEditor {
  public:
    // Text is what was typed or pasted as a text, which is no command even where it begins with a slash.
    enum class Outcome { Line, Text, Interrupted, End };

    explicit LineEditor(std::filesystem::path history_file);  // empty: a history that is not kept
    ~LineEditor();

    // One line. One that ends with a backslash goes on in the next; one that begins with """ goes on until a line ends
    // with """; what is pasted at once is one text. Ctrl-Z stops the program, and fg brings the line back.
    Outcome read(std::string& text);

  private:
    Outcome read_lines(std::string& text);
    // One line of the terminal, with its newline.
    Outcome read_line(std::string& text);
    void remember(const std::string& text);

    const std::filesystem::path history_file_;
    bool continued_ = false, pasted_lines_ = false;
#ifndef _WIN32  // whose console edits lines itself
    static char* prompt(EditLine* editor);
    static int read_character(EditLine* editor, wchar_t* character);
    static unsigned char paste(EditLine* editor, int);
    void take_terminal();
    void give_terminal_back();
    void suspend();

    EditLine* editor_;
    History* history_;
#endif
};

// $XDG_STATE_HOME/gptoss/history or its default; creates the directory. Empty if there is no home.
std::filesystem::path default_history_file();

}  // namespace chat
