#!/bin/sh
# Compiles every kernel for AMD's GPUs with Mesa's own compiler and prints what became of it; no GPU is needed.
#   tests/amd/run.sh [BUILD [FAMILY...]]    with this system's Mesa; BUILD: build-ci or build where none is named
#   tests/amd/run.sh trixie [FAMILY...]     with Debian 13's, which knows newer GPUs, and whose glslang knows
#                                           cooperative matrices: in a folder that .ci/debian.sh makes; needs root
#   tests/amd/run.sh forky [FAMILY...]      with the newest Debian's
# Mesa 22.3 to 25.0 have null hardware in the driver itself, newer ones under a stand-in for the kernel's.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-}
[ $# -eq 0 ] || shift
if [ "$build" = trixie ] || [ "$build" = forky ]; then
    [ $# -gt 0 ] || { [ "$build" = forky ] && set -- gfx1201 || set -- navi31 gfx1151; }
    # shellcheck disable=SC2016
    exec .ci/debian.sh "$build" env suite="$build" sh -euc '
        . cmake/packages.sh
        install_packages $build_packages $run_packages doctest-dev $([ "$suite" != forky ] || echo mesa-drm-shim)
        cmake -S . -B "build-$suite" -G Ninja -DGPTOSS_BUILD_TESTS=ON -DGPTOSS_BUILD_EXAMPLES=OFF >&2
        cmake --build "build-$suite" --target kernel_stats >&2
        exec sh tests/amd/run.sh "build-$suite" "$@"' sh "$@"
fi
[ -n "$build" ] || [ ! -x build-ci/tests/kernel_stats ] || build=build-ci
[ $# -gt 0 ] || set -- polaris10 vega10 navi10 navi21 gfx1100
icd=$(find /usr/share/vulkan/icd.d -name 'radeon_icd*.json' | head -n 1)
[ -n "$icd" ] || { echo "no AMD driver: install mesa-vulkan-drivers" >&2; exit 2; }
shim=$(find /usr/lib -name libamdgpu_noop_drm_shim.so | head -n 1)
for family; do
    if [ -n "$shim" ]; then
        set -- LD_PRELOAD="$shim" AMDGPU_GPU_ID="$family"
    else
        set -- RADV_FORCE_FAMILY="$family"
    fi
    env "$@" XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" VK_ICD_FILENAMES="$icd" "${build:-build}/tests/kernel_stats"
done
