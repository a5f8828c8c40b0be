"""Export to and import from a Hugging Face folder: MXFP4 experts, BF16 for everything else."""
import json
import os
import struct

import numpy as np
import torch

from model import is_mxfp4, weight_shapes

E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])


def mxfp4_split(w):
    """w (..., n) -> E2M1 values (..., n/32, 32) and exponents (..., n/32, 1) with w ≈ values · 2^exponents.

    The largest of 32 weights comes to lie in (3.5, 7] before rounding: from 6 to 7 it is rounded to 6, no
    worse than the rounding between 4 and 6.
    """
    blocks = w.float().unflatten(-1, (-1, 32))
    exponent = torch.ceil(torch.log2(blocks.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 7))
    x = blocks * torch.exp2(-exponent)
    # E2M1 has steps of 0.5 below 2, of 1 below 4, of 2 below 6
    size = x.abs()
    step = torch.exp2(torch.floor(torch.log2(size.clamp_min(1))).sub_(1))
    return torch.round(x / step).mul_(step).clamp_(-6, 6), exponent


def mxfp4_round(w):
    values, exponent = mxfp4_split(w)
    return (values * torch.exp2(exponent)).flatten(-2)


def pack(w):
    """Weights that are MXFP4 values already -> blocks (..., n/32, 16) and scales (..., n/32), both uint8."""
    values, exponent = mxfp4_split(w)
    code = torch.searchsorted(E2M1[:8].contiguous(), values.abs()) + 8 * (values < 0)
    code = code.to(torch.uint8)
    return code[..., 0::2] | code[..., 1::2] << 4, (exponent.squeeze(-1) + 127).to(torch.uint8)


def unpack(blocks, scales):
    values = torch.stack([E2M1[(blocks & 15).long()], E2M1[(blocks >> 4).long()]], -1).flatten(-2)  # low nibble first
    return (values * torch.exp2(scales.float() - 127).unsqueeze(-1)).flatten(-2)


def save(folder, cfg, weights):
    """weights: name -> tensor as in `weight_shapes`, already of the values that BF16 and MXFP4 can hold."""
    tensors = {}
    for name in weight_shapes(cfg):
        w = weights[name].detach()
        if is_mxfp4(name):
            tensors[name + "_blocks"], tensors[name + "_scales"] = pack(w)
            assert torch.equal(unpack(tensors[name + "_blocks"], tensors[name + "_scales"]), w.float())
        else:
            tensors[name] = w.bfloat16()
            assert torch.equal(tensors[name].float(), w.float())
    header, offset = {}, 0
    for name, t in tensors.items():
        size = t.numel() * t.element_size()
        header[name] = {"dtype": "U8" if t.dtype == torch.uint8 else "BF16", "shape": list(t.shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write((t if t.dtype == torch.uint8 else t.view(torch.int16)).contiguous().numpy().tobytes())
    with open(f"{folder}/config.json", "w") as f:
        json.dump(cfg, f, indent=2)
        f.write("\n")


def load(folder):
    """-> config, and the weights by their names in `weight_shapes`, in float32."""
    with open(f"{folder}/config.json") as f:
        cfg = json.load(f)
    with open(f"{folder}/model.safetensors", "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8:8 + size]), data[8 + size:]
    header.pop("__metadata__", None)

    def tensor(name):
        entry = header[name]
        begin, end = entry["data_offsets"]
        kind = np.uint8 if entry["dtype"] == "U8" else np.int16
        t = torch.from_numpy(np.frombuffer(body[begin:end], kind).copy())
        return (t if kind is np.uint8 else t.view(torch.bfloat16).float()).view(entry["shape"])

    weights = {}
    for name, shape in weight_shapes(cfg).items():
        weights[name] = unpack(tensor(name + "_blocks"), tensor(name + "_scales")) if is_mxfp4(name) else tensor(name)
        assert tuple(weights[name].shape) == shape, name
    return cfg, weights
