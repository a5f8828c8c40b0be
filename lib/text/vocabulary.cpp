#include "text/vocabulary.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "error.h"

namespace gptoss::text {

namespace {

constexpr uint64_t mix = 0x9E3779B97F4A7C15;

uint64_t hash_bytes(std::string_view bytes) {
    uint64_t hash = bytes.size() * mix;
    while (bytes.size() >= 8) {
        uint64_t word;
        std::memcpy(&word, bytes.data(), 8);
        hash = (hash ^ word) * mix;
        hash ^= hash >> 32;
        bytes.remove_prefix(8);
    }
    uint64_t word = 0;
    if (!bytes.empty()) std::memcpy(&word, bytes.data(), bytes.size());
    hash = (hash ^ word) * mix;
    return hash ^ (hash >> 29);
}

uint64_t hash_pair(Token left, Token right) {
    uint64_t hash = ((uint64_t{left} << 32) | right) * mix;
    return hash ^ (hash >> 32);
}

size_t table_size(size_t count) { return std::bit_ceil(std::max<size_t>(count * 2, 16)); }

std::string as_text(std::string_view bytes) {
    static const char digits[] = "0123456789abcdef";
    std::string out = "\"";
    for (unsigned char c : bytes.substr(0, 64)) {
        if (c >= 0x20 && c < 0x7F && c != '"' && c != '\\')
            out += static_cast<char>(c);
        else
            out += {'\\', 'x', digits[c >> 4], digits[c & 15]};
    }
    return out + (bytes.size() > 64 ? "…\"" : "\"");
}

}  // namespace

Vocabulary::Vocabulary(std::span<const std::string> bytes_of) {
    size_t size = 0;
    for (const std::string& bytes : bytes_of) size += bytes.size();
    if (size > UINT32_MAX || bytes_of.size() >= no_token) throw Error(Status::IoError, "the vocabulary is too large");
    arena_.reserve(size);
    offsets_.reserve(bytes_of.size() + 1);
    offsets_.push_back(0);
    for (const std::string& bytes : bytes_of) {
        arena_ += bytes;
        offsets_.push_back(static_cast<uint32_t>(arena_.size()));
    }
    index_tokens();
}

Vocabulary::Vocabulary(std::string arena, std::vector<uint32_t> offsets)
    : arena_(std::move(arena)), offsets_(std::move(offsets)) {
    index_tokens();
}

void Vocabulary::index_tokens() {
    std::fill(std::begin(byte_tokens_), std::end(byte_tokens_), no_token);
    by_bytes_.assign(table_size(id_limit()), {});
    const size_t mask = by_bytes_.size() - 1;
    for (Token token = 0; token < id_limit(); ++token) {
        std::string_view text = bytes(token);
        if (text.empty()) continue;
        ++num_tokens_;
        if (text.size() == 1) byte_tokens_[static_cast<unsigned char>(text[0])] = token;
        const uint64_t hash = hash_bytes(text);
        size_t i = hash & mask;
        for (; by_bytes_[i].token != no_token; i = (i + 1) & mask)
            if (by_bytes_[i].hash == hash >> 32 && bytes(by_bytes_[i].token) == text)
                throw Error(Status::IoError, "tokens " + std::to_string(by_bytes_[i].token) + " and " +
                                                 std::to_string(token) + " are both " + as_text(text));
        by_bytes_[i] = {static_cast<uint32_t>(hash >> 32), token};
    }
}

std::string_view Vocabulary::bytes(Token token) const {
    if (token >= id_limit()) return {};
    return std::string_view(arena_).substr(offsets_[token], offsets_[token + 1] - offsets_[token]);
}

Token Vocabulary::find(std::string_view text) const {
    const size_t mask = by_bytes_.size() - 1;
    const uint64_t hash = hash_bytes(text);
    for (size_t i = hash & mask; by_bytes_[i].token != no_token; i = (i + 1) & mask)
        if (by_bytes_[i].hash == hash >> 32 && bytes(by_bytes_[i].token) == text) return by_bytes_[i].token;
    return no_token;
}

void Vocabulary::reserve_merges(size_t count) { merges_.assign(table_size(count), {}); }

void Vocabulary::add_merge(const Merge& merge, uint32_t rank) {
    const size_t mask = merges_.size() - 1;
    size_t i = hash_pair(merge.left, merge.right) & mask;
    while (merges_[i].left != no_token && (merges_[i].left != merge.left || merges_[i].right != merge.right))
        i = (i + 1) & mask;
    merges_[i] = {merge.left, merge.right, rank, merge.token};
}

Vocabulary::MergeSlot Vocabulary::find_merge(Token left, Token right) const {
    const size_t mask = merges_.size() - 1;
    for (size_t i = hash_pair(left, right) & mask; merges_[i].left != no_token; i = (i + 1) & mask)
        if (merges_[i].left == left && merges_[i].right == right) return merges_[i];
    return {};
}

void Vocabulary::set_merges(std::span<const Merge> merges) {
    reserve_merges(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) add_merge(merges[i], static_cast<uint32_t>(i));
}

// Inside a longer text, the parts of a token merge in the same order as when the token stands alone: which of them
// comes first depends on them only. So the last merge of the lone token is the only one that ever makes it.
void Vocabulary::set_merges_from_ranks() {
    constexpr size_t longest = 512;  // what follows is quadratic
    struct Part {
        size_t begin;
        Token with_next;  // what it and the next part spell
    };
    reserve_merges(num_tokens_);
    std::vector<Part> parts;
    for (Token token = 0; token < id_limit(); ++token) {
        const std::string_view text = bytes(token);
        if (text.size() < 2) continue;
        if (text.size() > longest)
            throw Error(Status::IoError, "token " + std::to_string(token) + " has " + std::to_string(text.size()) +
                                             " bytes; " + std::to_string(longest) + " are allowed");
        parts.clear();
        for (size_t i = 0; i < text.size(); ++i) parts.push_back({i, find(text.substr(i, 2))});
        parts.back().with_next = no_token;
        auto end_of = [&](size_t i) { return i + 1 < parts.size() ? parts[i + 1].begin : text.size(); };
        auto spell = [&](size_t i) {
            return i + 1 < parts.size() ? find(text.substr(parts[i].begin, end_of(i + 1) - parts[i].begin)) : no_token;
        };
        while (parts.size() > 2) {
            auto best = std::min_element(parts.begin(), parts.end(),
                                         [](const Part& a, const Part& b) { return a.with_next < b.with_next; });
            if (best->with_next == no_token) break;
            const size_t i = best - parts.begin();
            parts.erase(best + 1);
            parts[i].with_next = spell(i);
            if (i > 0) parts[i - 1].with_next = spell(i - 1);
        }
        if (parts.size() != 2) continue;  // only a whole piece can be this token
        const size_t middle = parts[1].begin;
        add_merge({find(text.substr(0, middle)), find(text.substr(middle)), token}, token);
    }
}

void Vocabulary::encode_piece(std::string_view piece, Token unknown, std::vector<Token>& out) const {
    const size_t begin = out.size();
    for (unsigned char c : piece) {
        Token token = byte_tokens_[c] != no_token ? byte_tokens_[c] : unknown;
        if (token != no_token) out.push_back(token);
    }
    const std::span<Token> parts = std::span(out).subspan(begin);
    const size_t count = parts.size() <= 64 ? merge_short(parts) : merge_long(parts);
    out.resize(begin + count);
}

// Scans all neighbours for each merge: the fastest way for words.
size_t Vocabulary::merge_short(std::span<Token> parts) const {
    struct {
        uint32_t rank;
        Token token;
    } next[64];  // the merge of part i and part i + 1
    auto look_up = [&](size_t i) {
        MergeSlot merge = find_merge(parts[i], parts[i + 1]);
        next[i] = {merge.rank, merge.token};
    };
    size_t count = parts.size();
    for (size_t i = 0; i + 1 < count; ++i) look_up(i);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; ++i)
            if (next[i].rank < next[best].rank) best = i;
        if (next[best].rank == no_rank) break;
        parts[best] = next[best].token;
        --count;
        for (size_t i = best + 1; i < count; ++i) {
            parts[i] = parts[i + 1];
            next[i] = next[i + 1];
        }
        if (best + 1 < count) look_up(best);
        if (best > 0) look_up(best - 1);
    }
    return count;
}

// A heap of all possible merges, the first on top: near-linear for pieces of any length.
size_t Vocabulary::merge_long(std::span<Token> parts) const {
    struct Part {
        Token token;
        uint32_t previous, next;  // neighbours
        uint32_t rank;            // of the merge with the next part; no_rank also for a part that is gone
    };
    constexpr uint32_t none = UINT32_MAX;
    const uint32_t count = static_cast<uint32_t>(parts.size());
    std::vector<Part> list(count);
    std::vector<uint64_t> heap;  // rank << 32 | part, the smallest on top; a merge is void once its part's rank differs
    auto look_up = [&](uint32_t i) {
        Part& part = list[i];
        part.rank = part.next == none ? no_rank : find_merge(part.token, list[part.next].token).rank;
        return part.rank != no_rank;
    };
    for (uint32_t i = 0; i < count; ++i) list[i] = {parts[i], i - 1, i + 1 < count ? i + 1 : none, no_rank};
    for (uint32_t i = 0; i < count; ++i)
        if (look_up(i)) heap.push_back(uint64_t{list[i].rank} << 32 | i);
    std::make_heap(heap.begin(), heap.end(), std::greater<>());
    auto push = [&](uint32_t i) {
        if (!look_up(i)) return;
        heap.push_back(uint64_t{list[i].rank} << 32 | i);
        std::push_heap(heap.begin(), heap.end(), std::greater<>());
    };
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), std::greater<>());
        const uint32_t i = static_cast<uint32_t>(heap.back());
        const uint32_t rank = static_cast<uint32_t>(heap.back() >> 32);
        heap.pop_back();
        Part& part = list[i];
        if (part.rank != rank) continue;
        Part& gone = list[part.next];
        part.token = find_merge(part.token, gone.token).token;
        part.next = gone.next;
        gone.rank = no_rank;
        if (part.next != none) list[part.next].previous = i;
        push(i);
        if (part.previous != none) push(part.previous);
    }
    size_t left = 0;
    for (uint32_t i = 0; i != none; i = list[i].next) parts[left++] = list[i].token;
    return left;
}

}  // namespace gptoss::text
