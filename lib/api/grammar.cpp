#include "api/grammar.h"

#include "api/tokenizer.h"

using namespace gptoss;
using namespace gptoss::api;

namespace {

using Make = std::shared_ptr<const text::Grammar>(std::shared_ptr<const text::TokenTable>, std::string_view);

gptoss_status create(Make* make, gptoss_tokenizer_t tokenizer, const char* text, size_t length, const char* name,
                     gptoss_grammar_t* grammar_out) {
    if (grammar_out) *grammar_out = nullptr;
    return guard([&] {
        const Held held(tokenizer, "tokenizer");
        require(text, name);
        require(grammar_out, "grammar_out");
        *grammar_out = new gptoss_grammar(make(held->table->get(), {text, length}));
    });
}

}  // namespace

gptoss_status gptoss_grammar_create_from_json_schema(gptoss_tokenizer_t tokenizer, const char* schema, size_t length,
                                                     gptoss_grammar_t* grammar_out) {
    return create(text::Grammar::from_json_schema, tokenizer, schema, length, "schema", grammar_out);
}

gptoss_status gptoss_grammar_create_from_regex(gptoss_tokenizer_t tokenizer, const char* regex, size_t length,
                                               gptoss_grammar_t* grammar_out) {
    return create(text::Grammar::from_regex, tokenizer, regex, length, "regex", grammar_out);
}

gptoss_status gptoss_grammar_create_from_gbnf(gptoss_tokenizer_t tokenizer, const char* gbnf, size_t length,
                                              gptoss_grammar_t* grammar_out) {
    return create(text::Grammar::from_gbnf, tokenizer, gbnf, length, "gbnf", grammar_out);
}

gptoss_status gptoss_grammar_create_from_harmony(gptoss_tokenizer_t tokenizer, const char* options_json, size_t length,
                                                 gptoss_grammar_t* grammar_out) {
    return create(text::Grammar::from_harmony, tokenizer, options_json, length, "options_json", grammar_out);
}

gptoss_status gptoss_grammar_retain(gptoss_grammar_t grammar) { return gptoss_grammar::retain(grammar); }
gptoss_status gptoss_grammar_release(gptoss_grammar_t grammar) { return gptoss_grammar::release(grammar); }
