#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "text/tokenizer/sources.h"

using namespace gptoss::text;

namespace {

// Byte-pair encoding as it is defined: of all neighbours the merge of the lowest rank, the leftmost of equals.
std::vector<Token> reference(const std::vector<std::string>& tokens, const std::vector<Vocabulary::Merge>& merges,
                             std::string_view piece) {
    std::vector<Token> parts;
    for (char c : piece)
        parts.push_back(
            static_cast<Token>(std::find(tokens.begin(), tokens.end(), std::string(1, c)) - tokens.begin()));
    for (;;) {
        size_t best = merges.size(), at = 0;
        for (size_t i = 0; i + 1 < parts.size(); ++i)
            for (size_t rank = 0; rank < best; ++rank)
                if (merges[rank].left == parts[i] && merges[rank].right == parts[i + 1]) best = rank, at = i;
        if (best == merges.size()) return parts;
        parts[at] = merges[best].token;
        parts.erase(parts.begin() + at + 1);
    }
}

}  // namespace

TEST_CASE("merging follows the definition for random vocabularies and texts of every length") {
    std::mt19937 random(7);
    for (int round = 0; round < 60; ++round) {
        std::vector<std::string> tokens = {"a", "b", "c"};
        std::vector<Vocabulary::Merge> merges;
        while (tokens.size() < 24) {
            const Token left = random() % tokens.size(), right = random() % tokens.size();
            const std::string joined = tokens[left] + tokens[right];
            if (joined.size() > 12 || std::find(tokens.begin(), tokens.end(), joined) != tokens.end()) continue;
            merges.push_back({left, right, static_cast<Token>(tokens.size())});
            tokens.push_back(joined);
        }
        // Half of the lists use tokens before they are made.
        if (round % 2) std::shuffle(merges.begin(), merges.end(), random);
        Vocabulary vocabulary{tokens};
        vocabulary.set_merges(merges);
        for (size_t size : {1, 2, 5, 63, 64, 65, 66, 200}) {
            std::string piece;
            const int letters = 1 + random() % 3;
            for (size_t i = 0; i < size; ++i) piece += static_cast<char>('a' + random() % letters);
            std::vector<Token> out;
            vocabulary.encode_piece(piece, no_token, out);
            CAPTURE(piece);
            CHECK(out == reference(tokens, merges, piece));
        }
    }
}

TEST_CASE("long pieces encoded by windows are encoded as one") {
    std::mt19937 random(8);
    for (int round = 0; round < 40; ++round) {
        // With all 256 bytes the vocabulary may use windows, with one missing it may not.
        std::vector<std::string> tokens;
        for (int c = 0; c < 256; ++c) tokens.push_back(std::string(1, static_cast<char>(c)));
        std::vector<Token> pool = {'a', 'b', 'c'};
        std::vector<Vocabulary::Merge> merges;
        while (merges.size() < 40) {
            const Token left = pool[random() % pool.size()], right = pool[random() % pool.size()];
            const std::string joined = tokens[left] + tokens[right];
            if (joined.size() > 200 || std::find(tokens.begin(), tokens.end(), joined) != tokens.end()) continue;
            merges.push_back({left, right, static_cast<Token>(tokens.size())});
            pool.push_back(static_cast<Token>(tokens.size()));
            tokens.push_back(joined);
        }
        if (round % 2) std::shuffle(merges.begin(), merges.end(), random);
        Vocabulary by_windows{tokens};
        tokens['z'].clear();
        Vocabulary whole{tokens};
        by_windows.set_merges(merges);
        whole.set_merges(merges);
        std::string piece, unit;
        for (int i = 0; i < 1 + round % 7; ++i) unit += static_cast<char>('a' + random() % 3);
        while (piece.size() < 30000) piece += round % 3 ? unit : std::string(1, static_cast<char>('a' + random() % 3));
        std::vector<Token> a, b;
        by_windows.encode_piece(piece, no_token, a);
        whole.encode_piece(piece, no_token, b);
        CHECK(a == b);
    }
}
