// What the programs need of the operating system beyond the C++ standard: system_posix.cpp and system_windows.cpp.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>

namespace programs {

// What main does first: makes the arguments UTF-8, and standard streams and terminals take UTF-8 as it is.
void begin(int& argc, char**& argv);

bool is_terminal(std::FILE* file);

// Whether somebody has put a text on standard input: a terminal or a null device there is none.
bool input_is_given();

// The file of this program; empty where the system does not tell.
std::filesystem::path program_file();

// Runs a line of the system's shell, sh or cmd, and returns what it prints, given its standard input. Throws
// std::runtime_error where it fails.
std::string run_command(const std::string& command, const std::string& input);

// From now on each Ctrl-C (SIGINT) sets the flag and then makes a thread call this, instead of ending the program. Call
// it once, before other threads start.
void on_interrupt(std::atomic<bool>& flag, void (*call)());

// Keeps what asks a program to end, SIGINT or SIGTERM, Ctrl-C or the end of a session, from ending it. Make it before
// other threads start.
class StopRequests {
  public:
    StopRequests();
    // Waits for the next one; false if none comes within that time.
    bool wait(std::chrono::milliseconds time) const;
};

}  // namespace programs
