// What every grammar that is accepted must be able to do.
#pragma once

#include <cstdlib>
#include <functional>
#include <random>

#include "base/error.h"
#include "text/grammar/grammar.h"
#include "text/tokenizer/sources.h"

// The first tokens of o200k and its special ones: with all 200,000 few inputs would be tried in a second.
inline const std::shared_ptr<const gptoss::text::TokenTable>& small_table() {
    using namespace gptoss::text;
    static const std::shared_ptr<const TokenTable> table = [] {
        constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const auto whole = Tokenizer::o200k_harmony();
        std::string file;
        for (Token token = 0; token < 3000; ++token) {
            uint32_t bits = 0;
            int count = 0;
            size_t size = 0;
            for (char c : whole->text_token(token)) {
                bits = bits << 8 | static_cast<uint8_t>(c);
                for (count += 8; count >= 6; ++size) file += digits[bits >> (count -= 6) & 63];
            }
            if (count > 0) file += digits[bits << (6 - count) & 63], ++size;
            for (; size % 4 != 0; ++size) file += '=';
            file += " " + std::to_string(token) + "\n";
        }
        return std::make_shared<const TokenTable>(std::make_shared<const Tokenizer>(parse_tiktoken(file)));
    }();
    return table;
}

// Refused, or the mask of each state holds the tokens that can be taken, those that are forced among them, and going
// back leads to the same masks.
inline void use_grammar(const std::function<std::shared_ptr<const gptoss::text::Grammar>()>& create, size_t seed) {
    using namespace gptoss;
    using namespace gptoss::text;
    std::shared_ptr<const Grammar> grammar;
    try {
        grammar = create();
    } catch (const Error& error) {
        if (*error.what() == 0) std::abort();
        return;
    }
    const TokenTable& table = *small_table();
    std::mt19937 random(static_cast<uint32_t>(seed));
    try {
        GrammarState state(grammar);
        std::vector<TokenMask> masks;
        for (int step = 0; step < 12; ++step) {
            TokenMask mask(table.mask_words());
            state.mask(mask);
            masks.push_back(mask);
            std::vector<Token> allowed;
            for (Token token = 0; token < table.num_tokens(); ++token)
                if (is_allowed(mask, token)) allowed.push_back(token);
            for (int i = 0; i < 40; ++i) {
                const Token token =
                    i < 20 || allowed.empty() ? random() % table.num_tokens() : allowed[random() % allowed.size()];
                GrammarState other = state;
                if (other.advance(token) != is_allowed(mask, token)) std::abort();
            }
            // Each byte is a token: what is not complete can go on.
            if (allowed.empty() != state.is_complete()) std::abort();
            GrammarState forced = state;
            for (Token token : forced.forced())
                if (!forced.advance(token)) std::abort();
            if (allowed.empty() || !state.advance(allowed[random() % allowed.size()])) break;
        }
        while (!masks.empty()) {
            state.truncate(masks.size() - 1);
            TokenMask mask(table.mask_words());
            state.mask(mask);
            if (mask != masks.back()) std::abort();
            masks.pop_back();
        }
    } catch (const Error& error) {
        if (error.status() != Status::InsufficientResources) throw;
    }
}
