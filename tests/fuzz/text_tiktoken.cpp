// A .tiktoken file: refused, or it encodes, and every token it gives can be decoded.
#include "text_vocabulary.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try {
        use_vocabulary(gptoss::text::parse_tiktoken({reinterpret_cast<const char*>(data), size}));
    } catch (const gptoss::Error&) {
    }
    return 0;
}
