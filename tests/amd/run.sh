#!/bin/sh
# Compiles every kernel for AMD's GPUs with Mesa's own compiler and prints what became of it; no GPU is needed, but a
# Mesa from before null hardware was dropped from its AMD driver (22.3 to 25.0 have it).
#   tests/amd/run.sh [BUILD [FAMILY...]]    with this system's Mesa; BUILD: build-ci or build where none is named
#   tests/amd/run.sh trixie [FAMILY...]     with Debian 13's, which knows newer GPUs, and whose glslang knows
#                                           cooperative matrices: in a folder that .ci/debian.sh makes; needs root
set -eu
cd "$(dirname "$0")/../.."
build=${1:-}
[ $# -eq 0 ] || shift
if [ "$build" = trixie ]; then
    [ $# -gt 0 ] || set -- navi31 gfx1151 gfx1201
    # shellcheck disable=SC2016
    exec .ci/debian.sh trixie sh -euc '
        . cmake/packages.sh
        install_packages $build_packages $run_packages doctest-dev
        cmake -S . -B build-trixie -G Ninja -DGPTOSS_BUILD_TESTS=ON -DGPTOSS_BUILD_EXAMPLES=OFF >&2
        cmake --build build-trixie --target kernel_stats >&2
        exec sh tests/amd/run.sh build-trixie "$@"' sh "$@"
fi
[ -n "$build" ] || [ ! -x build-ci/tests/kernel_stats ] || build=build-ci
[ $# -gt 0 ] || set -- polaris10 vega10 navi10 navi21 gfx1100
icd=$(find /usr/share/vulkan/icd.d -name 'radeon_icd*.json' | head -n 1)
[ -n "$icd" ] || { echo "no AMD driver: install mesa-vulkan-drivers" >&2; exit 2; }
for family; do
    XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp} RADV_FORCE_FAMILY=$family VK_ICD_FILENAMES=$icd \
        "${build:-build}/tests/kernel_stats"
done
