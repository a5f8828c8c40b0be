// GGUF metadata: refused, without a vocabulary, or it encodes, and every token it gives can be decoded.
#include <cstring>

#include "text_vocabulary.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try {
        const auto read = [&](uint64_t offset, std::byte* out, size_t n) {
            if (offset > size || n > size - offset) std::abort();
            std::memcpy(out, data + offset, n);
        };
        const auto gguf = gptoss::Gguf::parse(read, size, "fuzz", gptoss::text::is_vocabulary_key);
        if (auto parts = gptoss::text::gguf_vocabulary(gguf)) use_vocabulary(std::move(*parts));
    } catch (const gptoss::Error&) {
    }
    return 0;
}
