#!/bin/bash
# Runs the tests that have memory to lose, or threads, or those that are named, under a sanitizer:
#     tests/sanitize.sh address|thread [BUILD_FOLDER [TEST ...]]     TEST: such as "test_soak 60"
set -u
cd "$(dirname "$0")/.." || exit 1
. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages $run_packages $test_packages || exit 1
sanitizer=$1 build=${2:-build-$1} before=()
case $sanitizer in
address)
    sanitizers=address,undefined
    tests=(test_unit test_model test_api "test_faults 300" "test_soak 60" "test_interface 60")
    export UBSAN_OPTIONS=print_stacktrace=1
    # What drivers keep in their static data counts as lost when the loader unloads them.
    export VK_LOADER_DISABLE_DYNAMIC_LIBRARY_UNLOADING=1
    ;;
thread)
    sanitizers=thread
    tests=("test_soak 60" "test_soak generations 1000" "test_interface 60")
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
[ $# -le 2 ] || tests=("${@:3}")
flags="-O1 -g1 -DNDEBUG" # which take half as long to build
# shellcheck disable=SC2086
cmake -S . -B "$build" -G Ninja -DGPTOSS_BUILD_TESTS=ON -DGPTOSS_WERROR=ON -DGPTOSS_SANITIZE=$sanitizers \
    -DCMAKE_C_FLAGS_RELWITHDEBINFO="$flags" -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="$flags" &&
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
