// A config.json: refused, or a model that can be run.
#include "io/config.h"

#include <cstdlib>

#include "base/error.h"

using namespace gptoss;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    io::Config config;
    try {
        config = io::parse_config(reinterpret_cast<const char*>(data), size, "fuzz");
    } catch (const Error&) {
        return 0;
    }
    io::check_config(config, "fuzz");  // a throw here is a finding
    return 0;
}
