#!/bin/sh
# On a fresh Debian 12 machine: installs what is missing, builds, and lets gptoss-nano answer.
#     sh examples/quickstart.sh ["another question"]
set -eu
cd "$(dirname "$0")/.."

. cmake/packages.sh
install_packages $build_packages $run_packages

generator=
if [ ! -f build/CMakeCache.txt ] && command -v ninja >/dev/null; then generator="-G Ninja"; fi
cmake -B build $generator -D GPTOSS_BUILD_EXAMPLES=ON >/dev/null
cmake --build build --parallel "$(nproc)" --target chat generate bench gptoss-download >&2

exec build/examples/chat --reasoning high --prompt="${1:-What is 15 × 23?}"
