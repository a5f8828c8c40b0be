// A chat in the terminal, or one answer in a pipe, on nothing but gptoss.hpp.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <iterator>

#include "chat.h"
#include "interrupt.h"
#include "line_editor.h"
#include "model_path.h"
#include "system.h"

namespace {

using namespace chat;

const char* const help =
    "  /reasoning low|medium|high   how long the model thinks\n"
    "  /reasoning show|hide         whether its thinking is shown\n"
    "  /system [TEXT]               instructions for the model; without a text: none\n"
    "  /tools                       the functions that the model may call\n"
    "  /set [NAME VALUE]            temperature, seed, max-tokens and others; without a name: lists them\n"
    "  /retry                       another answer to the last question\n"
    "  /save FILE, /load FILE       keeps the conversation in a file, and goes on with one\n"
    "  /reset                       begin a new conversation\n"
    "  /quit                        leave; so does Ctrl-D\n"
    "Ctrl-C stops an answer. A line that ends with \\ goes on in the next one. A text that begins with \"\"\" ends\n"
    "with \"\"\", however many lines it has.\n";

void set_reasoning(const std::string& value, Conversation& conversation, View& view) {
    if (value == "low" || value == "medium" || value == "high")
        conversation.reasoning = value;
    else if (value == "show" || value == "hide")
        view.show_reasoning = value == "show";
    else if (!value.empty())
        return view.error("reasoning is low, medium, high, show or hide, not \"" + value + "\"");
    view.note("reasoning: " + conversation.reasoning + (view.show_reasoning ? ", shown" : ", hidden"));
}

void set(const std::string& line, Settings& settings, View& view) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    for (const Setting& setting : all_settings()) {
        if (line.empty()) std::printf("  %-20s %-12s %s\n", setting.name, setting.get(settings).c_str(), setting.help);
        if (name != setting.name) continue;
        try {
            if (space != std::string::npos) setting.set(settings, line.substr(line.find_first_not_of(' ', space)));
            return view.note(name + ": " + setting.get(settings));
        } catch (const std::invalid_argument& e) {
            return view.error(name + ": " + e.what());
        }
    }
    if (!line.empty()) view.error("there is no setting " + name + ": /set lists them");
}

// The path that a user means, for whom no shell replaces the ~.
std::string path_of(const std::string& text) {
    const char* home = std::getenv("HOME");
    return home && text.starts_with("~/") ? home + text.substr(1) : text;
}

void keep(const std::string& command, const std::string& file, Chat& chat, View& view) {
    if (file.empty()) return view.error(command + " needs a file: " + command + " FILE");
    try {
        if (command == "/save")
            chat.conversation.save(path_of(file));
        else
            chat.load(path_of(file));
        const size_t turns = chat.conversation.size();
        view.note((command == "/save" ? "saved " : "loaded ") + std::to_string(turns) +
                  (turns == 1 ? " turn" : " turns"));
    } catch (const std::runtime_error& e) {
        view.error(e.what());
    }
}

// Returns false if the program is to end.
bool run_command(const std::string& line, Chat& chat, View& view) {
    Conversation& conversation = chat.conversation;
    const size_t end = line.find_last_not_of(' ') + 1, space = std::min(line.find(' '), end);
    const std::string name = line.substr(0, space);
    const size_t value_at = std::min(line.find_first_not_of(' ', space), end);
    const std::string value = line.substr(value_at, end - value_at);
    if (name == "/quit" || name == "/exit") return false;
    if (name == "/help") {
        std::fputs(help, stdout);
    } else if (name == "/reset") {
        chat.reset();
        view.note("a new conversation");
    } else if (name == "/retry") {
        chat.retry();
    } else if (name == "/save" || name == "/load") {
        keep(name, value, chat, view);
    } else if (name == "/set") {
        set(value, chat.settings, view);
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
        try {
            if (outcome == LineEditor::Outcome::Text || !line.starts_with('/'))
                chat.answer(line);
            else if (!run_command(line, chat, view))
                return;
        } catch (const gptoss::Error& error) {
            if (error.status() == gptoss_status_device_lost) throw;
            view.error(error.what());
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

// The one question: that of --prompt, and what comes through a pipe below it.
std::string question(const std::string& prompt) {
    if (prompt == "-") return read_all(std::cin);
    const std::string input = programs::input_is_given() ? read_all(std::cin) : "";
    return input.empty() ? prompt : prompt + "\n\n" + input;
}

int run(int argc, char** argv) {
    Options options;
    if (const std::optional<int> status = parse_options(argc, argv, options)) return *status;
    const bool interactive = !options.prompt && programs::is_terminal(stdin);
    View view(interactive, !options.hide_reasoning);
    try {
        options.model = options.model.empty() ? default_model() : hub::model_path(options.model, options.yes);
        options.take_model_defaults();
        Tools tools;
        if (!options.tools.empty()) tools = Tools(options.tools);
        if (!interactive) options.prompt = question(options.prompt.value_or("-"));
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
        if (const auto* error = dynamic_cast<const gptoss::Error*>(&e);
            error && error->status() == gptoss_status_cancelled)
            return 130;
        view.error(e.what());
        return 1;
    }
}

}  // namespace

int main(int argc, char** argv) {
    programs::begin(argc, argv);
    const int status = run(argc, argv);
    // An answer that is cut off by a full disk is no success.
    if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return status;
    if (status == 0) std::fprintf(stderr, "chat: standard output: %s\n", std::strerror(errno));
    return 1;
}
