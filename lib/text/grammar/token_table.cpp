#include "text/grammar/token_table.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/grammar/characters.h"

namespace gptoss::text {

namespace {

// How many characters a token has if it is whole ones that a JSON string holds unescaped; 0 for others.
uint32_t plain_characters(std::string_view bytes) {
    uint32_t count = 0;
    for (; !bytes.empty(); ++count) {
        const uint8_t first = static_cast<uint8_t>(bytes[0]);
        const Utf8Step step = utf8_step(bytes);
        if (!step.valid || first < 0x20 || first == '"' || first == '\\') return 0;
        bytes.remove_prefix(step.size);
    }
    return count;
}

bool is_continuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

TokenTrie::TokenTrie(std::vector<Entry> entries) {
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.bytes < b.bytes; });
    std::vector<uint32_t> path;  // nodes from the root's child on
    std::string_view last;
    const auto close = [&](size_t depth) {
        while (path.size() > depth) {
            Node& node = nodes[path.back()];
            node.end = static_cast<uint32_t>(nodes.size());
            path.pop_back();
            if (!path.empty()) {
                Node& parent = nodes[path.back()];
                const int below = node.longest + !is_continuation(node.byte);
                parent.longest = static_cast<uint8_t>(std::max<int>(parent.longest, std::min(below, 255)));
            }
        }
    };
    for (const Entry& entry : entries) {
        size_t common = 0;
        while (common < std::min(last.size(), entry.bytes.size()) && last[common] == entry.bytes[common]) ++common;
        close(common);
        for (size_t i = common; i < entry.bytes.size(); ++i) {
            path.push_back(static_cast<uint32_t>(nodes.size()));
            nodes.push_back({0, no_token, static_cast<uint8_t>(entry.bytes[i]), 0});
        }
        nodes[path.back()].token = entry.token;
        last = entry.bytes;
    }
    close(0);
    roots.fill(static_cast<uint32_t>(nodes.size()));
    for (uint32_t i = 0; i < nodes.size(); i = nodes[i].end) roots[nodes[i].byte] = i;
}

uint32_t TokenTrie::find(std::string_view text) const {
    const uint32_t none = static_cast<uint32_t>(nodes.size());
    uint32_t node = none;
    for (size_t depth = 0; depth < text.size(); ++depth) {
        const uint8_t byte = static_cast<uint8_t>(text[depth]);
        uint32_t next = depth == 0 ? roots[byte] : node + 1;
        const uint32_t end = depth == 0 ? none : nodes[node].end;
        while (next < end && nodes[next].byte < byte) next = nodes[next].end;
        if (next >= end || nodes[next].byte != byte) return none;
        node = next;
    }
    return node;
}

bool TokenTable::begins_longer_token(std::string_view text) const {
    for (const TokenTrie* trie : {&plain_, &other_}) {
        const uint32_t node = trie->find(text);
        if (node < trie->nodes.size() && trie->nodes[node].end > node + 1) return true;
    }
    return false;
}

TokenTable::Split TokenTable::split(const Tokenizer& tokenizer) {
    Split split;
    for (Token token = 0; token < tokenizer.id_limit(); ++token) {
        const std::string_view bytes = tokenizer.text_token(token);
        if (bytes.empty() || tokenizer.special_token_name(token)) continue;
        (plain_characters(bytes) > 0 ? split.plain : split.other).push_back({bytes, token});
    }
    return split;
}

TokenTable::TokenTable(std::shared_ptr<const Tokenizer> tokenizer) : TokenTable(tokenizer, split(*tokenizer)) {}

TokenTable::TokenTable(std::shared_ptr<const Tokenizer> tokenizer, Split split)
    : tokenizer_(std::move(tokenizer)),
      num_tokens_(tokenizer_->id_limit()),
      plain_up_to_(max_characters + 1, TokenMask(mask_words())),
      plain_(split.plain),
      other_(std::move(split.other)) {
    for (const auto& [bytes, token] : split.plain)
        for (uint32_t i = std::min(plain_characters(bytes), max_characters); i <= max_characters; ++i)
            allow(plain_up_to_[i], token);
    for (Token token = 0; token < num_tokens_; ++token)
        longest_token_ = std::max(longest_token_, static_cast<uint32_t>(tokenizer_->text_token(token).size()));
}

}  // namespace gptoss::text
