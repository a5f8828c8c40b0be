"""The gpt-oss architecture in PyTorch, as one function over a dictionary of weights.

The weights carry their Hugging Face names. Training calls `forward` with BF16 weights whose experts
have been rounded to MXFP4 values; evaluation calls the same function with the exported weights in float32.

Shapes: B sequences, T tokens each, H hidden, A query heads, K key/value heads, D = 64 head size,
N = B·T tokens, E experts, C chosen experts a token, I expert width, V vocabulary.
"""
import math

import torch
import torch.nn.functional as F


def make_config(vocab_size, end_token, pad_token, hidden=160, layers=4, heads=4, kv_heads=2,
                experts=4, chosen=2, intermediate=128, context=131072):
    """config.json as Hugging Face writes it for gpt-oss, with smaller sizes."""
    return {
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "eos_token_id": end_token,
        "experts_per_token": chosen,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initial_context_length": 4096,
        "initializer_range": 0.02,
        "intermediate_size": intermediate,
        "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(layers)],
        "max_position_embeddings": context,
        "model_type": "gpt_oss",
        "num_attention_heads": heads,
        "num_experts_per_tok": chosen,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "num_local_experts": experts,
        "output_router_logits": False,
        "pad_token_id": pad_token,
        "quantization_config": {
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                       "model.embed_tokens", "lm_head"],
            "quant_method": "mxfp4",
        },
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
                         "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": False},
        "rope_theta": 150000.0,
        "router_aux_loss_coef": 0.9,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "transformers_version": "4.55.0.dev0",
        "use_cache": True,
        "vocab_size": vocab_size,
    }


def weight_shapes(cfg):
    """Every weight's name and shape, in the order of the file."""
    H, I, E, V = (cfg[k] for k in ("hidden_size", "intermediate_size", "num_local_experts", "vocab_size"))
    q = cfg["num_attention_heads"] * cfg["head_dim"]
    kv = cfg["num_key_value_heads"] * cfg["head_dim"]
    shapes = {"model.embed_tokens.weight": (V, H)}
    for i in range(cfg["num_hidden_layers"]):
        p = f"model.layers.{i}."
        shapes[p + "input_layernorm.weight"] = (H,)
        for name, rows, columns in (("q", q, H), ("k", kv, H), ("v", kv, H), ("o", H, q)):
            shapes[p + f"self_attn.{name}_proj.weight"] = (rows, columns)
            shapes[p + f"self_attn.{name}_proj.bias"] = (rows,)
        shapes[p + "self_attn.sinks"] = (cfg["num_attention_heads"],)
        shapes[p + "post_attention_layernorm.weight"] = (H,)
        shapes[p + "mlp.router.weight"] = (E, H)
        shapes[p + "mlp.router.bias"] = (E,)
        shapes[p + "mlp.experts.gate_up_proj"] = (E, 2 * I, H)  # rows alternate: gate, up, gate, up, …
        shapes[p + "mlp.experts.gate_up_proj_bias"] = (E, 2 * I)
        shapes[p + "mlp.experts.down_proj"] = (E, H, I)
        shapes[p + "mlp.experts.down_proj_bias"] = (E, H)
    shapes["model.norm.weight"] = (H,)
    shapes["lm_head.weight"] = (V, H)
    return shapes


def is_mxfp4(name):
    return name.endswith(("gate_up_proj", "down_proj"))


# ---------------------------------------------------------------------------------------------------------------
# Rotary embedding


def rope_tables(cfg, positions):
    """YaRN's cos and sin for a tensor of positions (T,): two tables (T, 1, D), ready for `Rotate`."""
    D, theta, s = cfg["head_dim"], cfg["rope_theta"], cfg["rope_scaling"]

    def dimension(rotations):  # the pair of dimensions that turns so often over the original context
        return D * math.log(s["original_max_position_embeddings"] / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(dimension(s["beta_fast"]), 0), min(dimension(s["beta_slow"]), D - 1)
    pair = torch.arange(D // 2, dtype=torch.float32)
    frequency = theta ** (-2 * pair / D)
    interpolated = ((pair - low) / (high - low)).clamp(0, 1)  # 0: keep the frequency, 1: divide it by the factor
    frequency = frequency * (1 - interpolated) + frequency / s["factor"] * interpolated
    angle = positions.float()[:, None] * frequency
    concentration = 0.1 * math.log(s["factor"]) + 1
    cos, sin = angle.cos() * concentration, angle.sin() * concentration
    return torch.cat([cos, cos], -1)[:, None], torch.cat([-sin, sin], -1)[:, None]


class Rotate(torch.autograd.Function):
    """x (B, T, heads, D), cos and sin (T, 1, D): pairs are (i, i + D/2)."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin)

    @staticmethod
    def backward(ctx, grad):
        cos, sin = ctx.saved_tensors
        return (grad * cos).addcmul_(grad.roll(grad.shape[-1] // 2, -1), sin, value=-1), None, None


# ---------------------------------------------------------------------------------------------------------------
# Pieces with a hand-written gradient, because PyTorch's own is several times slower on a CPU


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        r = (x * x).mean(-1, keepdim=True).add_(eps).rsqrt_()
        unit = x * r
        ctx.save_for_backward(unit, r, weight)
        return unit * weight

    @staticmethod
    def backward(ctx, grad):
        unit, r, weight = ctx.saved_tensors
        grad_unit = grad * weight
        inner = (grad_unit * unit).mean(-1, keepdim=True)
        grad_weight = (grad * unit).flatten(0, -2).sum(0)
        return grad_unit.addcmul_(unit, inner, value=-1).mul_(r), grad_weight, None


class Attend(torch.autograd.Function):
    """softmax([q·k / sqrt(D) + mask, sink]) · v, where the sink takes part in the sum alone.

    The sink is one more column of scores, whose value is zero.
    """

    @staticmethod
    def forward(ctx, q, k, v, mask, sinks):
        # q (B, A, T, D); k, v (B, K, S, D); mask (T, S); sinks (A,)
        B, A, T, D = q.shape
        K, S = k.shape[1:3]
        qs = (q * D ** -0.5).view(B * K, A // K * T, D)
        ks, vs = F.pad(k, (0, 0, 0, 1)).view(B * K, S + 1, D), F.pad(v, (0, 0, 0, 1)).view(B * K, S + 1, D)
        bias = torch.empty(A, T, S + 1, dtype=q.dtype)
        bias[:, :, :S] = mask
        bias[:, :, S] = sinks[:, None]
        scores = bias.repeat(B, 1, 1).view(B * K, A // K * T, S + 1).baddbmm_(qs, ks.transpose(1, 2))
        p = scores.softmax(-1)
        ctx.save_for_backward(qs, ks, vs, p)
        ctx.sizes = (B, A, K, T, S, D)
        return torch.bmm(p, vs).view(B, A, T, D)

    @staticmethod
    def backward(ctx, grad):
        qs, ks, vs, p = ctx.saved_tensors
        B, A, K, T, S, D = ctx.sizes
        grad = grad.reshape(B * K, A // K * T, D)
        grad_v = torch.bmm(p.transpose(1, 2), grad).view(B, K, S + 1, D)[:, :, :S]
        grad_p = torch.bmm(grad, vs.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
        grad_sinks = grad_scores.view(B, A, T, S + 1)[..., S].float().sum((0, 2))
        grad_q = torch.bmm(grad_scores, ks).mul_(D ** -0.5).view(B, A, T, D)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), qs).view(B, K, S + 1, D)[:, :, :S]
        return grad_q, grad_k, grad_v, None, grad_sinks


class SwiGLU(torch.autograd.Function):
    """h (rows, 2I), gates in the first half -> gate·sigmoid(1.702·gate)·(up + 1), with gate <= 7, |up| <= 7."""

    @staticmethod
    def forward(ctx, h, limit):
        gate, up = h.chunk(2, -1)
        gate, up1 = gate.clamp(max=limit), up.clamp(-limit, limit).add_(1)
        s = torch.sigmoid(gate * 1.702)
        gs = gate * s
        ctx.save_for_backward(h, gate, up1, s, gs)
        ctx.limit = limit
        return gs * up1

    @staticmethod
    def backward(ctx, grad):
        h, gate, up1, s, gs = ctx.saved_tensors
        slope = (gate - gs).mul_(s).mul_(1.702).add_(s)  # d(gate·s)/d(gate) = s + 1.702·gate·s·(1 - s)
        out = torch.cat([slope.mul_(up1).mul_(grad), gs * grad], -1)
        if h.max() > ctx.limit or h.min() < -ctx.limit:  # rare, and the masks are slow
            gate, up = h.chunk(2, -1)
            out.mul_(torch.cat([gate <= ctx.limit, up.abs() <= ctx.limit], -1).to(out.dtype))
        return out, None


class TakeRows(torch.autograd.Function):
    """x[rows], where every row of x is taken exactly `copies` times; `back` lists the places of row 0, row 1, …

    What is at the places `unused` of the result has no influence on anything.
    """

    @staticmethod
    def forward(ctx, x, rows, back, copies, unused):
        ctx.back, ctx.copies, ctx.unused = back, copies, unused
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx, grad):
        grad = grad.index_select(0, ctx.back)
        if ctx.copies > 1:
            grad = grad.view(-1, ctx.copies, grad.shape[-1]).sum(1)
        if ctx.unused is not None:
            grad.index_fill_(0, ctx.unused, 0)
        return grad, None, None, None, None


# ---------------------------------------------------------------------------------------------------------------
# The model


def linear(x, weight, bias=None):
    return F.linear(x.to(weight.dtype), weight, bias)


def attention(w, p, cfg, t, cos, sin, mask, cache):
    """t (B, T, H) -> (B, T, H). cache: None, or a list of the keys and values so far, which is extended."""
    B, T, _ = t.shape
    A, K, D = cfg["num_attention_heads"], cfg["num_key_value_heads"], cfg["head_dim"]
    names = [p + n + "_proj." for n in "qkv"]
    qkv = linear(t, torch.cat([w[n + "weight"] for n in names]), torch.cat([w[n + "bias"] for n in names]))
    qkv = qkv.view(B, T, A + 2 * K, D)
    qk = Rotate.apply(qkv[:, :, :A + K], cos, sin)
    q, k, v = (h.transpose(1, 2).contiguous() for h in (qk[:, :, :A], qk[:, :, A:], qkv[:, :, A + K:]))
    if cache is not None:
        if cache:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        cache[:] = [k, v]
    out = Attend.apply(q, k, v, mask, w[p + "sinks"])  # (B, A, T, D)
    return linear(out.transpose(1, 2).reshape(B, T, A * D), w[p + "o_proj.weight"], w[p + "o_proj.bias"])


def experts(w, p, cfg, t):
    """t (N, H) -> (N, H), and the router's load: the experts' mean probability and share of tokens, each (E,)."""
    N, H = t.shape
    E, C = cfg["num_local_experts"], cfg["num_experts_per_tok"]
    router = F.linear(t.float(), w[p + "router.weight"].float(), w[p + "router.bias"].float())  # (N, E)
    top, chosen = router.topk(C, dim=-1)
    weights = top.softmax(-1)  # (N, C): over the chosen experts alone

    # Sort the N·C (token, expert) pairs by expert, so that each expert works on one slice. Slices are rounded up to a
    # multiple of 128, because oneDNN compiles a kernel for every new shape: that takes longer than running it.
    pairs = chosen.flatten()
    count = torch.bincount(pairs, minlength=E)
    size = (count + 127) // 128 * 128
    order = pairs.argsort()
    place = torch.arange(N * C) + ((size.cumsum(0) - size) - (count.cumsum(0) - count))[pairs[order]]
    back = torch.empty_like(order)
    back[order] = place
    padded = torch.zeros(int(size.sum()), dtype=order.dtype)  # the pair at each place; pair 0 where there is none
    padded[place] = order
    unused = torch.ones(len(padded), dtype=torch.bool)
    unused[place] = False
    unused = unused.nonzero().squeeze(1)
    x = TakeRows.apply(t.to(w[p + "experts.down_proj"].dtype), padded.div(C, rounding_mode="floor"), back, C, None)

    weights_of = zip(*(w[p + "experts." + n].unbind(0)
                       for n in ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias")))
    parts = []
    for rows, (gate_up, gate_up_bias, down, down_bias) in zip(x.split(size.tolist()), weights_of):  # rows (n, H)
        if len(rows):
            h = F.linear(rows, gate_up, gate_up_bias)  # (n, 2I), gates first
            parts.append(F.linear(SwiGLU.apply(h, cfg["swiglu_limit"]), down, down_bias))
    y = TakeRows.apply(torch.cat(parts), back, padded, 1, unused).view(N, C, H)
    y = (y * weights.to(y.dtype).unsqueeze(-1)).sum(1)
    load = router.softmax(-1).mean(0), count.float() / (N * C)
    return y, load


def deinterleave(w):
    """Gate and up rows alternate in a checkpoint; `forward` wants all gates first, which vectorises."""
    out = dict(w)
    for name in w:
        if name.endswith(("gate_up_proj", "gate_up_proj_bias")):
            out[name] = torch.cat([w[name][:, 0::2], w[name][:, 1::2]], 1)
    return out


def interleave(w):
    out = dict(w)
    for name in w:
        if name.endswith(("gate_up_proj", "gate_up_proj_bias")):
            out[name] = torch.stack(w[name].chunk(2, 1), 2).flatten(1, 2)
    return out


def forward(w, cfg, tokens, cache=None, loads=None, keep=None):
    """tokens (B, T) -> logits (B, T, V), or (n, V) of the positions in `keep`, indices into B·T.

    w: weights as `deinterleave` returns them. cache: None, or an empty list that this and later calls fill;
    then the tokens continue those of earlier calls. loads: a list that receives each layer's router load.
    """
    B, T = tokens.shape
    if cache is not None and not cache:
        cache.extend([] for _ in range(cfg["num_hidden_layers"]))
    start = cache[0][0].shape[2] if cache and cache[0] else 0
    position = torch.arange(start, start + T)
    behind = position[:, None] - torch.arange(start + T)  # (T, S): how far back a key lies
    x = F.embedding(tokens, w["model.embed_tokens.weight"]).float()  # the residual stays in float32
    cos, sin = (t.to(w["lm_head.weight"].dtype) for t in rope_tables(cfg, position))
    full = torch.zeros(behind.shape).masked_fill_(behind < 0, -math.inf)
    sliding = full.masked_fill(behind >= cfg["sliding_window"], -math.inf)  # the window counts the current token
    eps = cfg["rms_norm_eps"]
    for i, kind in enumerate(cfg["layer_types"]):
        p = f"model.layers.{i}."
        mask = sliding if kind == "sliding_attention" else full
        t = RMSNorm.apply(x, w[p + "input_layernorm.weight"].float(), eps)
        x = x + attention(w, p + "self_attn.", cfg, t, cos, sin, mask, cache[i] if cache is not None else None)
        t = RMSNorm.apply(x, w[p + "post_attention_layernorm.weight"].float(), eps)
        y, load = experts(w, p + "mlp.", cfg, t.view(B * T, -1))
        x = x + y.view(B, T, -1)
        if loads is not None:
            loads.append(load)
    if keep is not None:
        x = x.view(B * T, -1)[keep]
    x = RMSNorm.apply(x, w["model.norm.weight"].float(), eps)
    return linear(x, w["lm_head.weight"]).float()
