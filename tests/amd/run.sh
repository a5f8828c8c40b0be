#!/bin/sh
# Compiles every kernel for AMD's GPUs with Mesa's own compiler and prints what became of it; no GPU is needed, but a
# Mesa from before null hardware was dropped from its AMD driver (22.3 to 25.0 have it).
#   tests/amd/run.sh [BUILD [FAMILY...]]    BUILD: build-ci or build where none is named
set -eu
cd "$(dirname "$0")/../.."
if [ $# -gt 0 ]; then
    build=$1; shift
else
    build=build; [ ! -x build-ci/tests/kernel_stats ] || build=build-ci
fi
[ $# -gt 0 ] || set -- polaris10 vega10 navi10 navi21 gfx1100
icd=$(find /usr/share/vulkan/icd.d -name 'radeon_icd*.json' | head -n 1)
[ -n "$icd" ] || { echo "no AMD driver: install mesa-vulkan-drivers" >&2; exit 2; }
for family; do
    XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp} RADV_FORCE_FAMILY=$family VK_ICD_FILENAMES=$icd "$build/tests/kernel_stats"
done
