#!/bin/sh
# Answers from random weights by 20 JSON schemas and 5 sets of tools, judged by npm's ajv and openai-harmony:
#     tests/grammar/answers.sh [BUILD_FOLDER [PER_CASE [SEED]]]     PER_CASE: answers of each; 8 by default, 400 for all
# Temperature 1.5: whatever the model likes, every answer is valid and every turn is whole.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
build=${1:-$root/build-ci}
. "$root/cmake/packages.sh"
install_packages python3-numpy
command -v npm >/dev/null || install_packages nodejs npm
if [ ! -x "$build/tests/answers" ]; then
    cmake -S "$root" -B "$build" -DGPTOSS_BUILD_TESTS=ON
    cmake --build "$build" --target answers
fi
build=$(cd "$build" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The vocabulary of gptoss-nano has Harmony's tokens; its weights know their use, these do not.
PATH=/usr/bin:$PATH python3 "$root/tests/synth.py" "$work/model" --layers 2 --hidden 64 --inter 64 --heads 4 --kv 2 \
    --experts 4 --topk 2 --vocab 960 --ctx 8192 --seed "${3:-1}"
cp "$root/nano/gptoss-nano/tokenizer.json" "$work/model"
cd "$here"
npm install --no-audit --no-fund --no-package-lock
"$build/tests/answers" "$work/model" cases.json "${2:-8}" "${3:-1}" >"$work/answers"
node answers.mjs cases.json <"$work/answers"
