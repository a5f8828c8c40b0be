#ifdef _WIN32

#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <array>
#include <cstdio>

#include "interrupt.h"
#include "line_editor.h"

namespace chat {

LineEditor::LineEditor(std::filesystem::path history_file) : history_file_(std::move(history_file)) {}

LineEditor::~LineEditor() = default;

LineEditor::Outcome LineEditor::read(std::string& text) {
    clear_interrupt();
    return read_lines(text);
}

LineEditor::Outcome LineEditor::read_line(std::string& text) {
    std::fputs(continued_ ? ". " : "> ", stdout);
    std::fflush(stdout);
    std::wstring line;
    while (!line.ends_with(L'\n')) {
        std::array<wchar_t, 1024> part;
        DWORD n = 0;
        if (!ReadConsoleW(GetStdHandle(STD_INPUT_HANDLE), part.data(), part.size(), &n, nullptr)) return Outcome::End;
        if (n == 0) {
            Sleep(50);  // the handler of Ctrl-C runs on a thread of its own, and a little later
            return interrupted() ? Outcome::Interrupted : Outcome::End;
        }
        line.append(part.data(), n);
    }
    if (line[0] == L'\x1A') return Outcome::End;  // Ctrl-Z, as programs for Windows have it
    std::erase(line, L'\r');
    const std::u8string utf8 = std::filesystem::path(line).u8string();
    text.assign(utf8.begin(), utf8.end());
    return Outcome::Line;
}

void LineEditor::remember(const std::string&) {}  // the console does

std::filesystem::path default_history_file() { return {}; }

}  // namespace chat

#endif
