"""What Context.generate() costs over the C interface, in microseconds a token: python benchmark.py MODEL [TOKENS ROUNDS]

A MODEL of digits is no model but a pace: a stand-in for the library then gives a token every so many microseconds.
The C interface is one call of gptoss_context_generate, in which no Python runs. Both take turns, from the same prompt;
the least and the median of all rounds count.
"""

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from ctypes import byref

from gptoss import Context, Model, _library, load_library


def main(path: str, tokens: int = 200, rounds: int = 15) -> None:
    options = _library.GenerateOptionsStruct(ctypes.sizeof(_library.GenerateOptionsStruct), tokens)
    options.stop_tokens, options.num_stop_tokens = (ctypes.c_uint32 * 1)(), 0
    with Model(path) as model, Context(model, context_length=tokens + 8) as context:
        context.append([1, 2, 3, 4])

        def in_c() -> None:
            context._call(_library.lib.gptoss_context_generate, None, byref(options), None, None)

        def in_python() -> None:
            for _ in context.generate(max_tokens=tokens, stop_tokens=[]):
                pass

        def measure(run) -> float:
            context.truncate(4)
            context.process()
            begun = time.perf_counter()
            run()
            assert context.num_tokens == tokens + 4
            return (time.perf_counter() - begun) / tokens * 1e6

        measure(in_python)
        times = [(measure(in_c), measure(in_python)) for _ in range(rounds)]
    for name, of in {"least": min, "median": statistics.median}.items():
        c, python = of(t[0] for t in times), of(t[1] for t in times)
        print(f"{name}: C {c:.1f}, Python {python:.1f}, overhead {python - c:.1f} microseconds a token")


def load_paced(pace: str) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    include = os.environ.get("GPTOSS_INCLUDE_DIR", os.path.join(here, "../../../include"))
    os.environ["PACE"] = pace
    with tempfile.TemporaryDirectory() as folder:
        library = os.path.join(folder, "libgptoss.so")
        command = ["cc", "-std=gnu99", "-O2", "-shared", "-fPIC", "-I", include, os.path.join(here, "paced.c")]
        subprocess.run([*command, "-o", library], check=True)
        load_library(library)


if sys.argv[1].isdigit():
    load_paced(sys.argv[1])
main(sys.argv[1], *map(int, sys.argv[2:]))
