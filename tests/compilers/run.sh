#!/bin/sh
# Compiles every kernel of the forward pass with the vendors' own open compilers, for GPUs that are not here, and fails if a
# kernel spills registers, keeps variables in memory, or has less occupancy than it should.
#   tests/compilers/run.sh [CHIP ...]     the named chips, or one of each vendor
#   tests/compilers/run.sh --write        all chips, as a table, to docs/compilers.csv
# The compilers are those of the newest Debian's Mesa, over its stand-ins for kernel drivers, in a folder that
# .ci/debian.sh makes; needs root. GPTOSS_COMPILERS_BUILD: the build folder there.
set -eu
cd "$(dirname "$0")/../.."
one_each="navi31 nv172 m1 a740"
all="polaris12 vega10 navi10 navi21 navi31 gfx1201 nv162 nv172 nv176 m1 a660 a740"
table=
[ $# -gt 0 ] || set -- $one_each
if [ "$1" = --write ]; then
    table=docs/compilers.csv
    set -- $all
fi
if [ "${GPTOSS_IN_FORKY:-}" != yes ]; then
    [ -z "$table" ] || set -- --write
    exec .ci/debian.sh forky env GPTOSS_IN_FORKY=yes sh tests/compilers/run.sh "$@"
fi

. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages $run_packages $test_packages mesa-drm-shim
build=${GPTOSS_COMPILERS_BUILD:-build-compilers}
cmake -S . -B "$build" -G Ninja -DGPTOSS_BUILD_TESTS=ON -DGPTOSS_WERROR=ON >&2
cmake --build "$build" --target kernel_stats >&2

libraries=$(dirname "$(find /usr/lib -name libnouveau_noop_drm_shim.so | head -n 1)")
icd() { find /usr/share/vulkan/icd.d -name "$1_icd*.json" | head -n 1; }
compile() {
    case $1 in
    nv*) set -- "$1" nouveau nouveau NOUVEAU_CHIPSET="${1#nv}" ;;
    m1) set -- "$1" asahi asahi ;;
    a[67]*) set -- "$1" freedreno freedreno FD_GPU_ID="${1#a}" ;;
    *) set -- "$1" radeon amdgpu AMDGPU_GPU_ID="$1" ;;
    esac
    chip=$1 preload=$libraries/lib$3_noop_drm_shim.so driver=$(icd "$2")
    shift 3
    env "$@" LD_PRELOAD="$preload" VK_ICD_FILENAMES="$driver" XDG_RUNTIME_DIR=/tmp MESA_SHADER_CACHE_DISABLE=true \
        "$build/tests/kernel_stats" "$chip"
}

rows=$(mktemp)
passed=0 failed=0
for chip; do
    if compile "$chip" >>"$rows"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
if [ -n "$table" ]; then
    echo "chip,kernel,constants,registers,spills,memory,occupancy,instructions,cycles" | cat - "$rows" >"$table"
fi
rm -f "$rows"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
