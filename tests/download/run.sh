#!/bin/sh
# gptoss-download, and models of a hub in the chat and the server, against a hub on loopback: run.sh BUILD_FOLDER
set -eu
export GPTOSS_BUILD="$1" PYTHONDONTWRITEBYTECODE=1
sh "$(dirname "$0")/../manual.sh" "$1" gptoss-download
exec /usr/bin/python3 "$(dirname "$0")/test_download.py"
