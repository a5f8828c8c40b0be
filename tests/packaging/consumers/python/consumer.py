"""See ../README.md."""

import os
import sys

from gptoss import Context, Model, Sampler


def generate(path: str, prompts: str, count: int, is_text: bool) -> None:
    with Model(path) as model, Context(model) as context, open(prompts, encoding="utf-8") as file:
        for seed, line in enumerate(file, 1):
            context.reset()
            context.append(line.rstrip("\n") if is_text else [int(token) for token in line.split()])
            sampler = Sampler(temperature=0.8, top_p=0.95, seed=seed)
            print("".join(f"{token} " for token in context.generate(sampler, max_tokens=count)))


def resident_kb() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def cycles(path: str, count: int) -> None:
    before = 0
    for i in range(count):
        if i == count // 5:
            before = resident_kb()  # what is made once has been made
        with Model(path) as model, Context(model, context_length=512) as context:
            context.append(1)
            context.sample(1, temperature=0.0)
    print(resident_kb() - before)


if sys.argv[1] == "cycles":
    cycles(sys.argv[2], int(sys.argv[3]))
else:
    generate(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[1] == "text")
