#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Gets a real kernel for the throwaway VM, without installing it.
#
#   fetch-kernel.sh DIR [PACKAGE]
#
# PACKAGE is a Debian kernel package or a metapackage that depends on one (default: the cloud
# kernel of the running release; a newer one needs its suite in apt's sources, and a DIR of its own).
# It is unpacked into DIR; the path of its vmlinuz is the only line on stdout. When DIR already has
# the kernel of that PACKAGE, nothing is downloaded: to get a newer one, remove DIR.
#
# Exit status: 0 done, 2 usage, 77 no kernel to be had here (the reason is on stderr).
set -eu

usage() {
    echo "usage: fetch-kernel.sh DIR [PACKAGE]" >&2
    exit 2
}

unavailable() {
    echo "fetch-kernel.sh: $*" >&2
    exit 77
}

# The first dependency of a package whose name starts with a prefix, or nothing.
dependency() {
    apt-cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: \($2[0-9][^ ]*\)$/\1/p" | head -n 1
}

# The versioned package: PACKAGE itself, or what the metapackage depends on.
image_package() {
    case $1 in
    linux-image-[0-9]*) echo "$1" ;;
    *) dependency "$1" linux-image- ;;
    esac
}

# Downloads a package into the current directory and unpacks it into tree/.
unpack() {
    apt-get -q -o APT::Sandbox::User=root download "$1" >&2 || unavailable "could not download $1"
    dpkg -x "$1"_*.deb tree || unavailable "could not unpack $1"
}

# Prints the newest vmlinuz under DIR, or nothing.
find_vmlinuz() {
    find "$1/boot" -maxdepth 1 -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -n 1
}

[ $# -ge 1 ] && [ $# -le 2 ] && [ -n "$1" ] || usage
dir=$1
package=${2:-linux-image-cloud-amd64}

vmlinuz=$(find_vmlinuz "$dir")
if [ -n "$vmlinuz" ]; then
    there=$(cat "$dir/package" 2>/dev/null || echo "$package")
    [ "$there" = "$package" ] || unavailable "$dir holds $there: use another directory for $package"
    echo "$vmlinuz"
    exit 0
fi

for tool in apt-get apt-cache dpkg; do
    command -v "$tool" >/dev/null || unavailable "$tool is not here: put a kernel at $dir/boot/vmlinuz-VERSION by hand"
done
image=$(image_package "$package")
[ -n "$image" ] || unavailable "apt knows no kernel under the name $package (is 'apt-get update' due?)"

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
new=$dir/new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$new"
# Newer packages keep the kernel in a linux-binary package that the image package depends on, and
# there as usr/lib/modules/VERSION/vmlinuz: it gets the older name.
(
    cd "$new"
    unpack "$image"
    binary=$(dependency "$image" linux-binary-)
    [ -z "$binary" ] || unpack "$binary"
    mkdir -p tree/boot
    for vmlinuz in tree/usr/lib/modules/*/vmlinuz; do
        [ ! -f "$vmlinuz" ] || mv "$vmlinuz" "tree/boot/vmlinuz-$(basename "$(dirname "$vmlinuz")")"
    done
) || exit
[ -n "$(find_vmlinuz "$new/tree")" ] || unavailable "$image has no boot/vmlinuz-*"

# Modules are under lib or usr/lib. boot comes last: with it, the directory counts as complete.
echo "$package" >"$dir/package"
for part in lib usr boot; do
    rm -rf "${dir:?}/$part"
    [ ! -d "$new/tree/$part" ] || mv "$new/tree/$part" "$dir/$part"
done
find_vmlinuz "$dir"
