"""Evaluate an exported folder, read back from disk, with greedy decoding in float32: `python3 evaluate.py`.

The problems are held out by `data.held_out`, so none of them is in the training data. `--write` makes
problems.json and expected_tokens.json, against which the library's own tests compare.
"""
import argparse
import json
import os
import re

import torch

import checkpoint
import data
import harmony
import tokenizer
import vocabulary
from model import deinterleave, forward

HERE = os.path.dirname(os.path.abspath(__file__))
EFFORTS = ("low", "medium", "high")


# ---------------------------------------------------------------------------------------------------------------
# Problems


def draw(generator, category, effort):
    """One conversation for a category, or None when this draw is not held out (or is something else)."""
    if category.startswith("tools"):
        generator.effort = lambda: effort
        c = generator.tool_conversation()
        return c if c["category"] == "call" and not c["facts"] else None
    turn = {"multiply": lambda e: generator.arithmetic("×", e, (generator.number(2), generator.number(2))),
            "multiply3": lambda e: generator.arithmetic("×", e, (generator.number(3), generator.number(generator.one((2, 3))))),
            "add": lambda e: generator.arithmetic("+", e), "subtract": lambda e: generator.arithmetic("-", e),
            "word": generator.word}[category.split()[0]]
    generator.effort = lambda: effort
    c = generator.plain_conversation(turn)
    wanted = c["facts"][-1]  # for a word problem, its own entry
    return c if data.held_out(*wanted) else None


def draw_many(category, efforts, count, seed):
    generator, found, seen = data.Generator(seed, held_out=True), [], set()
    while len(found) < count:
        effort = efforts[len(found) % len(efforts)]
        c = draw(generator, category, effort)
        if c and harmony.render(c["messages"]) not in seen:
            seen.add(harmony.render(c["messages"]))
            found.append({"category": category, "effort": effort, "expected": c["expected"], "messages": c["messages"]})
    return found


def standard_problems(seed):
    """The 300 problems of problems.json."""
    plan = (("multiply", ("high",), 75), ("add", EFFORTS, 39), ("subtract", EFFORTS, 36), ("word", EFFORTS, 75),
            ("tools", EFFORTS, 75))
    return [p for i, (category, efforts, count) in enumerate(plan) for p in draw_many(category, efforts, count, seed + i)]


# ---------------------------------------------------------------------------------------------------------------
# Answers


@torch.no_grad()
def generate(w, cfg, tokens, prompts, limit):
    """Greedy completions of prompts (lists of ids), each up to and with its <|return|> or <|call|>.

    All rows walk through the same positions, so there is no padding: a row still inside its prompt takes the
    prompt's next token in place of the model's.
    """
    stops = {tokens.special["<|return|>"], tokens.special["<|call|>"]}
    out = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), 40):
        rows = order[start:start + 40]
        position = len(prompts[rows[0]])
        cache = []
        inputs = torch.tensor([prompts[i][:position] for i in rows])
        while True:
            keep = torch.arange(1, len(rows) + 1) * inputs.shape[1] - 1
            best = forward(w, cfg, inputs, cache=cache, keep=keep).argmax(-1).tolist()
            following, alive = [], False
            for i, token in zip(rows, best):
                if position < len(prompts[i]):
                    token, alive = prompts[i][position], True
                elif not (out[i] and out[i][-1] in stops) and len(out[i]) < limit:
                    out[i].append(token)
                    alive = alive or token not in stops
                following.append([token])
            if not alive:
                break
            inputs = torch.tensor(following)
            position += 1
    return out


MESSAGE = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>(\w+)(?: to=([\w.]+))?(?: <\|constrain\|>(\w+))?<\|message\|>"
                     r"((?:(?!<\|).)*)<\|(end|return|call)\|>", re.DOTALL)


def parse(completion):
    """-> messages as (channel, recipient, content type, text, end), or None if it is not well-formed Harmony."""
    messages, at = [], 0
    while at < len(completion):
        m = MESSAGE.match(completion, at)
        if not m:
            return None
        messages.append(m.groups())
        at = m.end()
    return messages or None


def right(problem, completion):
    messages = parse(completion)
    if not messages:
        return False
    channel, recipient, kind, text, end = messages[-1]
    if isinstance(problem["expected"], dict):
        if (channel, kind, end) != ("commentary", "json", "call") or recipient != "functions." + problem["expected"]["name"]:
            return False
        try:
            return json.loads(text) == problem["expected"]["arguments"]
        except ValueError:
            return False
    if (channel, end) != ("final", "return"):
        return False
    if isinstance(problem["expected"], str):
        return text == problem["expected"]
    numbers = re.findall(r"-?\d+", text)
    return bool(numbers) and int(numbers[-1]) == problem["expected"]


def evaluate(w, cfg, tokens, problems, limit, show=0):
    prompts = [tokens.encode(harmony.render(p["messages"])) for p in problems]
    out = generate(w, cfg, tokens, prompts, limit)
    table = {}
    for p, ids in zip(problems, out):
        text = tokens.decode(ids)
        good = right(p, text)
        for effort in (p["effort"], "all"):
            n, k = table.get((p["category"], effort), (0, 0))
            table[p["category"], effort] = n + 1, k + good
        if not good and show > 0:
            show -= 1
            print(f"--- wrong ({p['category']}, {p['effort']}): {p['messages'][-1]['content'][0]['text']}\n"
                  f"    expected {p['expected']}\n    {text}")
    for (category, effort), (n, k) in sorted(table.items()):
        print(f"{category:12} {effort:8} {k:4} of {n:4}  {100 * k / n:6.1f}%")
    return prompts, out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.path.join(HERE, "gptoss-nano"))
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--limit", type=int, default=400, help="tokens of an answer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="print so many wrong answers")
    parser.add_argument("--more", type=int, default=0, help="instead of the 300: so many problems of each category")
    parser.add_argument("--only", help="with --more: this category alone")
    parser.add_argument("--ask", help="instead: answer this question")
    parser.add_argument("--effort", default="medium")
    parser.add_argument("--write", action="store_true", help="write problems.json and expected_tokens.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    cfg, w = checkpoint.load(args.folder)
    w = deinterleave(w)
    tokens = tokenizer.load(os.path.join(args.folder, "tokenizer.json"))
    if args.ask:
        prompt = harmony.render([harmony.system_message(vocabulary.IDENTITIES[0], args.effort), harmony.text_message("user", args.ask)])
        print(tokens.decode(generate(w, cfg, tokens, [tokens.encode(prompt)], args.limit)[0]))
        return
    if args.more:
        problems = []
        for i, (category, efforts) in enumerate((("multiply", EFFORTS), ("multiply3", EFFORTS), ("add", EFFORTS),
                                                 ("subtract", EFFORTS), ("word", EFFORTS), ("tools", EFFORTS))):
            if args.only in (None, category):
                problems += draw_many(category, efforts, args.more, args.seed + 100 + i)
    else:
        problems = standard_problems(args.seed)
    prompts, out = evaluate(w, cfg, tokens, problems, args.limit, args.show)
    if args.write:
        with open(os.path.join(HERE, "problems.json"), "w") as f:
            f.write("[\n" + ",\n".join(json.dumps({"id": i, "category": p["category"], "effort": p["effort"],
                                                   "expected": p["expected"], "conversation": {"messages": p["messages"]}},
                                                  ensure_ascii=False) for i, p in enumerate(problems)) + "\n]\n")
        with open(os.path.join(HERE, "expected_tokens.json"), "w") as f:
            f.write("[\n" + ",\n".join(json.dumps({"id": i, "prompt": prompts[i], "completion": out[i]})
                                       for i in range(0, len(problems), 3)) + "\n]\n")


if __name__ == "__main__":
    main()
