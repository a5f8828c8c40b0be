#include "view.h"

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "system.h"

namespace chat {

namespace {

const char* const dim = "\033[2m";
const char* const cyan = "\033[36m";
const char* const red = "\033[31m";
const char* const plain = "\033[0m";
// Without wrapping a line that is wider than the terminal is one row still, which is cleared at once.
const char* const no_wrap = "\033[?7l";
const char* const wrap = "\033[?7h";

// Without the control characters, by which a model's text could take over the terminal.
std::string printable(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
        if (c == 0xC2 && next >= 0x80 && next < 0xA0) {
            ++i;  // U+0080 to U+009F
        } else if ((c >= 0x20 && c != 0x7F) || c == '\n' || c == '\t') {
            out += text[i];
        }
    }
    return out;
}

}  // namespace

View::View(bool interactive, bool show_reasoning)
    : show_reasoning(show_reasoning),
      interactive_(interactive),
      answers_on_terminal_(programs::is_terminal(stdout)),
      notes_on_terminal_(programs::is_terminal(stderr)) {}

void View::add(std::string_view channel, std::string_view recipient, std::string_view text) {
    if (text.empty()) return;
    Section section = Section::Aside;
    if (!recipient.empty())
        section = Section::Call;
    else if (channel == "analysis")
        section = show_reasoning ? Section::Reasoning : Section::HiddenReasoning;
    else if (channel == "final" || channel.empty() || interactive_)
        section = Section::Answer;
    if (section != section_) begin(section, recipient);
    write(text);
}

void View::begin(Section section, std::string_view recipient) {
    end_message();
    section_ = section;
    if (section == Section::HiddenReasoning && notes_on_terminal_) std::fprintf(stderr, "%sthinking…%s", dim, plain);
    if (section == Section::Reasoning && !notes_on_terminal_) std::fputs("[reasoning] ", stderr);
    if (section == Section::Call) write("call of " + std::string(recipient) + ": ");
}

void View::write(std::string_view text) {
    if (section_ == Section::HiddenReasoning) return;
    const bool answer = section_ == Section::Answer;
    FILE* const out = answer ? stdout : stderr;
    const bool terminal = answer ? answers_on_terminal_ : notes_on_terminal_;
    const char* const style = section_ == Section::Call ? cyan : section_ == Section::Reasoning ? dim : "";
    const std::string shown = terminal ? printable(text) : std::string(text);
    if (terminal && *style)
        std::fprintf(out, "%s%s%s", style, shown.c_str(), plain);
    else
        std::fwrite(shown.data(), 1, shown.size(), out);
    if (std::fflush(out) != 0 && answer) throw std::system_error(errno, std::generic_category(), "standard output");
    if (!shown.empty()) at_line_start_ = shown.back() == '\n';
}

void View::end_message() {
    if (section_ == Section::HiddenReasoning && notes_on_terminal_)
        std::fputs("\r\033[K", stderr);
    else if (!at_line_start_)
        std::fputc('\n', section_ == Section::Answer ? stdout : stderr);
    std::fflush(stdout);
    at_line_start_ = true;
    section_ = Section::None;
}

void View::note(std::string_view text) {
    end_message();
    end_progress();
    const std::string shown = notes_on_terminal_ ? printable(text) : std::string(text);
    std::fprintf(stderr, notes_on_terminal_ ? "\033[2m(%s)\033[0m\n" : "(%s)\n", shown.c_str());
}

void View::error(std::string_view text) {
    end_message();
    end_progress();
    const std::string shown = notes_on_terminal_ ? printable(text) : std::string(text);
    std::fprintf(stderr, "%schat: %s%s\n", notes_on_terminal_ ? red : "", shown.c_str(),
                 notes_on_terminal_ ? plain : "");
}

void View::loading(std::string_view text) {
    if (!notes_on_terminal_) return;
    end_progress();
    std::fprintf(stderr, "%s%s(%s)%s%s", no_wrap, dim, printable(text).c_str(), plain, wrap);
    std::fflush(stderr);
    line_is_progress_ = true;
}

void View::progress(uint64_t done, uint64_t total) {
    if (!notes_on_terminal_ || done == 0 || total == 0) return;  // what is said before stands until then
    const int percent = static_cast<int>(100 * (static_cast<double>(done) / static_cast<double>(total)));
    if (percent == percent_) return;
    end_progress();
    percent_ = percent;
    line_is_progress_ = true;
    const int width = 40, filled = width * percent / 100;
    std::fprintf(stderr, "loading [%s%s] %3d%% of %.1f MB", std::string(filled, '=').c_str(),
                 std::string(width - filled, ' ').c_str(), percent, static_cast<double>(total) / 1e6);
    std::fflush(stderr);
}

void View::end_progress() {
    if (line_is_progress_) std::fputs("\r\033[K", stderr);
    line_is_progress_ = false;
    percent_ = -1;
}

}  // namespace chat
