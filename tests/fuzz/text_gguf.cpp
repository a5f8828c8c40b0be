// GGUF metadata: refused, without a vocabulary, or it encodes, and every token it gives can be decoded.
#include "text_vocabulary.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try {
        auto parts = gptoss::text::parse_gguf({reinterpret_cast<const char*>(data), size});
        if (parts) use_vocabulary(std::move(*parts));
    } catch (const gptoss::Error&) {
    }
    return 0;
}
