#!/bin/bash
# Runs the tests that have memory to lose, or threads, under a sanitizer: tests/sanitize.sh address|thread [BUILD_FOLDER]
# GPTOSS_SOAK_SECONDS: how long the soak takes (60). GPTOSS_SOAK_GENERATIONS: on 64 threads (1000), for thread alone.
set -u
cd "$(dirname "$0")/.." || exit 1
. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages $run_packages $test_packages || exit 1
sanitizer=$1 build=${2:-build-$1} soak="test_soak ${GPTOSS_SOAK_SECONDS:-60}" before=()
case $sanitizer in
address)
    sanitizers=address,undefined
    tests=(test_unit test_model test_api "test_faults 300" "$soak" "test_interface 30")
    export UBSAN_OPTIONS=print_stacktrace=1
    ;;
thread)
    sanitizers=thread
    tests=("$soak" "test_soak generations ${GPTOSS_SOAK_GENERATIONS:-1000}")
    # without address randomization, which older ThreadSanitizers do not survive where it is large; and without their
    # opinion of mutexes that the Vulkan loader locks unseen and unlocks seen
    before=(setarch -R)
    export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp report_mutex_bugs=0"
    ;;
*)
    echo "usage: tests/sanitize.sh address|thread [BUILD_FOLDER]" >&2
    exit 1
    ;;
esac
# shellcheck disable=SC2086
cmake -S . -B "$build" -G Ninja -DGPTOSS_BUILD_TESTS=ON -DGPTOSS_WERROR=ON -DGPTOSS_SANITIZE=$sanitizers &&
    cmake --build "$build" --target $(printf '%s\n' "${tests[@]%% *}" | sort -u) || exit 1
passed=0 failed=0
for run in "${tests[@]}"; do
    started=$SECONDS
    # shellcheck disable=SC2086
    if "${before[@]}" "$build/tests/"$run; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    echo "== $run: $((SECONDS - started)) s"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
