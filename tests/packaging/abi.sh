#!/bin/sh
# Compares a built library with include/gptoss.h, and its ABI with the baseline beside this file.
#     tests/packaging/abi.sh build             checks
#     tests/packaging/abi.sh build --update    makes the baseline anew, after an intended change; review its difference
# New functions pass without a new baseline. The build needs debug information.
set -eu
cd "$(dirname "$0")/../.."
. cmake/packages.sh
install_packages abigail-tools binutils gcc g++ clang
library=$1/libgptoss.so
baseline=tests/packaging/gptoss.abi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Headers alone, in the oldest C and the newest C++ that use them.
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wundef -Werror -fsyntax-only"
echo '#include <gptoss.h>' > "$work/header.c"
echo '#include <gptoss.hpp>' > "$work/header.cpp"
# A parent project's strictness, and one without exceptions.
for flags in "-Wuseless-cast -Wsign-conversion -Wold-style-cast" "-Wuseless-cast -fno-exceptions -fno-rtti"; do
    g++ -std=c++20 $warnings $flags -Iinclude "$work/header.cpp"
done
for c in "gcc -Wstrict-prototypes" "clang -Weverything -Wno-reserved-macro-identifier -Wno-padded"; do
    $c -std=c99 $warnings -Iinclude "$work/header.c"
done
for cxx in g++ "clang++ -Wno-unused-const-variable"; do
    $cxx -std=c++17 $warnings -Iinclude -x c++ "$work/header.c"
    $cxx -std=c++17 $warnings -Iinclude "$work/header.cpp"
    $cxx -std=c++20 $warnings -Iinclude "$work/header.cpp"
done

# Exactly the header's functions are exported.
gcc -E -P include/gptoss.h | grep -o 'gptoss_[a-z0-9_]*(' | tr -d '(' | sort -u > "$work/declared"
nm -D --defined-only "$library" | sed 's/.* //; s/@.*//' | grep -v '^GPTOSS_' | sort -u > "$work/exported"
diff -u "$work/declared" "$work/exported" || { echo "the header declares (-) other functions than the library exports (+)"; exit 1; }

describe="abidw --exported-interfaces-only --headers-dir include --drop-private-types --no-corpus-path --no-comp-dir-path"
describe="$describe --no-show-locs --type-id-style hash"
$describe "$library" | sed "s|path='$PWD/|path='|" > "$work/gptoss.abi"
if [ "${2:-}" = --update ]; then
    cp "$work/gptoss.abi" $baseline
fi
abidiff --no-added-syms $baseline "$work/gptoss.abi" || {
    echo "the ABI is not the baseline's: a defect, or an intended change of a version that is not released"; exit 1; }
