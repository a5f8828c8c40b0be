#!/usr/bin/env python3
"""The gpt-oss forward pass in numpy, written to be read: the measure for shapes that no golden data has.

    reference.py DIR TOKENS.u32 LOGITS.f32 [--positions POSITIONS.u32] [--float32]
    reference.py DIR TOKENS.u32 --compare LOGITS.f32 [--positions POSITIONS.u32]

DIR is a Hugging Face directory with MXFP4 experts. Logits are (positions, vocabulary) float32, of every position
unless a file lists some. Everything is computed in float64 unless --float32.
"""
import argparse
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from synth import f32_of, read_hf  # noqa: E402

FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


class Model:
    def __init__(self, directory, dtype):
        self.config, self.tensors = read_hf(directory)
        self.dtype = dtype

    def __call__(self, name):
        t = self.tensors[name]
        return f32_of(t.values()).reshape(t.shape).astype(self.dtype)

    def experts(self, name):
        """A function from an expert's number to its matrix: (rows, cols)."""
        blocks, scales = (self.tensors[name + suffix].values().reshape(self.tensors[name + suffix].shape)
                          for suffix in ("_blocks", "_scales"))

        def matrix(expert):
            values = np.stack([FP4[blocks[expert] & 15], FP4[blocks[expert] >> 4]], axis=-1)
            rows, per_row = scales[expert].shape
            values = values.reshape(rows, per_row, 32)
            values = np.ldexp(values, scales[expert][..., None].astype(np.int32) - 127)
            return values.reshape(rows, -1).astype(self.dtype)

        return matrix


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rope_table(config, n, dtype):
    """YaRN's cos and sin: (n, head_dim / 2). In float32 the angles are as far off as in published implementations."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    theta = rope.get("rope_theta", config.get("rope_theta", 150000.0))
    factor = rope.get("factor", 1.0) if rope.get("rope_type") == "yarn" else 1.0
    dim = config["head_dim"]
    frequency = theta ** -(np.arange(0, dim, 2) / dim)
    concentration = 1.0
    if factor > 1:
        original = rope["original_max_position_embeddings"]
        # the dimension whose wave turns so many times within the original context
        low, high = (dim * np.log(original / (turns * 2 * np.pi)) / (2 * np.log(theta))
                     for turns in (rope["beta_fast"], rope["beta_slow"]))
        if rope.get("truncate", True):
            low, high = np.floor(low), np.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0, 1)
        frequency = frequency / factor * ramp + frequency * (1 - ramp)
        concentration = 0.1 * np.log(factor) + 1
    angle = np.outer(np.arange(n, dtype=dtype), frequency.astype(dtype))
    return np.cos(angle) * dtype(concentration), np.sin(angle) * dtype(concentration)


def rotate(x, cos, sin):
    """x: (tokens, heads, head_dim), pairs are i and i + head_dim / 2."""
    first, second = np.split(x, 2, axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attention(q, k, v, sinks, window):
    """q: (tokens, heads, head_dim), k and v: (tokens, kv_heads, head_dim); window 0 means none."""
    n, heads, dim = q.shape
    group = heads // k.shape[1]
    out = np.empty_like(q)
    step = 256
    for begin in range(0, n, step):
        end = min(begin + step, n)
        first = max(0, begin - window + 1) if window else 0
        distance = np.arange(begin, end)[:, None] - np.arange(first, end)
        hidden = (distance < 0) | (distance >= window if window else False)
        for h in range(heads):
            scores = q[begin:end, h] @ k[first:end, h // group].T * dim ** -0.5
            scores[hidden] = -np.inf
            sink = np.full((end - begin, 1), sinks[h], q.dtype)
            out[begin:end, h] = softmax(np.hstack([scores, sink]))[:, :-1] @ v[first:end, h // group]
    return out.reshape(n, heads * dim)


def swiglu(h, limit):
    gate, up = np.minimum(h[:, 0::2], limit), np.clip(h[:, 1::2], -limit, limit)
    return gate / (1 + np.exp(-1.702 * gate)) * (up + 1)


def mlp(model, name, t):
    c = model.config
    top = c["num_experts_per_tok"]
    router = t @ model(name + "router.weight").T + model(name + "router.bias")
    chosen = np.argsort(-router, axis=-1, kind="stable")[:, :top]  # stable: of equals the lower index
    weights = softmax(np.take_along_axis(router, chosen, axis=-1))
    gate_up, down = model.experts(name + "experts.gate_up_proj"), model.experts(name + "experts.down_proj")
    gate_up_bias, down_bias = (model(f"{name}experts.{part}_proj_bias") for part in ("gate_up", "down"))
    out = np.zeros_like(t)
    for expert in np.unique(chosen):
        tokens, slot = np.nonzero(chosen == expert)
        h = swiglu(t[tokens] @ gate_up(expert).T + gate_up_bias[expert], c.get("swiglu_limit", 7.0))
        out[tokens] += weights[tokens, slot][:, None] * (h @ down(expert).T + down_bias[expert])
    return out


def forward(model, tokens, positions):
    c = model.config
    eps, dim, n = c["rms_norm_eps"], c["head_dim"], len(tokens)
    cos, sin = rope_table(c, n, model.dtype)
    x = model("model.embed_tokens.weight")[tokens]
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        attn = layer + "self_attn."
        t = rms_norm(x, model(layer + "input_layernorm.weight"), eps)
        q, k, v = ((t @ model(f"{attn}{part}_proj.weight").T + model(f"{attn}{part}_proj.bias")).reshape(n, -1, dim)
                   for part in "qkv")
        window = c["sliding_window"] if c["layer_types"][i] == "sliding_attention" else 0
        a = attention(rotate(q, cos, sin), rotate(k, cos, sin), v, model(attn + "sinks"), window)
        x = x + a @ model(attn + "o_proj.weight").T + model(attn + "o_proj.bias")
        x = x + mlp(model, layer + "mlp.", rms_norm(x, model(layer + "post_attention_layernorm.weight"), eps))
    x = rms_norm(x[positions], model("model.norm.weight"), eps)
    return (x @ model("lm_head.weight").T).astype(np.float32)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("tokens", help="little-endian uint32")
    p.add_argument("out", nargs="?", help="where the logits go")
    p.add_argument("--positions", help="little-endian uint32; all where not given")
    p.add_argument("--float32", action="store_true", help="compute in float32")
    p.add_argument("--compare", metavar="LOGITS", help="print the relative L2 error of these; fail above 1e-5")
    a = p.parse_args()
    tokens = np.fromfile(a.tokens, "<u4")
    positions = np.fromfile(a.positions, "<u4") if a.positions else np.arange(len(tokens))
    logits = forward(Model(a.model, np.float32 if a.float32 else np.float64), tokens, positions)
    if a.out:
        logits.tofile(a.out)
    if a.compare:
        expected = np.fromfile(a.compare, "<f4").reshape(logits.shape).astype(np.float64)
        error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
        print(f"relative L2 error {error:.2e} over {len(positions)} positions")
        sys.exit(bool(error > 1e-5))


if __name__ == "__main__":
    main()
