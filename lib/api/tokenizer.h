// The handle behind gptoss_tokenizer_t.
#pragma once

#include <memory>
#include <mutex>

#include "api/common.h"
#include "text/grammar/token_table.h"
#include "text/tokenizer/tokenizer.h"

namespace gptoss::api {

// What the grammars of a tokenizer share, made for the first of them.
class SharedTable {
  public:
    explicit SharedTable(std::shared_ptr<const text::Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}

    std::shared_ptr<const text::TokenTable> get() {
        const std::lock_guard lock(mutex_);
        if (!table_) table_ = std::make_shared<const text::TokenTable>(tokenizer_);
        return table_;
    }

  private:
    const std::shared_ptr<const text::Tokenizer> tokenizer_;
    std::mutex mutex_;
    std::shared_ptr<const text::TokenTable> table_;
};

}  // namespace gptoss::api

// Models and parsers share the tokenizer itself, not the handle.
struct gptoss_tokenizer : gptoss::api::Handle<gptoss_tokenizer> {
    static constexpr bool kOnDevice = false;

    explicit gptoss_tokenizer(std::shared_ptr<const gptoss::text::Tokenizer> shared)
        : gptoss_tokenizer(shared, std::make_shared<gptoss::api::SharedTable>(shared)) {}
    gptoss_tokenizer(std::shared_ptr<const gptoss::text::Tokenizer> shared,
                     std::shared_ptr<gptoss::api::SharedTable> its_table)
        : tokenizer(std::move(shared)), table(std::move(its_table)) {}

    const std::shared_ptr<const gptoss::text::Tokenizer> tokenizer;
    const std::shared_ptr<gptoss::api::SharedTable> table;
};
