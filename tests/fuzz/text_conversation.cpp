// Conversation JSON: refused with invalid_argument, or rendered ready for the assistant's turn.
#include <cstdlib>

#include "base/error.h"
#include "text/harmony/harmony.h"

using namespace gptoss;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const std::shared_ptr<const text::Tokenizer> tokenizer = text::Tokenizer::o200k_harmony();
    try {
        auto tokens = text::render_conversation(*tokenizer, {reinterpret_cast<const char*>(data), size});
        if (!tokenizer->decode(tokens).ends_with("<|start|>assistant")) std::abort();
    } catch (const Error& e) {
        if (e.status() != Status::InvalidArgument) std::abort();
    }
    return 0;
}
