#!/bin/sh
# The built-in tokenizer beside npm's tiktoken, and on hostile texts: run.sh [BUILD_FOLDER]. Installs what it needs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
build=${1:-$root/build-ci}
if [ ! -x "$build/examples/bench_text" ]; then
    cmake -S "$root" -B "$build" -DGPTOSS_BUILD_EXAMPLES=ON
    cmake --build "$build" --target bench_text
fi
"$build/examples/bench_text" --hostile
build=$(cd "$build" && pwd)
cd "$here"
. "$root/cmake/packages.sh"
command -v npm >/dev/null || install_packages nodejs npm
npm install --no-audit --no-fund --no-package-lock
node compare.mjs "$build/examples/bench_text"
