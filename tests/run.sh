#!/bin/sh
# Builds the library with its tests and runs them all: tests/run.sh [BUILD_FOLDER [CMAKE_OPTION ...]]
#
# Installs what is missing on Debian 12 or newer (as root or with sudo). Whatever uses the GPU runs under the Vulkan
# validation layer, and anything that it says is a failure; GPTOSS_TEST_VALIDATION=0 leaves it out. Other settings:
# GPTOSS_TEST_DEVICE, an index or a part of a name; GPTOSS_TEST_LONG=1 for the whole of the longest golden prompt, and
# kernels with other widths of subgroups; GPTOSS_TEST_FULL=131072 for a context of so many tokens and nothing else.
# The last line is "N passed, N failed", of all binaries together.
set -u
cd "$(dirname "$0")/.." || exit 1
. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages $run_packages $test_packages || exit 1

build=${1:-build-tests}
[ $# -eq 0 ] || shift
cmake -S . -B "$build" -G Ninja -DGPTOSS_BUILD_TESTS=ON -DGPTOSS_WERROR=ON "$@" &&
    cmake --build "$build" --parallel "$(nproc)" || exit 1

log=$(mktemp)
failures=$(mktemp)
trap 'rm -f "$log" "$failures"' EXIT
passed=0 failed=0

# Runs one binary and adds up its counts; what ends without any, or fails beside them, is one failure more.
run() {
    name=$1
    shift
    printf '\n== %s\n' "$name"
    started=$(date +%s)
    "$@" >"$log" 2>&1
    status=$?
    cat "$log"
    # doctest's "[doctest] test cases:  9 |  8 passed | 1 failed | 0 skipped", or "8 passed, 1 failed"
    counts=$(sed -n 's/^\[doctest\] test cases: *[0-9]* | *\([0-9]*\) passed | *\([0-9]*\) failed.*/\1 \2/p
                     s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1)
    ok=${counts% *} bad=${counts#* }
    if [ -z "$counts" ] || { [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; }; then bad=$((${bad:-0} + 1)); fi
    if [ "$bad" -ne 0 ]; then # a few lines of each failure, and how it ended
        { printf '\n== %s failed with status %s\n' "$name" "$status" &&
            grep -B 6 -A 6 'ERROR:\|^FAILED\|^WRONG' "$log" | head -n 40 && tail -n 8 "$log"; } >> "$failures"
    fi
    passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-0}))
    echo "== $name: ${ok:-0} passed, ${bad:-0} failed, $(($(date +%s) - started)) s"
}

# The checkpoint of golden/wide1, which follows from its seed; the sum is the one that the golden data was made with.
wide1=build-wide1
if ! [ -e "$wide1/sum" ]; then
    # another python before Debian's may lack numpy
    PATH=/usr/bin:$PATH python3 tests/synth.py "$wide1" --layers 1 --vocab 1024 --seed 14 &&
        sum=$(sha256sum "$wide1/model.safetensors") && echo "${sum%% *}" > "$wide1/sum" || exit 1
fi
if [ "$(cat "$wide1/sum")" != 0c6608bef616c7e068d0d1705a03f618a5bfb1cddc5f59217bb933734d9ca329 ]; then
    echo "tests/synth.py no longer makes the checkpoint of golden/wide1" >&2
    exit 1
fi
export GPTOSS_TEST_WIDE1="$wide1"

validated=
[ "${GPTOSS_TEST_VALIDATION:-1}" = 0 ] || validated="sh tests/validation.sh"
if [ -n "${GPTOSS_TEST_FULL:-}" ]; then
    # shellcheck disable=SC2086
    run test_model $validated "$build/tests/test_model" -tc="golden: long*full context"
    printf '\n%s passed, %s failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
    exit
fi
run test_unit "$build/tests/test_unit"
for name in test_kernels test_model test_api; do
    # shellcheck disable=SC2086
    run $name $validated "$build/tests/$name"
done
if [ -n "${GPTOSS_TEST_LONG:-}" ]; then
    # a newer software device has subgroups as wide as it is told: 4 and 16 invocations besides the processor's own;
    # its driver (Mesa 26.1) crashes on every cooperative matrix of the widest ones
    for width in 128 512; do
        left_out=none
        [ $width = 128 ] || left_out="coopmat*"
        # shellcheck disable=SC2086
        run "test_kernels, subgroups of $((width / 32))" env LP_NATIVE_VECTOR_WIDTH=$width \
            GPTOSS_TEST_SUBGROUP=$((width / 32)) $validated "$build/tests/test_kernels" -tce="$left_out"
    done
fi
# shellcheck disable=SC2086
run test_faults $validated "$build/tests/test_faults" "${GPTOSS_TEST_FAULTS:-300}"
run test_dlopen "$build/tests/test_dlopen" "$build/libgptoss.so" tests/golden/tiny
run test_nano "$build/tests/test_nano"

cat "$failures"
printf '\n%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
