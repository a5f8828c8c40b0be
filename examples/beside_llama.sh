#!/bin/sh
# Measures this library and llama.cpp's Vulkan backend in turn, on the same device: examples/beside_llama.sh [GGUF ...]
#
# In Debian forky or newer, which has llama.cpp: .ci/debian.sh forky sh examples/beside_llama.sh. As root, or with what it
# installs already there. Without a GGUF it makes two of gpt-oss-20b's width with 4 layers, 8 experts and 16,384 tokens (no
# tensor above the 128 MB that a software device binds at once): 8-bit and BF16 dense weights.
# RUNS (5): of each program and file. PROMPT (256), GENERATE (16): tokens. DEPTH (0): tokens before the generated ones.
# SEQUENCES (none): instead, so many that generate at once, beside llama-server with as many slots and a request for each.
# CLIENTS (none): instead, gptoss-server and llama-server in turn, for RUNS times 10 seconds each with so many clients, who
# ask again as soon as they are answered, and SEQUENCES (8) slots; prompts of PROMPT tokens, none like another.
set -eu
cd "$(dirname "$0")/.."
. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages $run_packages ccache python3-numpy llama.cpp-tools libggml0-backend-vulkan
build="build-beside"
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release > /dev/null
[ "${CLIENTS:-0}" = 0 ] || install_packages $server_packages
cmake -S . -B $build > /dev/null
cmake --build $build --target bench $([ "${CLIENTS:-0}" = 0 ] || echo gptoss-server) > /dev/null
if [ $# -eq 0 ]; then
    for dense in q8_0 bf16; do
        file=$build/20b-4-layers-$dense.gguf
        [ -e $file ] || python3 tests/synth.py $file --gguf $dense --layers 4 --experts 8 --vocab 16384
        set -- "$@" $file
    done
fi

python3 - "${RUNS:-5}" "${PROMPT:-256}" "${GENERATE:-16}" "${DEPTH:-0}" "${SEQUENCES:-0}" "${CLIENTS:-0}" \
    $build/examples "$@" <<'END'
import contextlib, json, os, random, statistics, subprocess, sys, threading, time, urllib.request
from concurrent.futures import ThreadPoolExecutor

runs, prompt, generate, depth, sequences, clients = map(int, sys.argv[1:7])
bench, models = sys.argv[7] + "/bench", sys.argv[8:]
environment = {**os.environ, "GGML_VK_VISIBLE_DEVICES": "0"}
port = 8089


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
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


def ours_together(model):
    result = run(bench, model, "--prompt", "1", "--generate", str(generate), "--depth", str(depth), "--repeat", "1",
                 "--sequences", str(sequences), "--json")
    return {"together": result["sequences"][0]["tokens_per_second"]}


def ask(path, **request):
    body = json.dumps(request).encode() if request else None
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body) as answer:
        return json.load(answer)


@contextlib.contextmanager
def server(*command):
    process = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                ask("/health")
                break
            except OSError:  # it loads
                if process.poll() is not None:
                    sys.exit(f"{command[0]} ended with {process.returncode}")
                time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait()


def llama_server(model, slots, tokens):
    return server("llama-server", "-m", model, "-dev", "Vulkan0", "-ngl", "99", "-np", str(slots), "-c", str(slots * tokens))


def theirs_together():
    def one(i, n):
        # only the prompts' last tokens differ, as ours do; the rest is in the slot's cache after the first request
        tokens = [1000] * max(depth - 1, 0) + [1001 + 31 * i]
        return ask("/completion", prompt=tokens, n_predict=n, ignore_eos=True, temperature=0,
                   id_slot=i)["tokens_predicted"]
    with ThreadPoolExecutor(sequences) as pool:
        list(pool.map(lambda i: one(i, 1), range(sequences)))
        start = time.monotonic()
        made = sum(pool.map(lambda i: one(i, generate), range(sequences)))
        return {"together": made / (time.monotonic() - start)}


def percentile(values, share):
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def under_load():
    """Milliseconds to the first token and between tokens, and tokens a second in all."""
    first, between, end = [], [], time.monotonic() + 10 * runs

    def client():
        while time.monotonic() < end:
            tokens = [random.randrange(200, 16000) for _ in range(prompt)]
            request = {"prompt": tokens, "max_tokens": generate, "temperature": 0, "stream": True, "ignore_eos": True}
            last = begin = time.monotonic()
            url = f"http://127.0.0.1:{port}/v1/completions"
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(request).encode(), json_type)) as answer:
                for line in answer:
                    if not line.startswith(b"data: {") or not json.loads(line[6:])["choices"]:
                        continue
                    now = time.monotonic()
                    (first if last == begin else between).append(1000 * (now - last))
                    last = now

    json_type = {"Content-Type": "application/json"}
    begin = time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return first, between, (len(first) + len(between)) / (time.monotonic() - begin)


if clients:
    slots = sequences or 8
    print(f"{clients} clients, {slots} slots, prompts of {prompt} tokens, {generate} generated, {10 * runs} s each; ms\n")
    print("| | server | tokens/s | first token p50 | p99 | next token p50 | p99 | answers |\n|---|---|---|---|---|---|---|---|")
    for model in models:
        context = prompt + generate + 8
        ours_served = server(sys.argv[7] + "/gptoss-server", model, "--parallel", str(slots), "--queue", str(clients),
                             "--context", str(context))
        for name, serving in ("gptoss-server", ours_served), ("llama-server", llama_server(model, slots, context)):
            with serving:
                first, between, rate = under_load()
            cells = [percentile(first, 0.5), percentile(first, 0.99), percentile(between, 0.5), percentile(between, 0.99)]
            print(f"| {os.path.basename(model)} | {name} | {rate:.1f} | " + " | ".join(f"{c:.0f}" for c in cells) +
                  f" | {len(first)} |", flush=True)
    sys.exit()
if sequences:
    print(f"{sequences} sequences at once, {generate} generated by each, ", end="")
else:
    print(f"prefill of {prompt}, {generate} generated, ", end="")
print(f"after {depth} tokens; tokens/s: median (least to most) of {runs} runs in turn\n")
print("| | test | libgptoss | llama.cpp | ratio |\n|---|---|---|---|---|", flush=True)
for model in models:
    if sequences:
        with llama_server(model, sequences, depth + generate + 64):
            results = [(ours_together(model), theirs_together()) for _ in range(runs)]
    else:
        results = [(ours(model), theirs(model)) for _ in range(runs)]
    for test in results[0][0]:
        mine, peer = ([pair[side][test] for pair in results] for side in (0, 1))
        cells = [f"{statistics.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in (mine, peer)]
        ratio = statistics.median(mine) / statistics.median(peer)
        print(f"| {os.path.basename(model)} | {test} | {cells[0]} | {cells[1]} | {ratio:.1f} |", flush=True)
END
