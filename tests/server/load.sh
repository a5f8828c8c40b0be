#!/bin/sh
# The server under AddressSanitizer with clients of every kind at once: load.sh [BUILD_FOLDER [SECONDS [CLIENTS]]]
set -eu
cd "$(dirname "$0")/../.."
. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages $run_packages $server_packages ccache nodejs
build=${1:-build-load}
flags="-O1 -g1 -DNDEBUG"
cmake -S . -B "$build" -G Ninja -DGPTOSS_WERROR=ON -DGPTOSS_SANITIZE=address,undefined \
    -DCMAKE_C_FLAGS_RELWITHDEBINFO="$flags" -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="$flags" >/dev/null
cmake --build "$build" --target gptoss-server
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
# What is freed is kept for a while, which would look like growth.
export ASAN_OPTIONS=quarantine_size_mb=16
# What drivers keep in their static data counts as lost when the loader unloads them.
export VK_LOADER_DISABLE_DYNAMIC_LIBRARY_UNLOADING=1
node tests/server/load.mjs "$build/examples/gptoss-server" nano/gptoss-nano "${2:-600}" "${3:-64}"
