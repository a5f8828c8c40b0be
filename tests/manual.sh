#!/bin/sh
# A program's manual page names the options of its --help, and no others: manual.sh BUILD_FOLDER PROGRAM
set -eu
here=$(cd "$(dirname "$0")" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
"$1/examples/$2" --help | grep -o '^ *\(-[a-z],\)\?--[a-z-]*' | grep -o -- '--[a-z-]*' | sort -u >"$temp/help"
sed 's/\\-/-/g' "$here/../docs/man/$2.1" | grep '^\.B' | grep -o -- '--[a-z-]*' | sort -u >"$temp/manual"
[ -s "$temp/help" ] && diff "$temp/help" "$temp/manual"
