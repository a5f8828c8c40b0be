// Memory that is short in the calls that deal with text.
#pragma once

#include <cstdint>

namespace gptoss::test {

// About n faults.
void text_faults(uint64_t n, uint64_t seed);

}  // namespace gptoss::test
