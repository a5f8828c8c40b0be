#!/bin/sh
# Builds the library, its tests and the programs for Windows by mingw-w64, and runs them by Wine on this machine's
# Vulkan device: tests/windows.sh [BUILD_FOLDER]
#
# Installs what is missing on Debian 12 (as root or with sudo). The last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages $run_packages $test_packages $windows_packages $windows_test_packages || exit 1

build=${1:-build-windows}
mkdir -p "$build"
build=$(realpath "$build")
sh cmake/mingw.sh "$build/prefix" || exit 1
cmake -S . -B "$build" -G Ninja --toolchain cmake/mingw.cmake -DCMAKE_PREFIX_PATH="$build/prefix" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_FLAGS_RELEASE="-O2 -DNDEBUG" -DGPTOSS_BUILD_TESTS=ON -DGPTOSS_WERROR=ON &&
    cmake --build "$build" --target gptoss test_api test_unit test_model chat gptoss-server || exit 1

export WINEPREFIX="$build/wine" WINEDEBUG=-all WINEDLLOVERRIDES="mscoree=;mshtml=;winedbg.exe=d"
passed=0 failed=0

# check NAME CMD ...: one check, by the command's status
check() {
    name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAILED: $name"; fi
}

# Runs a binary and adds up its counts; what ends without any, or fails beside them, is one failure more.
run() {
    printf '\n== %s\n' "$*"
    started=$(date +%s)
    timeout 600 wine "$build/$@" > "$build/log" 2>&1 < /dev/null
    status=$?
    grep -v ': ok' "$build/log"
    counts=$(tr -d '\r' < "$build/log" |
        sed -n 's/^\[doctest\] test cases: *[0-9]* | *\([0-9]*\) passed | *\([0-9]*\) failed.*/\1 \2/p
                s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' | tail -n 1)
    ok=${counts% *} bad=${counts#* }
    if [ -z "$counts" ] || { [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; }; then bad=$((${bad:-0} + 1)); fi
    passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-0}))
    echo "== $1: ${ok:-0} passed, ${bad:-0} failed, $(($(date +%s) - started)) s"
}

# What a DLL exports, and the DLLs that a file takes something from.
exports() { x86_64-w64-mingw32-objdump -p "$1" | sed -n '/Name Pointer. Table/,/^$/s/^\t\[ *[0-9]*\] //p' | sort; }
imports() { x86_64-w64-mingw32-objdump -p "$1" | sed -n 's/.*DLL Name: //p' | tr '[:upper:]' '[:lower:]' | sort; }

printf '\n== the header, as Microsoft'"'"'s compiler reads it\n'
for language in "c -std=c11" "c++ -std=c++20"; do
    # shellcheck disable=SC2086
    check "gptoss.h is free of GNU's extensions in $language" clang -x $language -fsyntax-only \
        --target=x86_64-pc-windows-msvc -ffreestanding -nostdlibinc -fms-compatibility -fms-extensions -Wgnu -Wpedantic \
        -Wall -Wextra -Werror -Wno-pragma-once-outside-header -Iinclude include/gptoss.h
done
check "gptoss.hpp is free of GNU's extensions" clang++ -x c++ -std=c++20 -fsyntax-only -Wgnu -Wpedantic -Wall -Wextra \
    -Werror -Wno-pragma-once-outside-header -Iinclude include/gptoss.hpp

printf '\n== exports and imports\n'
exports "$build/gptoss.dll" > "$build/exports"
grep -o 'gptoss_[a-z0-9_]*(' include/gptoss.h | tr -d '(' | sort -u > "$build/declared"
check "exports are the header's functions" diff "$build/declared" "$build/exports"
check "the library takes only what Windows has" [ "$(imports "$build/gptoss.dll" | xargs)" = "kernel32.dll msvcrt.dll" ]
for program in chat gptoss-server; do
    others=$(imports "$build/$program.exe" |
        grep -vxE '(gptoss|kernel32|msvcrt|shell32|ws2_32|user32|advapi32|crypt32)\.dll')
    check "$program.exe takes only what Windows has, and gptoss.dll, not: $others" [ -z "$others" ]
done

# A display, which winevulkan wants; wineserver stays until the last program has ended.
display=99
while [ -e "/tmp/.X$display-lock" ]; do display=$((display + 1)); done
Xvfb ":$display" -screen 0 640x480x24 > /dev/null 2>&1 &
xvfb=$!
trap 'wineserver -k; kill $xvfb' EXIT
export DISPLAY=":$display"
wineboot --init > /dev/null 2>&1

run test_unit.exe
run test_api.exe
WINEDLLOVERRIDES="$WINEDLLOVERRIDES;vulkan-1=" run test_api.exe alone_without_vulkan
VK_ICD_FILENAMES=/nonexistent.json run test_api.exe alone_without_vulkan
run test_model.exe -tc="golden: tiny*,golden: many*,golden: long*" -tce="*full context*"

printf '\n== chat.exe\n'
answer=$(echo "What is 15 * 23?" | timeout 300 wine "$build/chat.exe" --reasoning high nano/gptoss-nano 2> "$build/log")
echo "$answer"
check "chat answers 15 * 23" [ -z "${answer##*345*}" ]

printf '\n== the zip\n'
zip=gptoss-windows-x86_64
rm -rf "${build:?}/$zip" "$build/$zip.zip"
cmake --install "$build" --prefix "$build/$zip" > "$build/log" && (cd "$build" && zip -qr "$zip.zip" "$zip")
ls -l "$build/$zip.zip" && unzip -l "$build/$zip.zip" | awk '{print $4}' | sort > "$build/files"
for file in bin/gptoss.dll bin/chat.exe bin/gptoss-server.exe include/gptoss.h include/gptoss.hpp lib/gptoss.lib \
    lib/cmake/gptoss/gptoss-config.cmake; do
    check "the zip has $file" grep -qx "$zip/$file" "$build/files"
done
answer=$(cd / && timeout 300 wine "$build/$zip/bin/chat.exe" --reasoning high --prompt "What is 15 * 23?" 2> "$build/log")
check "the zip's chat answers 15 * 23 with the model that comes with it" [ -z "${answer##*345*}" ]

printf '\n%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
