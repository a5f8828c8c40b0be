#!/bin/sh
# Runs a command in another Debian: .ci/debian.sh SUITE CMD ...    SUITE: trixie (Mesa 25.0), forky (Mesa 26, glslang 16)
#
# The first call makes it in a folder, about a minute, outside the tree: ${XDG_CACHE_HOME:-~/.cache}/gptoss-SUITE; a later
# one uses it again, or makes it anew if it does not work. The command finds the tree at its own path and is root. Needs
# root, for chroot; packages come from the mirror that apt is set up with here.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
suite=$1
root=${XDG_CACHE_HOME:-$HOME/.cache}/gptoss-$suite

# Mounts of its own, which end with the command.
if [ "${GPTOSS_IN_NAMESPACE:-}" != yes ]; then
    exec unshare --mount --propagation private env GPTOSS_IN_NAMESPACE=yes sh "$tree/.ci/debian.sh" "$@"
fi
shift

mirror() { apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | grep '/debian/*$' | head -n 1; }

make() {
    echo "Making Debian $suite in $root" >&2
    . "$tree/cmake/packages.sh"
    install_packages debootstrap
    rm -rf "$root"
    mkdir -p "$root"
    # an older debootstrap does not know the suite by name: it is set up as unstable is
    debootstrap --variant=minbase "$suite" "$root" "$(mirror)" /usr/share/debootstrap/scripts/sid >&2
    # a mirror's snapshot of a moving suite may be past its validity date; two commands may install at once
    echo 'Acquire::Check-Valid-Until "false"; DPkg::Lock::Timeout "600";' > "$root/etc/apt/apt.conf.d/99ci"
    touch "$root/made"
}

# The stamp is the last thing that is written, so that what was interrupted is made again.
if [ ! -e "$root/made" ] || ! chroot "$root" apt-get --version >/dev/null 2>&1; then make; fi
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root$tree"
mount --bind "$tree" "$root$tree"
unset GPTOSS_IN_NAMESPACE
exec chroot "$root" env HOME=/root TMPDIR=/tmp sh -c 'cd "$0" && exec "$@"' "$tree" "$@"
