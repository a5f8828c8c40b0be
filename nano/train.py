"""Train gptoss-nano: `python3 train.py`.

Every step rounds the experts to MXFP4 and everything else to BF16, computes the loss with the rounded weights, and
gives their gradient to the float32 weights behind them. So the exported model is the trained one. What is exported
is a moving average of the weights, rounded the same way.
"""
import argparse
import os
import tempfile
import time

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")  # compiled kernels, one for each shape of a product

import torch
import torch.nn.functional as F

import checkpoint
import data
import harmony
import tokenizer
from model import deinterleave, forward, interleave, is_mxfp4, make_config, weight_shapes

VOCABULARY = 960
INNER_MERGES, SPACE_MERGES = 480, 208


def train_tokenizer(seed):
    """Merges from conversations without tools: made-up names must not earn any. Tool words are added by hand."""
    generator, texts = data.Generator(seed), []
    for _ in range(12000):
        conversation = generator.plain_conversation()
        texts.append(conversation["completion"] + harmony.render(conversation["messages"]))
    texts += [' functions function get _weather  weather { location city place temperature condition unit format "celsius"'
              ' "fahrenheit" namespace type any string number call Call Use use with returned result Result of The the '
              ' location celsius fahrenheit _: () => =>  commentary json to required // }); }; | ": ", {" "} description'
              ' Gets Get current provided and state e San Francisco CA default error status name value tool Please '
              ] * 400
    plain = [tokenizer.regex.sub(r"<\|\w+\|>", "\n", text) for text in texts]
    return tokenizer.Tokenizer(tokenizer.train_merges(plain, INNER_MERGES, SPACE_MERGES), VOCABULARY)


# ---------------------------------------------------------------------------------------------------------------
# Batches


def example(tokenizer, pairs):
    """[(prompt, completion), …] -> token ids, and what to predict after each of them (-100: anything)."""
    ids, wanted = [], []
    for pair in pairs:
        prompt, completion = map(tokenizer.encode, pair)
        ids += prompt + completion
        wanted += [-100] * len(prompt) + completion
    return ids[:-1], wanted[1:]


def copy_exercise(tokenizer, generator):
    """Made-up words, twice: the quickest way to learn to copy, on which function calls depend."""
    words = [generator.one((" ", "_", ", ", '": "', ".")) + generator.made_up() for _ in range(generator.r.randint(4, 10))]
    half = tokenizer.encode("".join(words))
    return half + half[:-1], [-100] * len(half) + half[1:]


def lookup_exercise(tokenizer, generator):
    """Functions and their descriptions, then some of them again: which description has which name."""
    tools = [tool for tool in (generator.made_up_tool() for _ in range(7)) if tool["description"]]
    shown = "\n\n".join(harmony.render_function({**tool, "parameters": None}) for tool in tools)
    asked = generator.r.sample(tools, len(tools))
    return example(tokenizer, [((shown if i == 0 else "") + f"\n\n// {tool['description']}\ntype", " " + tool["name"])
                               for i, tool in enumerate(asked)])


def micro_batch(rows, pad):
    """Rows of (ids, targets) -> tokens (B, T) and targets (B, T), which are -100 where there is no loss."""
    length = -(-max(len(ids) for ids, _ in rows) // 32) * 32  # few shapes, see `experts`
    tokens, targets = torch.full((len(rows), length), pad), torch.full((len(rows), length), -100)
    for i, (ids, wanted) in enumerate(rows):
        tokens[i, :len(ids)] = torch.tensor(ids)
        targets[i, :len(wanted)] = torch.tensor(wanted)
    return tokens, targets


def batches(tokenizer, seed, tokens_per_step, parts, pool=8):
    """Endless lists of micro-batches. Sorting the conversations of several steps by length leaves little padding."""
    generator, pad = data.Generator(seed), tokenizer.special["<|endoftext|>"]
    while True:
        rows, total = [], 0
        while total < tokens_per_step * pool:
            kind = generator.r.random()
            if kind < 0.03:
                rows.append(copy_exercise(tokenizer, generator))
            elif kind < 0.13:
                rows.append(lookup_exercise(tokenizer, generator))
            elif kind < 0.55:
                rows.append(example(tokenizer, generator.drill()))
            else:
                rows.append(example(tokenizer, [data.rendered(generator.conversation())]))
            total += len(rows[-1][0])
        rows.sort(key=lambda row: len(row[0]))
        made, part, done = [], [], 0
        for row in rows:
            part.append(row)
            done += len(row[0])
            if done * parts * pool >= total * (len(made) + 1):
                made.append(micro_batch(part, pad))
                part = []
        generator.r.shuffle(made)
        for i in range(0, len(made), parts):
            yield made[i:i + parts]


# ---------------------------------------------------------------------------------------------------------------
# Weights


def initial(cfg, seed):
    """float32 weights. What is added to the residual starts at zero, so training starts from a plain bigram model."""
    torch.manual_seed(seed)
    weights = {}
    for name, shape in weight_shapes(cfg).items():
        if name.endswith("norm.weight"):
            w = torch.ones(shape)
        elif name.endswith(("bias", "sinks", "o_proj.weight", "down_proj")):
            w = torch.zeros(shape)
        elif name == "model.embed_tokens.weight":
            w = torch.randn(shape) * 0.5
        else:
            w = torch.randn(shape) * (0.3 if name == "lm_head.weight" else 0.7) * shape[-1] ** -0.5
        weights[name] = w
    return weights


def rounded(weights):
    return {name: (checkpoint.mxfp4_round(w) if is_mxfp4(name) else w).bfloat16() for name, w in weights.items()}


# ---------------------------------------------------------------------------------------------------------------
# The optimiser


def orthogonal(g):
    """Newton-Schulz iteration: g (..., m, n) -> nearly the closest matrix whose singular values are 1 (Muon)."""
    tall = g.shape[-2] > g.shape[-1]
    x = g.transpose(-1, -2) if tall else g
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-12)).bfloat16()
    for _ in range(5):
        a = x @ x.transpose(-1, -2)
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    return (x.transpose(-1, -2) if tall else x).float()


class Optimizer:
    """Muon for the matrices inside the layers, Adam for everything else; each with a learning rate relative to `lr`."""

    def __init__(self, weights):
        self.weights = weights
        self.matrices = {}  # shape -> names, since matrices of one shape are made orthogonal together
        self.others = []
        for name, w in weights.items():
            if name.endswith(("_proj.weight", "gate_up_proj", "down_proj")):
                self.matrices.setdefault(tuple(w.shape[-2:]), []).append(name)
            else:
                self.others.append(name)
        self.first = {name: torch.zeros_like(w) for name, w in weights.items()}
        self.second = {name: torch.zeros_like(weights[name]) for name in self.others}
        self.steps = 0

    def step(self, grads, lr, muon_lr=0.02, adam_lr=0.004, momentum=0.95, decay=0.02):
        self.steps += 1
        for names in self.matrices.values():
            updates = []
            for name in names:
                m = self.first[name].lerp_(grads[name], 1 - momentum)
                updates.append(grads[name].lerp(m, momentum).view(-1, *m.shape[-2:]))
            sizes = [len(u) for u in updates]
            stacked = orthogonal(torch.cat(updates))
            scale = max(1, stacked.shape[-2] / stacked.shape[-1]) ** 0.5
            for name, update in zip(names, stacked.split(sizes)):
                w = self.weights[name]
                w.mul_(1 - lr * muon_lr * decay).add_(update.view_as(w), alpha=-lr * muon_lr * scale)
        for name in self.others:
            g, m, v = grads[name], self.first[name], self.second[name]
            m.lerp_(g, 0.1)
            v.lerp_(g * g, 0.02)
            correct = (1 - 0.98 ** self.steps) ** 0.5 / (1 - 0.9 ** self.steps)
            self.weights[name].addcdiv_(m, v.sqrt().add_(1e-8), value=-lr * adam_lr * correct)


def schedule(progress, step):
    """Warm up for 50 steps, hold, and fall to zero over the last 45% of the time."""
    return min(1, (step + 1) / 50) * min(1, (1 - progress) / 0.45)


# ---------------------------------------------------------------------------------------------------------------


def train(rank, args, meeting):
    """One of `args.processes` processes with one thread each; they split every step's tokens and add their gradients.

    Threads would share the work more finely, but stall whenever something else runs on one of the cores.
    """
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=args.processes)
    path = os.path.join(args.out, "tokenizer.json")
    tokens = tokenizer.load(path) if os.path.exists(path) else train_tokenizer(args.seed)
    sizes = {k: int(v) for k, v in (item.split("=") for item in args.model.split(",") if item)}
    cfg = make_config(tokens.size, tokens.special["<|return|>"], tokens.special["<|endoftext|>"], **sizes)
    weights = deinterleave(initial(cfg, args.seed))
    average = {name: w.clone() for name, w in weights.items()}
    optimizer = Optimizer(weights)

    spent, seen, losses = 0, 0, []
    if args.state and os.path.exists(args.state):
        weights, average, optimizer.first, optimizer.second, optimizer.steps, spent, seen = torch.load(args.state)
        optimizer.weights = weights

    def export():
        if rank == 0:
            checkpoint.save(args.out, cfg, interleave(rounded(average)))
            tokens.save(path)
            if args.state:
                torch.save((weights, average, optimizer.first, optimizer.second, optimizer.steps, elapsed, seen),
                           args.state + ".new")
                os.replace(args.state + ".new", args.state)

    begin, exported = time.time() - spent, spent
    for parts in batches(tokens, args.seed + 1000 * rank + 7 * optimizer.steps, args.tokens_per_step // args.processes,
                         args.parts):
        step = optimizer.steps
        working = {name: w.requires_grad_() for name, w in rounded(weights).items()}
        wanted = sum(int((targets >= 0).sum()) for _, targets in parts)
        step_loss = 0
        for batch, targets in parts:
            targets = targets.view(-1)
            keep = (targets >= 0).nonzero().squeeze(1)
            keep = torch.cat([keep, (targets < 0).nonzero().squeeze(1)[:-len(keep) % 128]])
            loads = []
            logits = forward(working, cfg, batch, keep=keep, loads=loads)
            loss = F.cross_entropy(logits, targets[keep], reduction="sum") / wanted
            # keeps every expert in use: the product of probability and share is least when both are even
            balance = sum((probability * share).sum() for probability, share in loads) * cfg["num_local_experts"]
            (loss + 0.003 * balance / len(loads) / len(parts)).backward()
            step_loss += loss.item()
        # one message: every gradient, and the clock of process 0, which decides when all of them end
        elapsed = time.time() - begin
        message = torch.cat([w.grad.float().flatten() for w in working.values()] +
                            [torch.tensor([step_loss, sum(targets.numel() for _, targets in parts),
                                           elapsed if rank == 0 else 0.0])])
        torch.distributed.all_reduce(message)
        *flat, numbers = message.split([w.numel() for w in working.values()] + [3])
        step_loss, tokens_done, elapsed = numbers.tolist()
        if elapsed > 60 * args.minutes:
            break
        grads = {name: g.view_as(w).div_(args.processes) for g, (name, w) in zip(flat, working.items())}
        with torch.no_grad():
            optimizer.step(grads, schedule(elapsed / (60 * args.minutes), step))
            mix = min(0.99, (step + 1) / (step + 20))
            for name, w in weights.items():
                average[name].lerp_(w, 1 - mix)
        losses.append(step_loss / args.processes)
        seen += int(tokens_done)
        if step % 25 == 24 and rank == 0:
            print(f"{elapsed / 60:6.1f} min  step {step + 1:6d}  {seen / 1e6:6.2f} M tokens  {seen / elapsed:6.0f}/s  "
                  f"loss {sum(losses[-25:]) / len(losses[-25:]):.4f}", flush=True)
        if elapsed - exported > 60 * args.export_every:
            export()
            exported = elapsed
    export()
    if rank == 0:
        print(f"trained for {elapsed / 60:.1f} minutes on {seen / 1e6:.1f} M tokens")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "gptoss-nano"))
    parser.add_argument("--minutes", type=float, default=110, help="how long to train (default 110)")
    parser.add_argument("--processes", type=int, default=2, help="one core each (default 2)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens-per-step", type=int, default=3072)
    parser.add_argument("--parts", type=int, default=1, help="micro-batches a step and process")
    parser.add_argument("--state", help="a file that keeps what is needed to go on after an interruption")
    parser.add_argument("--export-every", type=float, default=5, help="minutes between exports")
    parser.add_argument("--model", default="", help="other sizes, as in hidden=128,layers=4")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:  # holds the file by which the processes find each other
        torch.multiprocessing.spawn(train, (args, os.path.join(folder, "meeting")), args.processes)


if __name__ == "__main__":
    main()
