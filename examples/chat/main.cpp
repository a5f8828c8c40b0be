// A chat in the terminal, or one answer in a pipe, on nothing but gptoss.h.
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "chat.h"
#include "interrupt.h"
#include "line_editor.h"

namespace {

using namespace chat;

const char* const help =
    "  /reasoning low|medium|high   how long the model thinks\n"
    "  /reasoning show|hide         whether its thinking is shown\n"
    "  /system [TEXT]               instructions for the model; without a text: none\n"
    "  /tools                       the functions that the model may call\n"
    "  /reset                       begin a new conversation\n"
    "  /quit                        leave; so does Ctrl-D\n"
    "Ctrl-C stops an answer. A line that ends with \\ goes on in the next one.\n";

void set_reasoning(const std::string& value, Conversation& conversation, View& view) {
    if (value == "low" || value == "medium" || value == "high")
        conversation.reasoning = value;
    else if (value == "show" || value == "hide")
        view.show_reasoning = value == "show";
    else if (!value.empty())
        return view.error("reasoning is low, medium, high, show or hide, not \"" + value + "\"");
    view.note("reasoning: " + conversation.reasoning + (view.show_reasoning ? ", shown" : ", hidden"));
}

// Returns false if the program is to end.
bool run_command(const std::string& line, Conversation& conversation, View& view) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const size_t value_at = line.find_first_not_of(' ', std::min(space, line.size()));
    const std::string value = value_at == std::string::npos ? "" : line.substr(value_at);
    if (name == "/quit" || name == "/exit") return false;
    if (name == "/help") {
        std::fputs(help, stdout);
    } else if (name == "/reset") {
        conversation.clear();
        view.note("a new conversation");
    } else if (name == "/reasoning") {
        set_reasoning(value, conversation, view);
    } else if (name == "/system") {
        conversation.instructions = value;
        view.note(value.empty() ? "no instructions" : "instructions: " + value);
    } else if (name == "/tools") {
        for (const auto& [function, command] : conversation.tools.commands())
            std::printf("  %s: %s\n", function.c_str(), command.c_str());
        if (conversation.tools.empty()) view.note("no functions: see --tools");
    } else {
        view.error("there is no command " + name + ": /help lists them");
    }
    return true;
}

void interact(Chat& chat, View& view) {
    view.note(chat.title() + "; /help lists commands");
    LineEditor editor(default_history_file());
    std::string line;
    while (true) {
        const LineEditor::Outcome outcome = editor.read(line);
        if (outcome == LineEditor::Outcome::End) break;
        if (outcome == LineEditor::Outcome::Interrupted) {
            std::fputs("\n", stdout);
            continue;
        }
        if (line.find_first_not_of(" \t\n") == std::string::npos) continue;
        if (line.starts_with('/')) {
            if (!run_command(line, chat.conversation, view)) return;
            continue;
        }
        try {
            chat.answer(line);
        } catch (const Failure& failure) {
            if (failure.status == gptoss_status_device_lost) throw;
            view.error(failure.what());
        }
    }
    std::fputs("\n", stdout);
}

// Without the newline at its end.
std::string read_all(std::istream& in) {
    std::string text(std::istreambuf_iterator<char>(in), {});
    if (text.ends_with('\n')) text.pop_back();
    return text;
}

int run(int argc, char** argv) {
    Options options;
    if (const std::optional<int> status = parse_options(argc, argv, options)) return *status;
    const bool interactive = !options.prompt && isatty(STDIN_FILENO);
    View view(interactive, !options.hide_reasoning);
    try {
        if (options.model.empty()) options.model = default_model();
        options.take_model_defaults();
        Tools tools;
        if (!options.tools.empty()) tools = Tools(options.tools);
        if (!interactive && options.prompt.value_or("-") == "-") options.prompt = read_all(std::cin);
        catch_interrupts();
        Chat chat(options, view);
        chat.conversation.tools = std::move(tools);
        if (!interactive) {
            const Chat::Outcome outcome = chat.answer(*options.prompt);
            return outcome == Chat::Outcome::Answered ? 0 : outcome == Chat::Outcome::Stopped ? 130 : 1;
        }
        interact(chat, view);
        return 0;
    } catch (const std::exception& e) {
        if (const auto* failure = dynamic_cast<const Failure*>(&e);
            failure && failure->status == gptoss_status_cancelled)
            return 130;
        view.error(e.what());
        return 1;
    }
}

}  // namespace

int main(int argc, char** argv) {
    // Line editing needs to know how many columns a character takes.
    std::setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
    return run(argc, argv);
}
