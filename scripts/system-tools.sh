#!/bin/sh
# Installs, as root on Debian or Ubuntu, the system tools that the tests use and this machine lacks.
# Elsewhere it says in one line what is missing; the tests that need it are then skipped.
set -u

PATH="$PATH:/usr/sbin:/sbin"

# command:packages, a comma between packages that belong together
tools='
dot:graphviz
bwrap:bubblewrap
busybox:busybox-static
dash:dash
dockerd:docker.io,runc
podman:podman,runc,crun,fuse-overlayfs,uidmap
chromium:chromium,fonts-dejavu-core
'

missing=
packages=
for line in $tools; do
    tool=${line%%:*}
    if ! command -v "$tool" >/dev/null 2>&1; then
        missing="$missing $tool"
        packages="$packages $(echo "${line#*:}" | tr , ' ')"
    fi
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    export DEBIAN_FRONTEND=noninteractive
    echo "installing:$packages"
    apt-get -o DPkg::Lock::Timeout=300 update >"$log" 2>&1
    # The daemon is started by the tests themselves, never as a service.
    for package in $packages; do
        apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$package" >>"$log" 2>&1 ||
            { echo "apt-get could not install $package:"; tail -n 3 "$log"; }
    done
    # Newer Debian splits the docker command from its engine.
    if ! command -v docker >/dev/null 2>&1; then
        apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends docker-cli >>"$log" 2>&1
    fi
    still=
    for tool in $missing; do
        command -v "$tool" >/dev/null 2>&1 || still="$still $tool"
    done
    missing=$still
    remedy='apt-get could not install them'
else
    remedy="to install: apt-get install$packages"
fi
[ -z "$missing" ] || echo "not on this machine, so tests that need them are skipped:$missing ($remedy)"
