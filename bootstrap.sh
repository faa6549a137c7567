#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# ./bootstrap.sh demo       a real VM on real huge pages, before, during and after
# ./bootstrap.sh test       the whole test suite; HUGEVM_E2E=1 adds the tests that
#                           need root and use this machine's own pools
# ./bootstrap.sh sanitize   the tests that need no root, with ASan and UBSan
# ./bootstrap.sh build      only what the others need
#
# Installs missing packages (as root; else it names them), builds in build/. A
# second run installs and builds nothing. HUGEVM_MESON_ARGS goes to meson setup.
set -eu
cd "$(dirname "$0")"

# package:what it is for; the first column of each list decides what is installed
debian_packages='
  gcc libc6-dev meson ninja-build pkg-config
  libglib2.0-dev libjson-glib-dev libxml2-dev libvirt-dev
  libvirt-daemon-system libvirt-daemon-driver-qemu qemu-system-x86 passwd util-linux mount'
debian_test_packages='
  g++ binutils python3 python3-libvirt busybox-static cpio clang-format procps
  libvirt-clients libvirt-daemon sudo spin strace systemd golang-go e2fsprogs xz-utils
  openvswitch-switch-dpdk librte-mempool-ring23 librte-net-vhost23'
# Fedora and EL: written after their package lists, not tried here
dnf_packages='
  gcc meson ninja-build pkgconf-pkg-config
  glib2-devel json-glib-devel libxml2-devel libvirt-devel
  libvirt-daemon-driver-qemu qemu-kvm shadow-utils util-linux'
dnf_test_packages='
  gcc-c++ binutils python3 python3-libvirt busybox cpio clang-tools-extra procps-ng
  libvirt-client libvirt-daemon sudo spin strace systemd golang e2fsprogs xz
  openvswitch-dpdk dpdk'

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "bootstrap.sh: $*"
    exit 3
}

missing_debian() {
    for package in "$@"; do
        status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) || status=
        [ "$status" = 'install ok installed' ] || printf '%s ' "$package"
    done
}

missing_dnf() {
    for package in "$@"; do
        rpm -q --whatprovides "$package" >/dev/null 2>&1 || printf '%s ' "$package"
    done
}

# Installs what is missing of the packages given for Debian ($1) and for dnf ($2).
install_packages() {
    # word splitting of the lists is meant
    # shellcheck disable=SC2086
    if command -v apt-get >/dev/null; then
        missing=$(missing_debian $1)
        command='apt-get install -y --no-install-recommends'
    elif command -v dnf >/dev/null; then
        missing=$(missing_dnf $2)
        command='dnf install -y --setopt=install_weak_deps=False'
    else
        say 'bootstrap.sh: neither apt-get nor dnf here: what is needed must be there already'
        return 0
    fi
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || die "missing packages; as root: $command $missing"
    say "installing: $missing"
    # no daemon is to be started by an installation: the demo needs none
    if command -v apt-get >/dev/null; then
        apt-get update -q >/dev/null || say 'bootstrap.sh: apt-get update failed, trying without'
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $command -q $missing >/dev/null ||
            die "installing failed: $command $missing"
    else
        # shellcheck disable=SC2086
        $command -q $missing || die "installing failed: $command $missing"
    fi
}

# Sets up ($2..., once) and builds the directory $1.
build_in() {
    directory=$1
    shift
    # shellcheck disable=SC2086
    [ -f "$directory/build.ninja" ] ||
        meson setup "$directory" ${HUGEVM_MESON_ARGS-} "$@" >/dev/null || die 'meson setup failed'
    ninja -C "$directory" >"$directory/build.log" 2>&1 || {
        cat "$directory/build.log" >&2
        die 'the build failed'
    }
}

build() {
    install_packages "$debian_packages" "$dnf_packages"
    build_in build
}

# libvirt probes QEMU anew at every start, for a minute in all, where /dev/kvm is there but
# closed to QEMU's user; opened for the time of a run, as udev does it on a complete host.
open_kvm() {
    [ "$(id -u)" = 0 ] && [ -c /dev/kvm ] && getent group kvm >/dev/null || return 0
    case $(stat -c %a /dev/kvm) in
    *[67]? | *[67]) return 0 ;;
    esac
    kvm_was=$(stat -c '%u:%g %a' /dev/kvm)
    chgrp kvm /dev/kvm && chmod 660 /dev/kvm
}

kvm_was=
close_kvm() {
    [ -n "$kvm_was" ] || return 0
    chown "${kvm_was% *}" /dev/kvm && chmod "${kvm_was#* }" /dev/kvm
    kvm_was=
}

# dash runs the EXIT trap for an exit only, not for a signal
restore_at_exit() {
    trap close_kvm EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

demo() {
    build
    [ "$(id -u)" = 0 ] || die 'the demo starts VMs on huge pages: run it as root'
    restore_at_exit
    open_kvm
    sh tests/demo/demo.sh build/plugin/hugevmctl
}

# Debian 12's backports have the kernel of Debian 13, whose own follow the newest ones.
fetch_other_kernels() {
    for other in 6.12:bookworm-backports 7.2:trixie-backports; do
        version=${other%:*}
        sh tests/kernel/fetch-kernel.sh "build/kernel-$version" "linux-image-$version" \
            "${other#*:}" >/dev/null || say "bootstrap.sh: no kernel $version to boot"
    done
}

run_tests() {
    install_packages "$debian_packages $debian_test_packages" "$dnf_packages $dnf_test_packages"
    build
    # what the tests of the hooks install, into a mount namespace of theirs
    [ "${HUGEVM_E2E-}" != 1 ] || build_in build/host --prefix=/usr -Dvdsm=true -Dman=disabled -Dtests=false
    # the kernel for the throwaway VM; without it those tests say that they were skipped
    sh tests/kernel/fetch-kernel.sh build/kernel >/dev/null || say 'bootstrap.sh: no kernel to boot'
    [ "${HUGEVM_E2E-}" != 1 ] || fetch_other_kernels
    restore_at_exit
    open_kvm
    status=0
    meson test -C build --no-rebuild --print-errorlogs --timeout-multiplier 4 || status=$?
    python3 tests/summary.py build/meson-logs/testlog.json || status=1
    return "$status"
}

sanitize() {
    install_packages "$debian_packages $debian_test_packages" "$dnf_packages $dnf_test_packages"
    mkdir -p build
    build_in build/sanitize -Db_sanitize=address,undefined
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        meson test -C build/sanitize --no-rebuild --print-errorlogs --timeout-multiplier 4 \
        --suite unit --suite host --suite abi --suite fuzz
}

case ${1-} in
build) build ;;
demo) demo ;;
test) run_tests ;;
sanitize) sanitize ;;
*)
    say 'usage: ./bootstrap.sh demo|test|sanitize|build'
    exit 2
    ;;
esac
