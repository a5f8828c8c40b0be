// What came of the faults: a line a kind.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace gptoss::test {

enum class Wrong {
    Crash,
    Hang,
    Leak,    // of memory or of an object of Vulkan
    Tokens,  // or logits, or text
    Other,   // a status or a message that the fault must not have
};

struct Row {
    uint64_t injected = 0, absorbed = 0, wrong = 0;
    std::map<std::string, uint64_t> statuses;
};

// The line of that name; lines come in the order in which they are first asked for.
Row& row(const std::string& name);

void wrong(Row& r, Wrong kind, const std::string& what);

// What is being tried, for messages; begins the time that it may take before it counts as a hang.
void describe(const std::string& name, uint64_t seed, uint64_t number);
extern std::string current;
constexpr unsigned kSeconds = 300;

// Counts a status that a call had for its fault, and refuses one without a message; call it before any other call.
void count_status(Row& r, int status);

// Prints all lines; the exit status of the program.
int print_table();

}  // namespace gptoss::test
