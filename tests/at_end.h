// What tests share lives until main returns, and no longer: after that, drivers and layers may have destroyed what a
// device needs to go.
#pragma once

#include <functional>
#include <vector>

namespace gptoss::test {

// Called after the last test.
std::vector<std::function<void()>>& at_end();

}  // namespace gptoss::test
