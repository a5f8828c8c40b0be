#!/bin/sh
# Measures this library and llama.cpp's Vulkan backend in turn, on the same device: examples/beside_llama.sh [GGUF ...]
#
# In Debian forky or newer, which has llama.cpp: .ci/debian.sh forky sh examples/beside_llama.sh. As root, or with what it
# installs already there. Without a GGUF it makes two of gpt-oss-20b's width with 4 layers, 8 experts and 16,384 tokens (no
# tensor above the 128 MB that a software device binds at once): 8-bit and BF16 dense weights.
# RUNS (5): of each program and file. PROMPT (256), GENERATE (16): tokens. DEPTH (0): tokens before the generated ones.
set -eu
cd "$(dirname "$0")/.."
. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages $run_packages ccache python3-numpy llama.cpp-tools libggml0-backend-vulkan
build="build-beside"
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release > /dev/null
cmake --build $build --target bench > /dev/null
if [ $# -eq 0 ]; then
    for dense in q8_0 bf16; do
        file=$build/20b-4-layers-$dense.gguf
        [ -e $file ] || python3 tests/synth.py $file --gguf $dense --layers 4 --experts 8 --vocab 16384
        set -- "$@" $file
    done
fi

python3 - "${RUNS:-5}" "${PROMPT:-256}" "${GENERATE:-16}" "${DEPTH:-0}" $build/examples/bench "$@" <<'END'
import json, os, statistics, subprocess, sys

runs, prompt, generate, depth = map(int, sys.argv[1:5])
bench, models = sys.argv[5], sys.argv[6:]


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, "GGML_VK_VISIBLE_DEVICES": "0"})
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode()}")
    return json.loads(done.stdout)


def ours(model):
    result = run(bench, model, "--prompt", str(prompt), "--generate", str(generate), "--depth", str(depth), "--repeat", "1",
                 "--json")
    return {"prefill": result["prefill"][0]["tokens_per_second"], "decode": result["decode"][0]["tokens_per_second"]}


def theirs(model):
    tests = run("llama-bench", "-m", model, "-dev", "Vulkan0", "-ngl", "99", "-p", str(prompt), "-n", str(generate),
                "-d", str(depth), "-r", "1", "-o", "json")
    return {"prefill" if t["n_prompt"] else "decode": t["avg_ts"] for t in tests}


print(f"prefill of {prompt}, {generate} generated, after {depth} tokens; tokens/s: median (least to most) of {runs} runs in turn\n")
print("| | test | libgptoss | llama.cpp | ratio |\n|---|---|---|---|---|", flush=True)
for model in models:
    results = [(ours(model), theirs(model)) for _ in range(runs)]
    for test in ("prefill", "decode"):
        mine, peer = ([pair[side][test] for pair in results] for side in (0, 1))
        cells = [f"{statistics.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in (mine, peer)]
        ratio = statistics.median(mine) / statistics.median(peer)
        print(f"| {os.path.basename(model)} | {test} | {cells[0]} | {cells[1]} | {ratio:.1f} |", flush=True)
END
