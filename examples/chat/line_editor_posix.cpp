#ifndef _WIN32

#include "line_editor.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cwchar>
#include <string_view>

#include "interrupt.h"

namespace chat {

namespace {

// Terminals that know bracketed paste put \e[200~ and \e[201~ around what is pasted while it is on.
const char* const paste_on = "\033[?2004h";
const char* const paste_off = "\033[?2004l";
constexpr std::wstring_view paste_end = L"\033[201~";

volatile sig_atomic_t stop_asked = 0;

}  // namespace

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
    el_set(editor_, EL_ADDFN, "paste", "Inserts what is pasted", &LineEditor::paste);
    el_set(editor_, EL_BIND, "\\e[200~", "paste", nullptr);
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
int LineEditor::read_character(EditLine* editor, wchar_t* character) {
    std::mbstate_t state = {};
    while (true) {
        char byte;
        const ssize_t size = ::read(STDIN_FILENO, &byte, 1);
        if (size < 0 && errno == EINTR && stop_asked) {
            LineEditor* self;
            el_get(editor, EL_CLIENTDATA, &self);
            self->suspend();
            continue;
        }
        if (size < 0 && errno == EINTR && !interrupted()) continue;  // such as a resized window
        if (size <= 0) return static_cast<int>(size);
        const size_t used = std::mbrtowc(character, &byte, 1, &state);
        if (used == static_cast<size_t>(-2)) continue;
        if (used == static_cast<size_t>(-1)) *character = L'\uFFFD';
        return 1;
    }
}

unsigned char LineEditor::paste(EditLine* editor, int) {
    std::wstring text;
    wchar_t character;
    while (!text.ends_with(paste_end)) {
        if (read_character(editor, &character) != 1) return CC_EOF;
        // Terminals send the newlines of what is pasted as returns.
        if (character == L'\r') character = L'\n';
        if (character >= L' ' || character == L'\n' || character == L'\t' || character == L'\033') text += character;
    }
    text.resize(text.size() - paste_end.size());
    std::erase(text, L'\033');
    while (text.ends_with(L'\n')) text.pop_back();
    LineEditor* self;
    el_get(editor, EL_CLIENTDATA, &self);
    if (text.find(L'\n') != text.npos) self->pasted_lines_ = true;
    return text.empty() || el_winsertstr(editor, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

void LineEditor::take_terminal() {
    struct sigaction action = {};
    action.sa_handler = [](int) { stop_asked = 1; };  // without SA_RESTART: reading a character ends
    sigaction(SIGTSTP, &action, nullptr);
    el_resize(editor_);
    std::fputs(paste_on, stdout);
    std::fflush(stdout);
}

void LineEditor::give_terminal_back() {
    std::fputs(paste_off, stdout);
    std::fflush(stdout);
    signal(SIGTSTP, SIG_DFL);
}

// The shell that gets the terminal expects it as it was, and this program expects it as it left it.
void LineEditor::suspend() {
    stop_asked = 0;
    el_set(editor_, EL_PREP_TERM, 0);
    give_terminal_back();
    raise(SIGTSTP);
    take_terminal();
    el_set(editor_, EL_PREP_TERM, 1);
    el_set(editor_, EL_REFRESH);
}

LineEditor::Outcome LineEditor::read(std::string& text) {
    clear_interrupt();
    take_terminal();
    const Outcome outcome = read_lines(text);
    give_terminal_back();
    return outcome;
}

LineEditor::Outcome LineEditor::read_line(std::string& text) {
    int size = 0;
    const char* line = el_gets(editor_, &size);
    if (interrupted()) {
        el_reset(editor_);
        return Outcome::Interrupted;
    }
    if (!line || size <= 0) return Outcome::End;
    text = line;
    return Outcome::Line;
}

void LineEditor::remember(const std::string& text) {
    if (text.empty()) return;
    HistEvent event;
    history(history_, &event, H_ENTER, text.c_str());
    if (!history_file_.empty()) history(history_, &event, H_SAVE, history_file_.c_str());
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

#endif
