"""See ../README.md."""

import ctypes
import os
import sys

from gptoss import Context, Model, Sampler


class Heap(ctypes.Structure):
    """struct mallinfo2 of <malloc.h>"""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap


def generate(path: str, prompts: str, count: int, is_text: bool) -> None:
    with Model(path) as model, Context(model) as context, open(prompts, encoding="utf-8") as file:
        for seed, line in enumerate(file, 1):
            context.reset()
            context.append(line.rstrip("\n") if is_text else [int(token) for token in line.split()])
            sampler = Sampler(temperature=0.8, top_p=0.95, seed=seed)
            print("".join(f"{token} " for token in context.generate(sampler, max_tokens=count)))


def allocated_kb() -> int:
    heap = libc.mallinfo2()
    return (heap.uordblks + heap.hblkhd) // 1024


def resident_kb() -> int:
    libc.malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def cycles(path: str, count: int) -> None:
    allocated, resident = [sys.maxsize] * 5, [sys.maxsize] * 5
    for i in range(count):
        with Model(path) as model, Context(model, context_length=512) as context:
            context.append(1)
        fifth = i * 5 // count
        allocated[fifth] = min(allocated[fifth], allocated_kb())
        resident[fifth] = min(resident[fifth], resident_kb())
    print(allocated[4] - allocated[1], resident[4] - resident[1])


if sys.argv[1] == "cycles":
    cycles(sys.argv[2], int(sys.argv[3]))
else:
    generate(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[1] == "text")
