#!/bin/sh
# Makes a folder with what the library and its programs need for Windows: cmake/mingw.sh FOLDER
#
# PCRE2 and cpp-httplib come from Debian's source packages, PCRE2 compiled; libraries of headers alone from the packages
# of this machine. What is there already stays.
set -eu
cd "$(dirname "$0")/.."
. cmake/packages.sh
mkdir -p "$1"
folder=$(realpath "$1")
[ ! -e "$folder/complete" ] || exit 0
# shellcheck disable=SC2086
install_packages $build_packages $windows_packages

# apt checks what it gets as it does for packages. The lists of sources are the folder's own; the system's stay as they are.
sources=$folder/sources
mkdir -p "$sources/lists/partial"
apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' \
    'Component: main' | sort -u > "$sources/sources.list"
apt_sources() {
    apt-get -qq -o Dir::Etc::sourcelist="$sources/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$sources/lists" -o APT::Sandbox::User=root "$@"
}
apt_sources update
(cd "$sources" && apt_sources source pcre2 cpp-httplib)
rm -r "$sources/lists"

cmake -S "$sources"/pcre2-*/ -B "$sources/pcre2" -G Ninja --toolchain "$PWD/cmake/mingw.cmake" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_INSTALL_PREFIX="$folder" -DCMAKE_C_COMPILER_LAUNCHER="${CCACHE:-}" -DPCRE2_SUPPORT_JIT=ON \
    -DPCRE2_BUILD_PCRE2GREP=OFF -DPCRE2_BUILD_TESTS=OFF > "$sources/log" || { cat "$sources/log" && exit 1; }
cmake --build "$sources/pcre2" --target install >> "$sources/log" || { cat "$sources/log" && exit 1; }
sed -i 's/^Libs:.*/Libs: -L${libdir} -lpcre2-8/' "$folder/lib/pkgconfig/libpcre2-8.pc"

cp "$sources"/cpp-httplib-*/httplib.h "$folder/include"
for name in vulkan vk_video volk.h volk.c nlohmann CLI doctest; do
    cp -r "/usr/include/$name" "$folder/include"
done
mkdir -p "$folder/share/cmake"
cp -r /usr/share/cmake/nlohmann_json /usr/share/cmake/CLI11 /usr/lib/cmake/doctest "$folder/share/cmake"
sed -i "s,\"/usr\",\"$folder\"," "$folder"/share/cmake/doctest/doctestTargets.cmake
touch "$folder/complete"
