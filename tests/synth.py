#!/usr/bin/env python3
"""Synthetic gpt-oss checkpoints of any shape: the real layout with made-up weights.

    synth.py OUT [--layers 4 --experts 8 --vocab 16384 ...]      a Hugging Face directory
    synth.py OUT.gguf --gguf bf16|q8_0 [--layers 4 ...]          the same model as GGUF, as llama.cpp reads it
    synth.py --to-gguf DIR OUT.gguf [--dense bf16|q8_0]          GGUF from a Hugging Face directory

The default shape is 20b's. Weights follow from the seed alone and are scaled so that the residual stays near 1 while the
clamp at 7, the attention sinks and the window all change the result. Everything is streamed: a checkpoint of any
size takes little memory.
"""
import argparse
import json
import os
import struct

import numpy as np

PIECE = 1 << 24  # values drawn at a time; a part of what a seed means


# ---------------------------------------------------------------------------------------------------------- weights


def bf16_of(x):
    """float32 to bfloat16 bits, to nearest, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16)


def f32_of(bf16):
    return (bf16.astype(np.uint32) << 16).view(np.float32)


class Tensor:
    """A tensor of a checkpoint: safetensors type, shape, and a function that yields its values in flat pieces."""

    def __init__(self, dtype, shape, pieces):
        self.dtype, self.shape, self.pieces = dtype, tuple(int(n) for n in shape), pieces
        self.itemsize = {"BF16": 2, "U8": 1}[dtype]
        self.size = int(np.prod(self.shape, dtype=np.int64))

    def values(self):
        return np.concatenate(list(self.pieces()))

    def aligned(self, unit):
        """The same pieces, but each a multiple of unit long."""
        rest = None
        for piece in self.pieces():
            if rest is not None and rest.size:
                piece = np.concatenate([rest, piece])
            whole = piece.size // unit * unit
            if whole:
                yield piece[:whole]
            rest = piece[whole:]


class Generator:
    """Draws a model's tensors one after the other: pieces must be taken in the order of tensors()."""

    def __init__(self, config, seed):
        self.config, self.random = config, np.random.default_rng(seed)

    def split(self, n):
        return (min(PIECE, n - at) for at in range(0, n, PIECE))

    def normal(self, *shape, std):
        def pieces():
            for n in self.split(int(np.prod(shape, dtype=np.int64))):
                x = self.random.standard_normal(n, np.float32)
                x *= np.float32(std)
                yield bf16_of(x)
        return Tensor("BF16", shape, pieces)

    def gain(self, n):
        """A norm's weight: around 1."""
        return Tensor("BF16", (n,), lambda: (bf16_of(1 + 0.1 * self.random.standard_normal(k)) for k in self.split(n)))

    def mxfp4(self, name, rows, cols, std):
        """Every byte is two random values, whose rms is 2.9; block scales spread that over four octaves around std."""
        exponent = 127 + round(np.log2(std / 2.9))
        shape = (self.config["num_local_experts"], rows, cols // 32)
        n = int(np.prod(shape, dtype=np.int64))

        def blocks():
            return (self.random.integers(0, 256, k, np.uint8) for k in self.split(16 * n))

        def scales():
            return ((self.random.integers(-2, 2, k) + exponent).astype(np.uint8) for k in self.split(n))

        return {name + "_blocks": Tensor("U8", (*shape, 16), blocks), name + "_scales": Tensor("U8", shape, scales)}

    def layer(self, name):
        c = self.config
        hidden, inter, experts = c["hidden_size"], c["intermediate_size"], c["num_local_experts"]
        heads = c["num_attention_heads"]
        q_rows, kv_rows = heads * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
        attn, mlp = name + "self_attn.", name + "mlp."
        tensors = {name + "input_layernorm.weight": self.gain(hidden)}
        for part, rows, gain in (("q", q_rows, 1.5), ("k", kv_rows, 1.5), ("v", kv_rows, 1.0)):
            tensors[f"{attn}{part}_proj.weight"] = self.normal(rows, hidden, std=gain * hidden ** -0.5)
            tensors[f"{attn}{part}_proj.bias"] = self.normal(rows, std=0.3)
        tensors[attn + "o_proj.weight"] = self.normal(hidden, q_rows, std=q_rows ** -0.5)
        tensors[attn + "o_proj.bias"] = self.normal(hidden, std=0.1)
        tensors[attn + "sinks"] = self.normal(heads, std=1.5)
        tensors[name + "post_attention_layernorm.weight"] = self.gain(hidden)
        tensors[mlp + "router.weight"] = self.normal(experts, hidden, std=1.5 * hidden ** -0.5)
        tensors[mlp + "router.bias"] = self.normal(experts, std=0.3)
        # gate and up have a deviation of 3, so that many values pass the clamp
        tensors |= self.mxfp4(mlp + "experts.gate_up_proj", 2 * inter, hidden, 3.0 * hidden ** -0.5)
        tensors[mlp + "experts.gate_up_proj_bias"] = self.normal(experts, 2 * inter, std=0.5)
        tensors |= self.mxfp4(mlp + "experts.down_proj", hidden, inter, 0.3 * inter ** -0.5)
        tensors[mlp + "experts.down_proj_bias"] = self.normal(experts, hidden, std=0.1)
        return tensors

    def tensors(self):
        vocab, hidden = self.config["vocab_size"], self.config["hidden_size"]
        tensors = {"model.embed_tokens.weight": self.normal(vocab, hidden, std=1.0)}
        for i in range(self.config["num_hidden_layers"]):
            tensors |= self.layer(f"model.layers.{i}.")
        tensors["model.norm.weight"] = self.gain(hidden)
        tensors["lm_head.weight"] = self.normal(vocab, hidden, std=2.0 * hidden ** -0.5)
        return tensors


def make_config(a):
    return {
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "eos_token_id": min(200002, a.vocab - 1),
        "head_dim": a.head_dim,
        "hidden_act": "silu",
        "hidden_size": a.hidden,
        "initial_context_length": a.original_ctx,
        "intermediate_size": a.inter,
        "layer_types": [("sliding_attention", "full_attention")[i % 2] for i in range(a.layers)],
        "max_position_embeddings": a.ctx,
        "model_type": "gpt_oss",
        "num_attention_heads": a.heads,
        "num_experts_per_tok": a.topk,
        "num_hidden_layers": a.layers,
        "num_key_value_heads": a.kv,
        "num_local_experts": a.experts,
        "pad_token_id": min(199999, a.vocab - 2),
        "quantization_config": {"quant_method": "mxfp4"},
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": a.factor, "rope_type": "yarn",
                         "original_max_position_embeddings": a.original_ctx, "truncate": False},
        "rope_theta": a.theta,
        "sliding_window": a.window,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "vocab_size": a.vocab,
    }


# ------------------------------------------------------------------------------------------------------ safetensors


def write_hf(out, config, tensors):
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    header, at = {}, 0
    for name, t in tensors.items():
        end = at + t.size * t.itemsize
        header[name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(out, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            for piece in t.pieces():
                f.write(piece.data)


def read_safetensors(path):
    with open(path, "rb") as f:
        length, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(length))
    header.pop("__metadata__", None)

    def tensor(entry):
        dtype = {"BF16": np.uint16, "U8": np.uint8}[entry["dtype"]]
        begin, end = (8 + length + offset for offset in entry["data_offsets"])

        def pieces():
            for at in range(begin, end, PIECE):
                yield np.fromfile(path, dtype, min(PIECE, end - at) // np.dtype(dtype).itemsize, offset=at)

        return Tensor(entry["dtype"], entry["shape"], pieces)

    return {name: tensor(entry) for name, entry in header.items()}


def read_hf(directory):
    """The config and the tensors of one model.safetensors or of the shards that an index names."""
    with open(os.path.join(directory, "config.json")) as f:
        config = json.load(f)
    index = os.path.join(directory, "model.safetensors.index.json")
    files = ["model.safetensors"]
    if os.path.exists(index):
        with open(index) as f:
            files = sorted(set(json.load(f)["weight_map"].values()))
    tensors = {}
    for name in files:
        tensors |= read_safetensors(os.path.join(directory, name))
    return config, tensors


# ------------------------------------------------------------------------------------------------------------- GGUF

GGML_TYPES = {"f32": 0, "q8_0": 8, "bf16": 30, "mxfp4": 39}
GGML_BLOCKS = {"f32": (1, 4), "q8_0": (32, 34), "bf16": (1, 2), "mxfp4": (32, 17)}  # values, bytes
U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9


def q8_0_of(values):
    """float32 blocks of 32 to a float16 scale and 32 signed bytes each."""
    x = values.reshape(-1, 32)
    scale = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    out = np.empty((len(x), 34), np.uint8)
    out[:, :2] = scale.astype(np.float16).view(np.uint8)
    scaled = x * inverse
    # halves away from zero, as llama.cpp's own quantizer rounds
    out[:, 2:] = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8).view(np.uint8)
    return out


def interleave_nibbles(blocks):
    """Blocks of 16 bytes with value 2j in the low nibble of byte j, to value j there and value j + 16 in the high."""
    first, second = blocks[..., :8], blocks[..., 8:]
    out = np.empty_like(blocks)
    out[..., 0::2] = (first & 15) | (second << 4)
    out[..., 1::2] = (first >> 4) | (second & 0xF0)
    return out


def made_up_tokenizer(vocab):
    """The 256 byte tokens and reserved ones, in place of a real vocabulary: tokens, their types, merges."""
    # GPT-2's byte alphabet: printable bytes are themselves, others the characters from U+0100 on
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = [chr(b) for b in plain] + [chr(0x100 + i) for i in range(256 - len(plain))]
    tokens = (alphabet + [f"<|reserved_{i}|>" for i in range(256, vocab)])[:vocab]
    return tokens, [1 if i < 256 else 3 for i in range(vocab)], ["a b"]  # normal, control


def read_tokenizer(path, vocab):
    """The same of a tokenizer.json; ids that it leaves out are reserved."""
    with open(path) as f:
        tokenizer = json.load(f)
    tokens, types = [f"<|reserved_{i}|>" for i in range(vocab)], [3] * vocab
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = token, 1
    for token in tokenizer["added_tokens"]:
        tokens[token["id"]], types[token["id"]] = token["content"], 3
    return tokens, types, [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]


def gguf_metadata(config, tokenizer):
    """(key, type, value)"""
    rope = config.get("rope_scaling") or config["rope_parameters"]
    vocab = config["vocab_size"]
    tokens, types, merges = tokenizer
    model = [
        ("block_count", U32, config["num_hidden_layers"]),
        ("context_length", U32, config["max_position_embeddings"]),
        ("embedding_length", U32, config["hidden_size"]),
        ("feed_forward_length", U32, config["intermediate_size"]),
        ("expert_feed_forward_length", U32, config["intermediate_size"]),
        ("expert_count", U32, config["num_local_experts"]),
        ("expert_used_count", U32, config["num_experts_per_tok"]),
        ("attention.head_count", U32, config["num_attention_heads"]),
        ("attention.head_count_kv", U32, config["num_key_value_heads"]),
        ("attention.key_length", U32, config["head_dim"]),
        ("attention.value_length", U32, config["head_dim"]),
        ("attention.layer_norm_rms_epsilon", F32, config["rms_norm_eps"]),
        ("attention.sliding_window", U32, config["sliding_window"]),
        ("rope.freq_base", F32, config.get("rope_theta") or rope["rope_theta"]),
        ("rope.scaling.type", STRING, "yarn"),
        ("rope.scaling.factor", F32, rope["factor"]),
        ("rope.scaling.original_context_length", U32, rope["original_max_position_embeddings"]),
    ]
    return [
        ("general.architecture", STRING, "gpt-oss"),
        ("general.name", STRING, "synthetic"),
        *(("gpt-oss." + key, kind, value) for key, kind, value in model),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "gpt-4o"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
        ("tokenizer.ggml.token_type", ARRAY, (I32, types)),
        ("tokenizer.ggml.merges", ARRAY, (STRING, merges)),
        ("tokenizer.ggml.bos_token_id", U32, min(199998, vocab - 3)),
        ("tokenizer.ggml.eos_token_id", U32, config["eos_token_id"]),
        ("tokenizer.ggml.padding_token_id", U32, config["pad_token_id"]),
    ]


def gguf_value(kind, value):
    if kind == STRING:
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw
    if kind == ARRAY:
        element, values = value
        return struct.pack("<IQ", element, len(values)) + b"".join(gguf_value(element, v) for v in values)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f"}[kind], value)


def gguf_names(config):
    """Hugging Face's names to GGUF's; gate_up becomes two tensors."""
    names = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight",
             "model.norm.weight": "output_norm.weight"}
    for i in range(config["num_hidden_layers"]):
        hf, gguf = f"model.layers.{i}.", f"blk.{i}."
        names[hf + "input_layernorm.weight"] = gguf + "attn_norm.weight"
        names[hf + "post_attention_layernorm.weight"] = gguf + "post_attention_norm.weight"
        names[hf + "self_attn.sinks"] = gguf + "attn_sinks.weight"
        for ours, theirs in (("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
                             ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
                             ("mlp.router", "ffn_gate_inp")):
            names[hf + ours + ".weight"] = gguf + theirs + ".weight"
            names[hf + ours + ".bias"] = gguf + theirs + ".bias"
        experts = hf + "mlp.experts."
        for ours, theirs in (("gate_up_proj", ["ffn_gate_exps", "ffn_up_exps"]), ("down_proj", ["ffn_down_exps"])):
            names[experts + ours + "_bias"] = [gguf + t + ".bias" for t in theirs]
            names[experts + ours + "_blocks"] = names[experts + ours + "_scales"] = [gguf + t + ".weight" for t in theirs]
    return names


def gguf_layout(tensors, names, dense):
    """GGUF name to (type, shape, innermost dimension last), in the order of the file."""
    layout = {}
    for name, t in tensors.items():
        targets = names[name]
        if isinstance(targets, str):
            is_dense = len(t.shape) == 2 and ".router." not in name
            layout[targets] = (dense if is_dense else "f32", t.shape)
            continue
        for target in targets:
            if name.endswith("_bias"):
                layout[target] = ("f32", (t.shape[0], t.shape[1] // len(targets)))
            elif name.endswith("_blocks"):
                layout[target] = ("mxfp4", (t.shape[0], t.shape[1] // len(targets), t.shape[2] * 32))
    return layout


def put_dense(t, kind, out):
    """The pieces of one tensor, one after the other, converted."""
    at = 0
    for piece in t.aligned(32) if kind == "q8_0" else t.pieces():
        if kind == "bf16":
            raw = piece.view(np.uint8)
        elif kind == "f32":
            raw = f32_of(piece).view(np.uint8)
        else:
            raw = q8_0_of(f32_of(piece)).reshape(-1)
        out[at:at + raw.size] = raw
        at += raw.size


def put_experts(name, t, outs):
    """The rows of one tensor in turn to each of outs: gate, up, gate, up, …"""
    n = len(outs)
    if name.endswith("_bias"):
        values = f32_of(t.values())
        for p, out in enumerate(outs):
            out[:] = np.ascontiguousarray(values[p::n]).view(np.uint8)
        return
    per_row = t.shape[2]
    unit = (16 if name.endswith("_blocks") else 1) * per_row
    at = 0
    for piece in t.aligned(n * unit):
        rows = piece.reshape(-1, n, per_row, unit // per_row)
        for p, out in enumerate(outs):
            target = out.reshape(-1, per_row, 17)[at:at + len(rows)]
            if name.endswith("_blocks"):
                target[..., 1:] = interleave_nibbles(rows[:, p])
            else:
                target[..., :1] = rows[:, p]
        at += len(rows)


def write_gguf(out, config, tensors, dense, tokenizer):
    names = gguf_names(config)
    layout = gguf_layout(tensors, names, dense)
    metadata = gguf_metadata(config, tokenizer)
    header = [b"GGUF", struct.pack("<IQQ", 3, len(layout), len(metadata))]
    for key, kind, value in metadata:
        header.append(gguf_value(STRING, key) + struct.pack("<I", kind) + gguf_value(kind, value))
    spans, at = {}, 0
    for name, (kind, shape) in layout.items():
        values, nbytes = GGML_BLOCKS[kind]
        size = int(np.prod(shape, dtype=np.int64)) // values * nbytes
        header.append(gguf_value(STRING, name) + struct.pack("<I", len(shape)) +
                      struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", GGML_TYPES[kind], at))
        spans[name] = (at, size)
        at += size + -size % 32
    header = b"".join(header)
    header += b"\0" * (-len(header) % 32)
    with open(out, "wb") as f:
        f.write(header)
        f.truncate(len(header) + at)

    def span(name):
        """A tensor's bytes, written in place, since blocks and scales come one after the other and lie side by side."""
        begin, size = spans[name]
        return np.memmap(out, np.uint8, "r+", len(header) + begin, (size,))

    for name, t in tensors.items():
        targets = names[name]
        if isinstance(targets, str):
            put_dense(t, layout[targets][0], span(targets))
        else:
            put_experts(name, t, [span(target) for target in targets])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", nargs="?", help="a directory; with --gguf a file")
    p.add_argument("--gguf", choices=("bf16", "q8_0"), help="write GGUF, with dense weights of this type")
    p.add_argument("--to-gguf", nargs=2, metavar=("DIR", "OUT"), help="convert a Hugging Face directory")
    p.add_argument("--dense", choices=("bf16", "q8_0"), default="bf16", help="type of dense weights for --to-gguf")
    p.add_argument("--seed", type=int, default=0)
    for name, default in dict(layers=24, hidden=2880, inter=2880, heads=64, kv=8, head_dim=64, experts=32, topk=4,
                              vocab=201088, window=128, ctx=131072, original_ctx=4096).items():
        p.add_argument("--" + name.replace("_", "-"), type=int, default=default, help=f"default {default}")
    p.add_argument("--factor", type=float, default=32.0, help="of YaRN; default 32")
    p.add_argument("--theta", type=float, default=150000.0, help="of RoPE; default 150000")
    a = p.parse_args()
    if bool(a.out) == bool(a.to_gguf):
        p.error("give OUT, or --to-gguf DIR OUT")
    if a.to_gguf:
        folder, out = a.to_gguf
        config, tensors = read_hf(folder)
        path, vocab = os.path.join(folder, "tokenizer.json"), config["vocab_size"]
        tokenizer = read_tokenizer(path, vocab) if os.path.exists(path) else made_up_tokenizer(vocab)
        write_gguf(out, config, tensors, a.dense, tokenizer)
        return
    config = make_config(a)
    tensors = Generator(config, a.seed).tensors()
    if a.gguf:
        write_gguf(a.out, config, tensors, a.gguf, made_up_tokenizer(config["vocab_size"]))
    else:
        write_hf(a.out, config, tensors)


if __name__ == "__main__":
    main()
