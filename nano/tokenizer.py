"""A small byte-level BPE tokenizer in Hugging Face's tokenizer.json form.

It splits text exactly as o200k_harmony does (the same regular expression) and has Harmony's special tokens.
Two choices make life easy for a tiny model:
  - digits never merge: a number is its digits;
  - letters merge first, and a leading space only joins a whole word at the end. A made-up word is thus the same
    tokens after a space, a quote or a dot, and can be copied token by token.
"""
import collections
import json

import regex

PATTERN = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
])

SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
           "<|message|>", "<|call|>", "<|refusal|>", "<|untrusted|>", "<|end_untrusted|>"]


def byte_alphabet():
    """GPT-2's printable character for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


BYTE_TO_CHAR = byte_alphabet()
CHAR_TO_BYTE = {c: b for b, c in BYTE_TO_CHAR.items()}


def to_chars(text):
    return "".join(BYTE_TO_CHAR[b] for b in text.encode())


def merge_pair(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i:i + 2]) == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def train_merges(texts, inner_merges, space_merges):
    """Learn merges from texts: `inner_merges` inside words and punctuation, then `space_merges` of space + word."""
    inner, spaced = collections.Counter(), collections.Counter()
    for text in texts:
        for word in regex.findall(PATTERN, text):
            if any(c.isdigit() for c in word):
                continue
            if word[0] == " " and len(word) > 1:
                spaced[word[1:]] += 1
                word = word[1:]
            elif len(word) > 1 and not word[0].isalpha() and word[-1].isalpha():
                word = word[1:]  # a dot, quote or underscore before a word
            inner[word] += 1

    words = {word: list(to_chars(word)) for word in inner}
    merges = []
    while len(merges) < inner_merges:
        pairs = collections.Counter()
        for word, symbols in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += inner[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {word: merge_pair(symbols, best) for word, symbols in words.items()}
    for word, _ in sorted(spaced.items(), key=lambda item: (-item[1], item[0])):
        if len(words[word]) == 1 and space_merges > 0:
            merges.append(("\u0120", words[word][0]))
            space_merges -= 1
    return merges


class Tokenizer:
    def __init__(self, merges, size):
        """`size`: vocabulary with the special tokens at its end; what is left over in the middle is never used."""
        self.merges = merges
        self.rank = {pair: i for i, pair in enumerate(merges)}
        tokens = [BYTE_TO_CHAR[b] for b in range(256)] + [a + b for a, b in merges]
        assert len(tokens) == len(set(tokens)) and len(tokens) + len(SPECIAL) <= size
        self.vocab = {token: i for i, token in enumerate(tokens)}
        self.special = {name: size - len(SPECIAL) + i for i, name in enumerate(SPECIAL)}
        self.size = size
        self.bytes = {i: bytes(CHAR_TO_BYTE[c] for c in token) for token, i in self.vocab.items()}
        self.bytes.update({i: name.encode() for name, i in self.special.items()})
        self.words = {}
        self.split = regex.compile("(" + "|".join(map(regex.escape, SPECIAL)) + ")")

    def encode_word(self, word):
        symbols = list(to_chars(word))
        while len(symbols) > 1:
            pair = min(zip(symbols, symbols[1:]), key=lambda pair: self.rank.get(pair, len(self.rank)))
            if pair not in self.rank:
                break
            symbols = merge_pair(symbols, pair)
        return [self.vocab[s] for s in symbols]

    def encode(self, text):
        """Text to ids; the names of special tokens in the text become those tokens."""
        ids = []
        for part in self.split.split(text):
            if part in self.special:
                ids.append(self.special[part])
                continue
            for word in regex.findall(PATTERN, part):
                if word not in self.words:
                    self.words[word] = self.encode_word(word)
                ids.extend(self.words[word])
        return ids

    def decode(self, ids):
        return b"".join(self.bytes.get(i, b"") for i in ids).decode(errors="replace")

    def save(self, path):
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Removed", "invert": True}
        tokenizer = {
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True} for name, i in self.special.items()],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": None,
            "decoder": {**byte_level, "add_prefix_space": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": self.vocab, "merges": [list(pair) for pair in self.merges]},
        }
        with open(path, "w", encoding="utf-8") as f:
            json.dump(tokenizer, f, ensure_ascii=False, indent=0, separators=(",", ":"))
            f.write("\n")


def load(path):
    with open(path, encoding="utf-8") as f:
        data = json.load(f)
    size = max(token["id"] for token in data["added_tokens"]) + 1
    return Tokenizer([tuple(pair) for pair in data["model"]["merges"]], size)
