// A file of the cache: none, or exactly what is written for its value.
#include "base/cache.h"

#include <cstdlib>

using namespace gptoss;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    if (const auto value = parse_cache_entry(bytes, "key"))
        if (make_cache_entry("key", *value) != bytes) std::abort();
    return 0;
}
