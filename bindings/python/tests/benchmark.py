"""What Context.generate() costs over the C interface, in microseconds a token:

    python benchmark.py MODEL [--tokens N] [--rounds N] [--limit MICROSECONDS]

A MODEL of digits is no model but a pace: a stand-in for the library then gives a token every so many microseconds, 0
for as fast as they are taken. The C interface is one call of gptoss_context_generate, in which no Python runs. Both
take turns, from the same prompt.

Processor time is that of the whole process, all threads, user and system. What else runs on the machine hardly enters it,
so that a limit can be held: the least of all rounds counts. It is the work that Python adds; where the device needs longer
for a token, that is done while the device is busy. Elapsed time has the rest of the machine in it too.
"""

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from ctypes import byref
from typing import Callable

from gptoss import Context, Model, _library, load_library


def measure(path: str, tokens: int, rounds: int) -> "dict[str, list[tuple[float, float]]]":
    """For each clock, what a token took in each round: in C, in Python."""
    options = _library.GenerateOptionsStruct(ctypes.sizeof(_library.GenerateOptionsStruct), tokens)
    options.stop_tokens, options.num_stop_tokens = (ctypes.c_uint32 * 1)(), 0
    clocks = {"processor": time.process_time, "elapsed": time.perf_counter}
    with Model(path) as model, Context(model, context_length=tokens + 8) as context:
        context.append([1, 2, 3, 4])

        def in_c() -> None:
            context._call(_library.lib.gptoss_context_generate, None, byref(options), None, None)

        def in_python() -> None:
            for _ in context.generate(max_tokens=tokens, stop_tokens=[]):
                pass

        def timed(run: Callable[[], None]) -> "list[float]":
            context.truncate(4)
            context.process()
            begun = [clock() for clock in clocks.values()]
            run()
            ended = [clock() for clock in clocks.values()]
            assert context.num_tokens == tokens + 4
            return [(end - begin) / tokens * 1e6 for begin, end in zip(begun, ended)]

        timed(in_python)
        pairs = [list(zip(timed(in_c), timed(in_python))) for _ in range(rounds)]
    return {name: [pair[i] for pair in pairs] for i, name in enumerate(clocks)}


def load_paced(pace: str) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    include = os.environ.get("GPTOSS_INCLUDE_DIR", os.path.join(here, "../../../include"))
    os.environ["PACE"] = pace
    with tempfile.TemporaryDirectory() as folder:
        library = os.path.join(folder, "libgptoss.so")
        command = ["cc", "-std=gnu99", "-O2", "-shared", "-fPIC", "-I", include, os.path.join(here, "paced.c")]
        subprocess.run([*command, "-o", library], check=True)
        load_library(library)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--limit", type=float, help="fail if Python's processor time exceeds C's by more")
    arguments = parser.parse_args()
    if arguments.model.isdigit():
        load_paced(arguments.model)
    times = measure(arguments.model, arguments.tokens, arguments.rounds)
    overhead = {}
    for clock, pairs in times.items():
        for name, of in {"least": min, "median": statistics.median}.items():
            c, python = of(pair[0] for pair in pairs), of(pair[1] for pair in pairs)
            overhead[clock, name] = python - c
            print(f"{clock} time, {name}: C {c:.1f}, Python {python:.1f}, overhead {python - c:.1f} microseconds a token")
    if arguments.limit is not None and overhead["processor", "least"] > arguments.limit:
        print(f"more than {arguments.limit} microseconds a token", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
