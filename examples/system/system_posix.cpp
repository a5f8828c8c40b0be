#ifndef _WIN32

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "system.h"

extern char** environ;

namespace programs {

void begin(int&, char**&) {
    // Line editing needs to know how many columns a character takes.
    std::setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
}

bool is_terminal(std::FILE* file) { return isatty(fileno(file)); }

bool input_is_given() {
    struct stat input;
    return fstat(STDIN_FILENO, &input) == 0 && (S_ISFIFO(input.st_mode) || S_ISREG(input.st_mode));
}

std::filesystem::path program_file() {
    std::error_code error;
    return std::filesystem::read_symlink("/proc/self/exe", error);
}

// Its input is a file, so that neither side can wait for the other.
std::string run_command(const std::string& command, const std::string& input) {
    FILE* in = std::tmpfile();
    int out[2];
    if (!in || pipe(out) != 0) throw std::runtime_error(std::strerror(errno));
    std::fwrite(input.data(), 1, input.size(), in);
    std::rewind(in);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fileno(in), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    posix_spawn_file_actions_addclose(&actions, out[1]);
    const char* const arguments[] = {"sh", "-c", command.c_str(), nullptr};
    pid_t child;
    const int error = posix_spawnp(&child, "sh", &actions, nullptr, const_cast<char* const*>(arguments), environ);
    posix_spawn_file_actions_destroy(&actions);
    std::fclose(in);
    close(out[1]);

    std::string result;
    char buffer[4096];
    ssize_t size;
    while (!error && ((size = read(out[0], buffer, sizeof buffer)) > 0 || (size < 0 && errno == EINTR)))
        if (size > 0) result.append(buffer, static_cast<size_t>(size));
    close(out[0]);
    if (error) throw std::runtime_error(std::strerror(error));

    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status))
        throw std::runtime_error("the command was stopped by signal " + std::to_string(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0)
        throw std::runtime_error("the command ended with status " + std::to_string(WEXITSTATUS(status)) +
                                 (result.empty() ? "" : ": " + result));
    return result;
}

namespace {

std::atomic<bool>* interrupted = nullptr;
sem_t signals;  // a signal handler may post to a semaphore, but not take a lock

void on_signal(int) {
    const int saved = errno;
    *interrupted = true;
    sem_post(&signals);
    errno = saved;
}

sigset_t stop_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    return signals;
}

}  // namespace

void on_interrupt(std::atomic<bool>& flag, void (*call)()) {
    interrupted = &flag;
    sem_init(&signals, 0, 0);
    struct sigaction action = {};
    action.sa_handler = on_signal;  // without SA_RESTART: reading a line ends
    sigaction(SIGINT, &action, nullptr);
    std::thread([call] {
        while (true)
            if (sem_wait(&signals) == 0) call();
    }).detach();
}

StopRequests::StopRequests() {
    const sigset_t signals = stop_signals();  // threads that are made later inherit that they are blocked
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    signal(SIGPIPE, SIG_IGN);
}

bool StopRequests::wait(std::chrono::milliseconds time) const {
    const sigset_t signals = stop_signals();
    const timespec pause = {time.count() / 1000, time.count() % 1000 * 1'000'000};
    return sigtimedwait(&signals, nullptr, &pause) > 0;
}

}  // namespace programs

#endif
