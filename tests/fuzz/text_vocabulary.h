// What every vocabulary that is accepted must be able to do.
#pragma once

#include <cstdlib>

#include "base/error.h"
#include "text/tokenizer/sources.h"

inline void use_vocabulary(gptoss::text::TokenizerParts parts) {
    using namespace gptoss;
    const text::Tokenizer tokenizer(std::move(parts));
    for (std::string_view sample : {"Hello, world!\n<|start|>  123456", "aaaaaaaaaaaaaaaa\xF0\x9F\x99\x82\xFF\xC3"})
        for (bool special : {false, true}) {
            try {
                for (text::Token token : tokenizer.encode(sample, special))
                    if (tokenizer.decode(token).empty()) std::abort();
            } catch (const Error& e) {
                if (e.status() != Status::UnsupportedArgument) throw;  // a pattern that takes too many steps
            }
        }
}
