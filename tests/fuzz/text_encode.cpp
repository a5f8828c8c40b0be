// Any bytes: what is encoded decodes to the same bytes.
#include <cstdlib>

#include "text/tokenizer/tokenizer.h"

using namespace gptoss;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const std::shared_ptr<const text::Tokenizer> tokenizer = text::Tokenizer::o200k_harmony();
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    for (bool special : {false, true})
        if (tokenizer->decode(tokenizer->encode(bytes, special)) != bytes) std::abort();
    return 0;
}
