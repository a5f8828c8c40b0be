# What the build needs from Debian 12 (or newer), in one place. POSIX sh, to be sourced:
#     . cmake/packages.sh && install_packages $build_packages $run_packages

build_packages="g++ cmake ninja-build pkgconf libvulkan-dev libvulkan-volk-dev glslang-tools spirv-tools
    nlohmann-json3-dev libpcre2-dev zlib1g-dev libcli11-dev libedit-dev
    libcurl4-openssl-dev libssl-dev"
# A Vulkan driver, with Mesa's software device for machines without a GPU; and whom a download may trust.
run_packages="libvulkan1 mesa-vulkan-drivers ca-certificates"
test_packages="doctest-dev vulkan-validationlayers ccache python3-numpy"
# The server (examples/server) is built where these are installed, and tested with the others and clients from npm.
server_packages="libcpp-httplib-dev"
# Programs for Windows are built by mingw-w64 (cmake/mingw.cmake), and run by Wine.
windows_packages="g++-mingw-w64-x86-64-posix libz-mingw-w64-dev dpkg-dev patch ccache"
windows_test_packages="wine64 wine xvfb zip unzip clang"
server_test_packages="chromium"
chat_test_packages="tmux"
batch_test_packages="python3-distributed python3-tqdm"
inspect_packages="python3-matplotlib"

# Installs those of the named packages that are missing, as root or with sudo. Without apt it says what to install.
install_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "There is no apt-get here. Provide what these Debian packages hold:$missing" >&2
        return 0
    fi
    as_root=
    if [ "$(id -u)" != 0 ]; then
        as_root=sudo
        if ! command -v sudo >/dev/null; then
            echo "Run this as root, or install these packages first:$missing" >&2
            return 1
        fi
    fi
    echo "Installing$missing" >&2
    # A source that can't be reached matters only if a package then can't be installed.
    $as_root apt-get -qq update >&2 || true
    # Another command may be installing something; apt waits for it.
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=600 --no-install-recommends \
        install $missing >&2
}
