#!/bin/bash
# Fuzzes every parser, as many at once as there are cores: tests/fuzz/run.sh [BUILD_FOLDER]
# GPTOSS_FUZZ_SECONDS: for how long each (30). What they find new stays in BUILD_FOLDER/corpus, what breaks one in
# BUILD_FOLDER.
set -u
cd "$(dirname "$0")/../.." || exit 1
. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages clang || exit 1
build=${1:-build-fuzz} passed=0 failed=0
cmake -S . -B "$build" -G Ninja -DGPTOSS_BUILD_FUZZERS=ON -DGPTOSS_BUILD_EXAMPLES=OFF -DCMAKE_C_COMPILER=clang \
    -DCMAKE_CXX_COMPILER=clang++ && cmake --build "$build" --target fuzzers || exit 1

fuzz() { # NAME
    mkdir -p "$build/corpus/$1"
    "$build/tests/fuzz_$1" -max_total_time="${GPTOSS_FUZZ_SECONDS:-30}" -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$build/$1-" "$build/corpus/$1" "tests/fuzz/corpus/$1" >"$build/$1.log" 2>&1
}

names=(tests/fuzz/*.cpp)
names=("${names[@]##*/}")
names=("${names[@]%.cpp}")
cores=$(nproc)
for ((first = 0; first < ${#names[@]}; first += cores)); do
    running=()
    for name in "${names[@]:first:cores}"; do
        fuzz "$name" &
        running+=($!)
    done
    for i in "${!running[@]}"; do
        name=${names[first + i]}
        if wait "${running[i]}"; then
            passed=$((passed + 1))
            echo "$name: $(sed -n 's/.*number_of_executed_units: *//p' "$build/$name.log") inputs"
        else
            failed=$((failed + 1))
            echo "$name: FAILED"
            tail -n 40 "$build/$name.log"
        fi
    done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
