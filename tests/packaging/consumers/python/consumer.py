"""See ../README.md."""

import ctypes
import os
import sys

from gptoss import Context, Model, Sampler

libc = ctypes.CDLL(None)


def generate(path: str, prompts: str, count: int, is_text: bool) -> None:
    with Model(path) as model, Context(model) as context, open(prompts, encoding="utf-8") as file:
        for seed, line in enumerate(file, 1):
            context.reset()
            context.append(line.rstrip("\n") if is_text else [int(token) for token in line.split()])
            sampler = Sampler(temperature=0.8, top_p=0.95, seed=seed)
            print("".join(f"{token} " for token in context.generate(sampler, max_tokens=count)))


def resident_kb() -> int:
    libc.malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def cycles(path: str, count: int) -> None:
    resident = []
    for _ in range(count):
        with Model(path) as model, Context(model, context_length=512) as context:
            context.append(1)
        resident.append(resident_kb())
    fifth = count // 5
    print(min(resident[-fifth:]) - min(resident[fifth : 2 * fifth]))


if sys.argv[1] == "cycles":
    cycles(sys.argv[2], int(sys.argv[3]))
else:
    generate(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[1] == "text")
