#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Gets a real kernel for the throwaway VM, without installing it.
#
#   fetch-kernel.sh DIR [PACKAGE [SUITE]]
#
# PACKAGE is a Debian kernel package, a metapackage that depends on one, or the beginning of names
# as linux-image-6.12, of which the newest cloud kernel is meant (default: the cloud kernel of the
# running release). SUITE, as trixie-backports, is looked into on the mirror that apt is configured
# for; apt's sources and lists stay as they are. It is unpacked into DIR; the path of its vmlinuz is
# the only line on stdout. When DIR already has the kernel of that PACKAGE, nothing is downloaded: to
# get a newer one, remove DIR.
#
# Exit status: 0 done, 2 usage, 77 no kernel to be had here (the reason is on stderr, and in
# DIR/unavailable for whoever needs the kernel).
set -eu

usage() {
    echo "usage: fetch-kernel.sh DIR [PACKAGE [SUITE]]" >&2
    exit 2
}

unavailable() {
    echo "fetch-kernel.sh: $*" >&2
    mkdir -p "$dir"
    echo "$*" >"$dir/unavailable"
    exit 77
}

apt_options='-q -o APT::Sandbox::User=root'

# word splitting of the options is meant in these two
# shellcheck disable=SC2086
apt_get() {
    apt-get $apt_options "$@"
}

# shellcheck disable=SC2086
apt_cache() {
    apt-cache $apt_options "$@"
}

# Has apt look at one suite, and at nothing else, in a directory of its own. The archive key is
# that of the running release, which knows newer suites too.
use_suite() { # SUITE APT_DIRECTORY
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' \
        'Created-By: Packages' | sed -n "s/^$release main //p" | head -n 1)
    [ -n "$mirror" ] || unavailable "apt has no source for main of ${release:-this release}"
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e $key ] || key=
    mkdir -p "$2/lists/partial" "$2/cache/archives/partial"
    echo "deb ${key:+[signed-by=$key]} $mirror $1 main" >"$2/sources.list"
    apt_options="$apt_options -o Dir::Etc::sourcelist=$2/sources.list -o Dir::Etc::sourceparts=-
        -o Dir::State::lists=$2/lists -o Dir::Cache=$2/cache -o Acquire::Languages=none"
    apt_get -o APT::Update::Error-Mode=any update >&2 ||
        unavailable "the mirror of this machine has no suite $1, or is not reachable"
}

# The first dependency of a package whose name starts with a prefix, or nothing.
dependency() {
    apt_cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: \($2[0-9][^ ]*\)$/\1/p" | head -n 1
}

# The versioned package: PACKAGE itself, the newest one of that name's beginning, or what the
# metapackage depends on.
image_package() {
    case $1 in
    linux-image-[0-9]*-*) echo "$1" ;;
    linux-image-[0-9]*) apt_cache pkgnames "$1." | grep -e '-cloud-amd64$' | sort -V | tail -n 1 ;;
    *) dependency "$1" linux-image- ;;
    esac
}

# Downloads a package into the current directory and unpacks it into tree/.
unpack() {
    apt_get download "$1" >&2 || unavailable "could not download $1"
    dpkg -x "$1"_*.deb tree || unavailable "could not unpack $1"
}

# Prints the newest vmlinuz under DIR, or nothing.
find_vmlinuz() {
    find "$1/boot" -maxdepth 1 -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -n 1
}

[ $# -ge 1 ] && [ $# -le 3 ] && [ -n "$1" ] || usage
dir=$1
package=${2:-linux-image-cloud-amd64}
suite=${3-}

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
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
rm -f "$dir/unavailable"
new=$dir/new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$new"
[ -z "$suite" ] || use_suite "$suite" "$new/apt"
image=$(image_package "$package")
[ -n "$image" ] || unavailable "${suite:-apt (is 'apt-get update' due?)} knows no kernel under the name $package"

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
