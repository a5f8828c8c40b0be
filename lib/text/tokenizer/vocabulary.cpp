#include "text/tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <queue>
#include <unordered_map>

#include "base/error.h"

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

constexpr uint64_t no_merge = UINT64_MAX;

uint64_t pair_of(Token left, Token right) { return uint64_t{left} << 21 | right; }

uint64_t hash_pair(uint64_t pair) {
    const uint64_t hash = pair * mix;
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
    if (size > UINT32_MAX || bytes_of.size() > max_vocabulary)
        throw Error(Status::IoError, "the vocabulary is too large");
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
        if (text.size() > UINT16_MAX)
            throw Error(Status::IoError, "token " + std::to_string(token) + " has " + std::to_string(text.size()) +
                                             " bytes; " + std::to_string(UINT16_MAX) + " are allowed");
        if (text.size() == 1) byte_tokens_[static_cast<unsigned char>(text[0])] = token;
        const uint64_t hash = hash_bytes(text);
        size_t i = hash & mask;
        for (; by_bytes_[i].token != no_token; i = (i + 1) & mask)
            if (by_bytes_[i].hash == hash >> 32 && bytes(by_bytes_[i].token) == text)
                throw Error(Status::IoError, "tokens " + std::to_string(by_bytes_[i].token) + " and " +
                                                 std::to_string(token) + " are both " + as_text(text));
        by_bytes_[i] = {static_cast<uint32_t>(hash >> 32), token};
    }
    has_all_bytes_ = std::find(std::begin(byte_tokens_), std::end(byte_tokens_), no_token) == std::end(byte_tokens_);
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

void Vocabulary::reserve_merges(size_t count, size_t num_ranks) {
    if (num_ranks > max_vocabulary) throw Error(Status::IoError, std::to_string(num_ranks) + " merges are too many");
    merges_.assign(table_size(count), no_merge);
    merged_.assign(num_ranks, no_token);
}

void Vocabulary::add_merge(const Merge& merge, uint32_t rank) {
    const uint64_t pair = pair_of(merge.left, merge.right);
    const size_t mask = merges_.size() - 1;
    size_t i = hash_pair(pair) & mask;
    while (merges_[i] != no_merge && merges_[i] >> 21 != pair) i = (i + 1) & mask;
    merges_[i] = pair << 21 | rank;
    merged_[rank] = merge.token;
}

uint32_t Vocabulary::find_merge(Token left, Token right) const {
    const uint64_t pair = pair_of(left, right);
    const size_t mask = merges_.size() - 1;
    for (size_t i = hash_pair(pair) & mask; merges_[i] != no_merge; i = (i + 1) & mask)
        if (merges_[i] >> 21 == pair) return merges_[i] & (max_vocabulary - 1);
    return no_rank;
}

Token Vocabulary::merge(Token left, Token right) const {
    const uint32_t rank = find_merge(left, right);
    return rank == no_rank ? no_token : merged_[rank];
}

void Vocabulary::set_merges(std::span<const Merge> merges) {
    reserve_merges(merges.size(), merges.size());
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
    reserve_merges(num_tokens_, id_limit());
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
    if (piece.size() > window_size && has_all_bytes_ && encode_by_windows(piece, out)) return;
    append_merged(piece, unknown, out);
}

void Vocabulary::append_merged(std::string_view text, Token unknown, std::vector<Token>& out) const {
    const size_t begin = out.size();
    out.resize(begin + text.size());
    size_t end = begin;
    for (unsigned char c : text) {
        const Token token = byte_tokens_[c] != no_token ? byte_tokens_[c] : unknown;
        if (token != no_token) out[end++] = token;
    }
    const std::span<Token> parts = std::span(out).subspan(begin, end - begin);
    out.resize(begin + (parts.size() <= max_short ? merge_short(parts) : merge_long(parts)));
}

// Tokens are the encoding of what they spell if each two neighbours are the encoding of what those two spell: the first
// merge across a boundary would happen between these two alone as well. So a long piece is encoded in windows that fit
// the cache. The end of a window, where the text behind it may matter, is encoded again with the next one, and where
// two windows meet the neighbours are checked. False, and nothing is appended, if they do not fit.
bool Vocabulary::encode_by_windows(std::string_view piece, std::vector<Token>& out) const {
    constexpr size_t overlap = window_size / 8;
    const size_t begin = out.size();
    std::vector<Token> window, pair;
    for (size_t done = 0;;) {
        window.clear();
        append_merged(piece.substr(done, window_size), no_token, window);
        if (done > 0) {
            const std::vector<Token> neighbours = {out.back(), window[0]};
            pair.clear();
            append_merged(std::string(bytes(neighbours[0])).append(bytes(neighbours[1])), no_token, pair);
            if (pair != neighbours) break;
        }
        const bool last = piece.size() - done <= window_size;
        for (size_t again = 0; !last && !window.empty() && again < overlap; window.pop_back())
            again += bytes(window.back()).size();
        if (window.empty()) break;  // tokens as long as the window
        out.insert(out.end(), window.begin(), window.end());
        if (last) return true;
        for (Token token : window) done += bytes(token).size();
    }
    out.resize(begin);
    return false;
}

// Scans all neighbours for each merge: the fastest way for words.
size_t Vocabulary::merge_short(std::span<Token> parts) const {
    uint32_t ranks[max_short];  // of the merge of part i and part i + 1
    size_t count = parts.size();
    for (size_t i = 0; i + 1 < count; ++i) ranks[i] = find_merge(parts[i], parts[i + 1]);
    while (count > 1) {
        const size_t best = std::min_element(ranks, ranks + count - 1) - ranks;
        if (ranks[best] == no_rank) break;
        parts[best] = merged_[ranks[best]];
        --count;
        for (size_t i = best + 1; i < count; ++i) {
            parts[i] = parts[i + 1];
            ranks[i] = ranks[i + 1];
        }
        if (best + 1 < count) ranks[best] = find_merge(parts[best], parts[best + 1]);
        if (best > 0) ranks[best - 1] = find_merge(parts[best - 1], parts[best]);
    }
    return count;
}

// Possible merges wait in one bucket a rank, and a bucket is worked off from left to right: near-linear for pieces of
// any length, and sequential in memory. A merge makes possible only later ones, so that a bucket is rarely left early.
size_t Vocabulary::merge_long(std::span<Token> parts) const {
    struct Bucket {
        std::vector<uint32_t> positions;  // of the left part; void if it no longer begins such a merge
        size_t done = 0;
        bool sorted = true;
    };
    const uint32_t count = static_cast<uint32_t>(parts.size());
    std::vector<uint16_t> extent(count, 1);  // at the first and at the last place of a part: how many places it takes
    std::unordered_map<uint32_t, Bucket> buckets;
    std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ranks;  // of buckets with work left
    auto merge_at = [&](uint32_t i) {
        const uint32_t next = i + extent[i];
        return next < count ? find_merge(parts[i], parts[next]) : no_rank;
    };
    auto push = [&](uint32_t i) {
        const uint32_t rank = merge_at(i);
        if (rank == no_rank) return rank;
        Bucket& bucket = buckets[rank];
        if (bucket.done == bucket.positions.size())
            ranks.push(rank);
        else
            bucket.sorted = bucket.sorted && bucket.positions.back() <= i;
        bucket.positions.push_back(i);
        return rank;
    };
    for (uint32_t i = 0; i + 1 < count; ++i) push(i);
    while (!ranks.empty()) {
        const uint32_t rank = ranks.top();
        ranks.pop();
        Bucket& bucket = buckets[rank];
        if (!bucket.sorted) std::sort(bucket.positions.begin() + bucket.done, bucket.positions.end());
        bucket.sorted = true;
        bool first = true;  // no merge of a lower rank has become possible
        while (first && bucket.done < bucket.positions.size()) {
            const uint32_t i = bucket.positions[bucket.done++];
            if (parts[i] == no_token) continue;
            if (merge_at(i) != rank) continue;
            const uint32_t next = i + extent[i];
            const uint16_t size = static_cast<uint16_t>(extent[i] + extent[next]);
            parts[i] = merged_[rank];
            parts[next] = no_token;
            extent[i] = extent[i + size - 1] = size;
            if (i > 0) first = push(i - extent[i - 1]) > rank;
            first = push(i) > rank && first;
        }
        if (bucket.done < bucket.positions.size())
            ranks.push(rank);
        else
            bucket = {};
    }
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i += extent[i]) parts[left++] = parts[i];
    return left;
}

}  // namespace gptoss::text
