#include "line_editor.h"

#include <string_view>

namespace chat {

namespace {

constexpr std::string_view quotes = "\"\"\"";

// The text between the quotes, without the newlines next to them.
std::string unquoted(std::string_view block) {
    block = block.substr(quotes.size(), block.size() - 2 * quotes.size());
    if (block.starts_with('\n')) block.remove_prefix(1);
    if (block.ends_with('\n')) block.remove_suffix(1);
    return std::string(block);
}

}  // namespace

LineEditor::Outcome LineEditor::read_lines(std::string& text) {
    text.clear();
    bool quoted = false;
    for (continued_ = false;; continued_ = true) {
        pasted_lines_ = false;
        std::string line;
        if (const Outcome outcome = read_line(line); outcome != Outcome::Line) return outcome;
        text += line;
        if (text.ends_with('\n')) text.pop_back();
        if (!quoted && pasted_lines_) break;
        quoted = quoted || (!continued_ && text.starts_with(quotes));
        if (quoted) {
            if (text.size() >= 2 * quotes.size() && text.ends_with(quotes)) break;
            text += '\n';
        } else if (text.ends_with('\\')) {
            text.back() = '\n';
        } else {
            break;
        }
    }
    remember(text);
    const bool one_line = !quoted && text.find('\n') == text.npos;
    if (quoted) text = unquoted(text);
    return one_line ? Outcome::Line : Outcome::Text;
}

}  // namespace chat
