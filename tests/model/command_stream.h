// The commands that reach a device, as a test sees them. Kernels reach memory by address, which no validation layer
// follows, and the software device runs dispatches one after the other, so that a missing barrier would pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace gptoss::test {

// While it lives, devices that are opened keep what is recorded in a command buffer and play it when it is submitted.
// What each command touches, by shaders/accesses.h, must not overlap what another touches that no barrier parts from
// it, unless both only read; nor may the host write there before it has waited. Only one can live at a time.
class CommandStream {
  public:
    enum class Order { Recorded, Reversed, Random };  // of the commands between two barriers

    explicit CommandStream(Order order = Order::Recorded, uint64_t seed = 0);
    ~CommandStream();
    CommandStream(const CommandStream&) = delete;
    CommandStream& operator=(const CommandStream&) = delete;

    // Forgets what was found, and counts barriers from 0.
    void reset();
    // Leaves barrier number n out of what is submitted from now on.
    void omit(size_t n);
    // Runs every dispatch twice, the second time with all memory overwritten that it does not read by the table: it
    // must leave the same, and may write only what the table says.
    void check_table();

    struct Barrier {
        const void* site = nullptr;     // where the library records it
        std::string before{}, after{};  // the commands around it
        bool inside = false;            // of a command buffer: not the first command of one
        bool guards = false;            // without it there would be a hazard
    };
    // All that were submitted.
    const std::vector<Barrier>& barriers() const;
    // The binary and the offset there, for addr2line.
    static std::string name(const void* site);
    // What overlapped, naming kernels, arguments and ranges; each once.
    const std::vector<std::string>& hazards() const;
    // Kernels whose dispatches were played.
    std::vector<std::string> kernels() const;
};

}  // namespace gptoss::test
