#!/bin/sh
# Compares the built-in tokenizer with npm's tiktoken: run.sh BUILD_FOLDER [--min-speedup N]. Installs what it needs.
set -eu
cd "$(dirname "$0")"
build=$(cd "$OLDPWD" && cd "${1:-../../build}" && pwd)
[ $# -gt 0 ] && shift
if ! command -v npm >/dev/null; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -q
    $sudo apt-get install -qy --no-install-recommends nodejs npm
fi
npm install --no-audit --no-fund --no-package-lock
node compare.mjs "$build/examples/bench_text" "$@"
