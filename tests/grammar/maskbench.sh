#!/bin/sh
# MaskBench against the grammars: tests/grammar/maskbench.sh FOLDER [BUILD_FOLDER], where FOLDER is maskbench/data of a
# checkout of guidance-ai/jsonschemabench. Prints what fails, the counts, and how long masks and compilation take.
set -eu
cd "$(dirname "$0")/../.."
data=${1:?a folder of schemas is needed: maskbench/data of guidance-ai/jsonschemabench}
"${2:-build}/tests/maskbench" "$data"
