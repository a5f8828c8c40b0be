#!/bin/sh
# What users of the library get: its ABI, its reference, its bindings, its packages, and programs of every language
# built against what is installed.
#     tests/packaging/run.sh [BUILD]     BUILD is configured and built if need be; with debug information
# CYCLES: models and contexts that each language makes and destroys while memory must not grow; 1000 by default. Fewer
# are run and not judged: what drivers keep for a while is more than so few could leak.
set -eu
cd "$(dirname "$0")/../.."
. cmake/packages.sh
# shellcheck disable=SC2086
install_packages $build_packages $run_packages abigail-tools binutils gcc clang doxygen dpkg-dev file mypy python3-numpy cargo rustc \
    python3 python3-pip python3-venv ccache $inspect_packages
source=$PWD
# The same sources are compiled in two folders, as a project and as a part of one: once, but for the first time.
export CCACHE_NOHASHDIR=1
cmake -S . -B "${1:-build-ci}" -G Ninja -DGPTOSS_WERROR=ON > /dev/null
cmake --build "${1:-build-ci}" --target gptoss
build=$(cd "${1:-build-ci}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tiny=$source/tests/golden/tiny
nano=$source/nano/gptoss-nano
prefix=$work/prefix

begun=$(date +%s)
step() { echo "== $(($(date +%s) - begun)) s: $*"; }

step "The ABI"
tests/packaging/abi.sh "$build"

step "The reference"
python3 docs/comments.py include/gptoss.h > /dev/null
mkdir -p "$work/docs"
(cat docs/Doxyfile; echo "OUTPUT_DIRECTORY = $work/docs") | doxygen -
test -s "$work/docs/html/gptoss_8h.html"

step "Installing"
cmake --install "$build" --prefix "$prefix" > /dev/null
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig" LD_LIBRARY_PATH="$prefix/lib" CMAKE_PREFIX_PATH="$prefix"
if [ ! -d "$prefix/lib/pkgconfig" ]; then # a multiarch libdir
    libdir=$(dirname "$(dirname "$(find "$prefix" -name gptoss.pc)")")
    export PKG_CONFIG_PATH="$libdir/pkgconfig" LD_LIBRARY_PATH="$libdir"
fi
export GPTOSS_INCLUDE_DIR="$prefix/include"
test "$(stat -L -c %s "$LD_LIBRARY_PATH/libgptoss.so")" -lt 8000000 # without debug information
test "$(readelf -d "$LD_LIBRARY_PATH/libgptoss.so" | sed -n 's/.*soname: \[\(.*\)\]/\1/p')" = libgptoss.so.0

# Sources outside the tree, so that nothing of it is found by chance.
cp -r tests/packaging/consumers bindings "$work"
git check-ignore -q bindings/python/gptoss/libgptoss.so
cd "$work"

step "C by pkg-config"
# shellcheck disable=SC2046
cc -std=c99 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror consumers/c/consumer.c $(pkg-config --cflags --libs gptoss) -o c

step "C++ by find_package, and misuse"
cmake -S consumers/cpp -B cpp -G Ninja > /dev/null
ninja -C cpp > /dev/null
cpp/misuse "$tiny"

step "C++ by add_subdirectory, a static library"
sub() { # BUILD SOURCE OPTION...: a project that has the library's source as a part
    folder=$1 project=$2
    shift 2
    cmake -S "$project" -B "$folder" -G Ninja -DGPTOSS_SOURCE_DIR="$source" -DCMAKE_C_COMPILER_LAUNCHER=ccache \
        -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@" > /dev/null
    ninja -C "$folder" > "$folder.log" || { tail -n 40 "$folder.log"; exit 1; }
}
sub sub consumers/cpp -DBUILD_SHARED_LIBS=OFF -DGPTOSS_INSTALL=ON -DGPTOSS_WERROR=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
test ! -e sub/gptoss/lib/libgptoss.so
cmake --install sub --prefix "$work/static" > /dev/null
archive=$(find static -name libgptoss.a)
test "$(stat -c %s "$archive")" -lt 8000000
# Exactly the interface is visible, except for what the standard library shares among all objects.
nm --extern-only --defined-only "$archive" | sed -n 's/^[0-9a-f]* [TDBR] //p' | sort > visible
nm -D --defined-only "$LD_LIBRARY_PATH/libgptoss.so" | sed -n 's/.* T //p' | sed 's/@.*//' | sort | diff - visible

step "The static library by find_package and by pkg-config, beside another volk"
CMAKE_PREFIX_PATH="$work/static" cmake -S consumers/strict -B strict-static -G Ninja -DWITH_VOLK=ON > /dev/null
ninja -C strict-static > /dev/null
strict-static/strict "$tiny"
# shellcheck disable=SC2046
cc -std=c99 -D_POSIX_C_SOURCE=200809L consumers/c/consumer.c -o c-static \
    $(PKG_CONFIG_PATH="$(dirname "$archive")/pkgconfig" pkg-config --cflags --libs gptoss)
readelf -d c-static | grep libgptoss && exit 1

step "C++ by add_subdirectory, of a strict project"
sub strict consumers/strict -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0
strict/strict "$tiny"

export XDG_CACHE_HOME="$work/cache" # from here on nothing is compiled that ccache knows

step "Python from a wheel"
python3 -m venv venv
pip="venv/bin/pip --disable-pip-version-check --quiet"
PIP_NO_INDEX=1 $pip wheel --wheel-dir wheels ./bindings/python
PIP_NO_INDEX=1 $pip wheel --wheel-dir whole --config-settings=library="$build/libgptoss.so" ./bindings/python
wheel=$(ls whole/gptoss-*-py3-none-linux_"$(uname -m)".whl)
test "$(stat -c %s "$wheel")" -lt 4000000
PIP_NO_INDEX=1 $pip install --target whole/installed "$wheel"
env -u LD_LIBRARY_PATH PYTHONPATH=whole/installed python3 -c "import gptoss; gptoss.Model('$tiny').close()"
PIP_NO_INDEX=1 $pip install wheels/gptoss-*.whl
mypy --strict --python-version 3.9 bindings/python/gptoss
# The loader's own search; the tests also look for a file by its name.
export GPTOSS_TINY="$tiny" GPTOSS_NANO="$nano"
venv/bin/python -W error -m unittest discover -s bindings/python/tests
# With numpy and matplotlib, which Debian's own Python has and that one has not.
for test in test_taps.py test_inspect.py; do
    PYTHONPATH=$(echo venv/lib/python*/site-packages) /usr/bin/python3 -W error -m unittest discover -s bindings/python/tests -p $test
done
if python3.9 --version > /dev/null 2>&1; then # the oldest that the package is for
    PYTHONPATH=$(echo venv/lib/python*/site-packages) python3.9 -W error -m unittest discover -s bindings/python/tests
fi
for pace in 0 1000; do
    venv/bin/python bindings/python/tests/benchmark.py $pace --limit 50
done

step "Rust by pkg-config, offline"
cargo test --quiet --offline --manifest-path bindings/rust/Cargo.toml
cargo build --quiet --offline --release --manifest-path consumers/rust/Cargo.toml
GPTOSS_LIB_DIR=/no/such/folder cargo check --offline --manifest-path bindings/rust/Cargo.toml > rust.log 2>&1 && exit 1
grep -q "libgptoss was not found in /no/such/folder. Install it" rust.log

program() { # NAME ARGUMENT...: a consumer
    name=$1
    shift
    case $name in
        c) ./c "$@" ;;
        cpp) cpp/consumer "$@" ;;
        python) venv/bin/python consumers/python/consumer.py "$@" ;;
        rust) env -u LD_LIBRARY_PATH consumers/rust/target/release/consumer "$@" ;; # by its run path
        subdirectory) sub/consumer "$@" ;;
        static) ./c-static "$@" ;;
        packages) LD_LIBRARY_PATH="$libdir" ./c-deb "$@" ;;
    esac
}
each() { # KIND NAMES ARGUMENT...: all of them at once, into KIND.NAME
    kind=$1 names=$2 running=
    shift 2
    for name in $names; do
        program "$name" "$@" > "$kind.$name" &
        running="$running $!"
    done
    for process in $running; do wait "$process"; done
}
same_tokens() { # KIND NAMES MODEL PROMPTS
    each "$1" "$2" "$1" "$3" "$4" 8
    for name in $2; do
        cmp "$1.$name" "$1.c" || { echo "$name gives other tokens than C"; exit 1; }
        test "$(wc -l < "$1.$name")" = 20
    done
}
step "The same 20 prompts give the same tokens: tiny"
same_tokens tokens "c cpp python rust subdirectory static" "$tiny" "$source/tests/packaging/tokens.txt"
step "The same 20 prompts give the same tokens: nano"
same_tokens text "c cpp python rust" "$nano" "$source/tests/packaging/texts.txt"

cycles=${CYCLES:-1000}
step "Memory after $cycles models and contexts"
each grown "c cpp python rust" cycles "$tiny" "$cycles"
# A block of 32 bytes that each cycle loses would be 19 kB from the second fifth to the last, a page 2,400 kB.
for name in c cpp python rust; do
    read -r allocated resident < "grown.$name"
    echo "$name: $allocated kB more allocated, $resident kB more resident"
    test "$cycles" -lt 1000 || { test "$allocated" -le 16 && test "$resident" -le 2048; } || {
        echo "$name: memory grows"; exit 1; }
done

step "Debian packages"
cmake -S "$source" -B "$build" > /dev/null
mkdir deb
(cd deb && cpack --config "$build/CPackConfig.cmake" -G DEB > /dev/null)
version=$(sed -n 's/^Version: //p' "$PKG_CONFIG_PATH/gptoss.pc")
field() { dpkg-deb -f "deb/$1_${version}_$(dpkg --print-architecture).deb" "$2"; }
test "$(field libgptoss0 Package)" = libgptoss0
field libgptoss0 Depends | grep -q libstdc++6
test "$(field libgptoss-dev Depends)" = "libgptoss0 (= $version)"
apt-get -qq --simulate install ./deb/*.deb > /dev/null # what they depend on can be had
# Into a root of their own, whose dpkg knows of nothing else.
mkdir -p root/var/lib/dpkg/info root/var/lib/dpkg/updates
touch root/var/lib/dpkg/status
scratch_dpkg() {
    dpkg --root="$work/root" --log=/dev/null --force-not-root --force-depends --force-script-chrootless "$@" > dpkg.log 2>&1 || {
        cat dpkg.log; exit 1; }
}
scratch_dpkg --install deb/*.deb
libdir=$(dirname "$(find "$work/root" -name libgptoss.so)")
test "$(readlink -f "$libdir/libgptoss.so")" = "$(readlink -f "$libdir/libgptoss.so.0")"
test -s "$libdir/cmake/gptoss/gptoss-config.cmake"
# shellcheck disable=SC2046
cc -std=c99 -D_POSIX_C_SOURCE=200809L consumers/c/consumer.c -o c-deb \
    $(PKG_CONFIG_PATH="$libdir/pkgconfig" pkg-config --cflags --libs gptoss)
same_tokens tokens packages "$tiny" "$source/tests/packaging/tokens.txt"
scratch_dpkg --remove libgptoss-dev libgptoss0
test -z "$(find root -name '*gptoss*' ! -path '*/var/*')"

step "All is well"
