#!/bin/sh
# The server with OpenAI's Python client, in a Debian that has it as a package: python.sh [BUILD_FOLDER]. Installs what it needs.
set -eu
cd "$(dirname "$0")/../.."
. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages $run_packages $server_packages ccache python3-openai python3-pydantic
build=${1:-build-ci-newer}
cmake -S . -B "$build" -G Ninja -DGPTOSS_WERROR=ON >/dev/null
cmake --build "$build" --target gptoss-server
python3 tests/server/client.py "$build/examples/gptoss-server" nano/gptoss-nano
