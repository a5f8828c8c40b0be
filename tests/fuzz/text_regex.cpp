// A regular expression: refused, or its masks agree with what can be taken.
#include "text_grammar.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    use_grammar([&] { return gptoss::text::Grammar::from_regex(small_table(), text); }, size);
    return 0;
}
