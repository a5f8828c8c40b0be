// What memory a dispatch reads and writes: the table beside args.h, a row for each kernel. Kernels follow addresses,
// which no validation layer sees; tests check with it that a barrier stands wherever one is needed, and that a kernel
// touches nothing else. The library itself does not need it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gptoss {

// Bytes that a dispatch may touch.
struct Access {
    std::string argument;  // a field of the kernel's arguments; where it is a table, with what the table leads to
    uint64_t address = 0;
    uint64_t bytes = 0;
    bool reads = false;
    bool writes = false;  // where it does not read too, some of the bytes may be left as they are
    double share = 1;     // how much of it, where an index that the device computes chooses a part
};

// A dispatch as it is recorded.
struct Launch {
    std::string_view kernel;
    std::span<const uint32_t> constants;  // by their constant_id
    std::span<const std::byte> args;
    uint32_t x = 1, y = 1, z = 1;  // workgroups
};

// The bytes at an address as they are when the dispatch begins, or NULL where they are unknown. Read where tables lead
// on and tokens choose.
using Memory = std::function<const std::byte*(uint64_t address, uint64_t bytes)>;

// Throws std::out_of_range for a kernel that the table lacks.
std::vector<Access> accesses_of(const Launch& launch, const Memory& memory);

}  // namespace gptoss
