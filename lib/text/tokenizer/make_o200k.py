#!/usr/bin/env python3
"""Makes o200k.bin, the built-in vocabulary, from o200k_base.tiktoken: make_o200k.py o200k_base.tiktoken o200k.bin

The file is zlib-compressed: the 256 single bytes in the order of their ids, then for every further token the ids of the
two tokens that it is merged from, as six planes: low, middle and high byte of all left ids, then of all right ids.
"""
import base64
import hashlib
import sys
import zlib

SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"


def last_merge(token, ranks):
    """The two parts whose merge ends the byte-pair encoding of token."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in zip(parts, parts[1:])]
        i = pairs.index(min(pairs))
        assert pairs[i] < ranks[token], token
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return ranks[parts[0]], ranks[parts[1]]


def main(source, target):
    data = open(source, "rb").read()
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{source} is not o200k_base.tiktoken")
    tokens = [base64.b64decode(line.split()[0]) for line in data.splitlines()]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges = [last_merge(token, ranks) for token in tokens[256:]]
    planes = b"".join(bytes(m[side] >> shift & 255 for m in merges) for side in (0, 1) for shift in (0, 8, 16))
    open(target, "wb").write(zlib.compress(b"".join(tokens[:256]) + planes, 9))


main(*sys.argv[1:])
