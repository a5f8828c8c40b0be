#!/bin/sh
# The server with real clients from npm, with misuse, and its page in a browser: run.sh [BUILD_FOLDER]. Installs what it needs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
build=$(cd "${1:-$root/build-ci}" && pwd)
server=$build/examples/gptoss-server
nano=$root/nano/gptoss-nano
. "$root/cmake/packages.sh"
command -v npm >/dev/null || install_packages nodejs npm
cd "$here"
npm install --no-audit --no-fund --no-package-lock --loglevel=error
sh "$root/tests/manual.sh" "$build" gptoss-server
counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
for test in clients misuse codex page; do
    echo "== $test"
    { node $test.mjs "$server" "$nano" || echo "0 passed, 1 failed"; } | tee -a "$counts"
done
awk '/^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
     END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 }' "$counts"
