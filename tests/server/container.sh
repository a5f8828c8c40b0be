#!/bin/sh
# Builds the Containerfile and asks the server in it. The base is a Debian 12 made from the mirror that apt is set up with
# here, so that no registry of images is asked. As root.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/cmake/packages.sh"
install_packages buildah debootstrap curl ca-certificates
work=$(mktemp -d "${TMPDIR:-/var/tmp}/gptoss-container.XXXXXX")
# Storage of its own, which no other image or container shares, and which needs nothing of the kernel.
image() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
finish() {
    kill "${server:-}" 2>/dev/null || true
    image rm --all >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | grep '/debian/*$' | head -n 1)
debootstrap --variant=minbase bookworm "$work/debian" "$mirror" >"$work/log" || { tail "$work/log"; exit 1; }
base=$(image from scratch)
image add --quiet "$base" "$work/debian" / >/dev/null
image commit --quiet "$base" gptoss-debian >/dev/null
image rm "$base" >/dev/null
rm -rf "$work/debian"

image build --isolation chroot --network host --quiet --pull-never --build-arg DEBIAN=localhost/gptoss-debian \
    -t gptoss-server "$root" >"$work/log" 2>&1 || { tail -n 40 "$work/log"; exit 1; }
container=$(image from --pull-never localhost/gptoss-server)
# Its entry point, with a port that nobody else has.
command=$(image inspect --type image --format '{{join .OCIv1.Config.Entrypoint " "}} {{join .OCIv1.Config.Cmd " "}}' gptoss-server)
# shellcheck disable=SC2086
image run --isolation chroot --network host "$container" -- $command --port 18080 >"$work/server" 2>&1 &
server=$!
for _ in $(seq 120); do
    curl -sf http://127.0.0.1:18080/health >/dev/null && break
    kill -0 $server 2>/dev/null || break
    sleep 1
done
answer=$(curl -s http://127.0.0.1:18080/v1/chat/completions -H "Content-Type: application/json" -d '{"messages":
    [{"role": "user", "content": "What is 15 × 23?"}], "reasoning_effort": "high"}')
echo "$answer"
case $answer in *"15 × 23 = 345."*) echo "1 passed, 0 failed" ;; *) cat "$work/server"; echo "0 passed, 1 failed"; exit 1 ;; esac
