#include "line_editor.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cwchar>

#include "interrupt.h"

namespace chat {

LineEditor::LineEditor(std::filesystem::path history_file)
    : history_file_(std::move(history_file)),
      editor_(el_init("chat", stdin, stdout, stderr)),
      history_(history_init()) {
    HistEvent event;
    history(history_, &event, H_SETSIZE, 1000);
    history(history_, &event, H_SETUNIQUE, 1);
    if (!history_file_.empty()) history(history_, &event, H_LOAD, history_file_.c_str());
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_PROMPT, &LineEditor::prompt);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_GETCFN, &LineEditor::read_character);
    el_set(editor_, EL_BIND, "\\e[3~", "ed-delete-next-char", nullptr);
    el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    el_source(editor_, nullptr);  // the user's ~/.editrc
}

LineEditor::~LineEditor() {
    history_end(history_);
    el_end(editor_);
}

char* LineEditor::prompt(EditLine* editor) {
    static char first[] = "> ", next[] = ". ";
    LineEditor* self;
    el_get(editor, EL_CLIENTDATA, &self);
    return self->continued_ ? next : first;
}

// libedit's own reader goes on after a signal; this one ends the line.
int LineEditor::read_character(EditLine*, wchar_t* character) {
    std::mbstate_t state = {};
    while (true) {
        char byte;
        const ssize_t size = ::read(STDIN_FILENO, &byte, 1);
        if (size < 0 && errno == EINTR && !interrupted()) continue;  // such as a resized window
        if (size <= 0) return static_cast<int>(size);
        const size_t used = std::mbrtowc(character, &byte, 1, &state);
        if (used == static_cast<size_t>(-2)) continue;
        if (used == static_cast<size_t>(-1)) *character = L'\uFFFD';
        return 1;
    }
}

LineEditor::Outcome LineEditor::read(std::string& text) {
    text.clear();
    clear_interrupt();
    for (continued_ = false;; continued_ = true) {
        int size = 0;
        const char* line = el_gets(editor_, &size);
        if (interrupted()) {
            el_reset(editor_);
            return Outcome::Interrupted;
        }
        if (!line || size <= 0) return Outcome::End;
        text += line;
        if (text.ends_with('\n')) text.pop_back();
        if (!text.ends_with('\\')) break;
        text.back() = '\n';
    }
    if (text.empty()) return Outcome::Line;
    HistEvent event;
    history(history_, &event, H_ENTER, text.c_str());
    if (!history_file_.empty()) history(history_, &event, H_SAVE, history_file_.c_str());
    return Outcome::Line;
}

std::filesystem::path default_history_file() {
    const char* state = std::getenv("XDG_STATE_HOME");
    const char* home = std::getenv("HOME");
    if (!(state && *state) && !(home && *home)) return {};
    const std::filesystem::path base =
        state && *state ? std::filesystem::path(state) : std::filesystem::path(home) / ".local" / "state";
    std::error_code error;
    std::filesystem::create_directories(base / "gptoss", error);
    return error ? std::filesystem::path() : base / "gptoss" / "history";
}

}  // namespace chat
