#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A VM with hugepages=2048 and hugepages_shared=true on this machine's own pools:
# on pages added for it, beside an administrator's pages, and refused. Prints what
# the kernel says at each moment, checks it, and leaves everything as found.
#
# usage: demo.sh HUGEVMCTL (as root)
set -eu
ctl=$1
here=$(dirname "$0")
sys=/sys/kernel/mm/hugepages/hugepages-2048kB
work=$(mktemp -d)
run_pid=
mounted=
static=0
found=$(cat $sys/nr_hugepages)

clean_up() {
    if [ -n "$run_pid" ] && kill -TERM "$run_pid" 2>/dev/null; then
        wait "$run_pid" || true
    fi
    [ "$static" = 0 ] || echo "$found" >$sys/nr_hugepages
    if [ -n "$mounted" ]; then
        umount "$mounted"
        [ "$mounted_dir_was" = yes ] || rmdir "$mounted"
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

title() {
    printf '\n== %s\n' "$*"
}

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

pools() {
    printf '%-12s' "$1"
    for dir in /sys/kernel/mm/hugepages/hugepages-*kB; do
        printf '  %s: total %s, free %s' "${dir##*hugepages-}" "$(cat "$dir/nr_hugepages")" \
            "$(cat "$dir/free_hugepages")"
    done
    printf '\n'
}

expect() { # what, wanted, found
    [ "$2" = "$3" ] || fail "$1 should be $2, but is $3"
}

wait_for_vm() {
    tries=0
    until grep -q '^running:' "$work/out"; do
        kill -0 "$run_pid" 2>/dev/null || {
            run_pid=
            cat "$work/out" >&2
            fail 'the VM did not start'
        }
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || fail 'the VM took more than two minutes to start'
        sleep 0.1
    done
}

# The kernel's own account of QEMU's memory: mappings by page size.
prove() {
    qemu=$("$ctl" claims | sed -n 's/.*QEMU is process \([0-9]*\).*/\1/p')
    [ -n "$qemu" ] || fail 'no QEMU in the claims'
    echo "QEMU is process $qemu; /proc/$qemu/smaps has of mappings on 2 MiB pages:"
    # rw-s is a mapping that other processes can share; both counters are resident pages
    awk '/^[0-9a-f]+-[0-9a-f]+ / { rights = $2; file = $6 }
         /^KernelPageSize:/ { page = $2 }
         /^(Shared|Private)_Hugetlb:/ && page == 2048 && $2 > 0 {
             printf "  %s %s: %d kB\n", rights, file, $2 }' "/proc/$qemu/smaps" | tee "$work/smaps"
    expect 'shared memory on 2 MiB pages in kB' 262144 \
        "$(awk '$1 == "rw-s" { sum += $(NF - 1) } END { print sum + 0 }' "$work/smaps")"
}

run_vm() {
    pools before
    "$ctl" --conf "$work/on.conf" run "$here/vm.xml" --property hugepages=2048 \
        --property hugepages_shared=true >"$work/out" 2>&1 &
    run_pid=$!
    wait_for_vm
    pools during
    prove
    kill -INT "$run_pid"
    wait "$run_pid" || fail "hugevmctl run ended with status $?"
    run_pid=
    pools after
}

if ! grep -q ' hugetlbfs ' /proc/mounts; then
    mounted=/dev/hugepages
    mounted_dir_was=yes
    [ -d $mounted ] || mounted_dir_was=no
    mkdir -p $mounted
    mount -t hugetlbfs none $mounted
fi
printf '[performance]\nuse_dynamic_hugepages = true\n' >"$work/on.conf"
printf '[performance]\nuse_dynamic_hugepages = false\n' >"$work/off.conf"

title "A VM of 256 MiB on a pool of $found pages, dynamic allocation on"
run_vm
expect 'the pool' "$found" "$(cat $sys/nr_hugepages)"

title 'The same beside 50 more static pages of an administrator'
static=50
echo $((found + static)) >$sys/nr_hugepages
run_vm
expect 'the pool' $((found + static)) "$(cat $sys/nr_hugepages)"
echo "$found" >$sys/nr_hugepages
static=0

title 'The same with dynamic allocation off'
if [ "$(cat $sys/free_hugepages)" -ge 128 ]; then
    echo 'The pages that lie free in this pool are enough: nothing to refuse.'
    exit 0
fi
pools before
status=0
"$ctl" --conf "$work/off.conf" run "$here/vm.xml" --property hugepages=2048 \
    --property hugepages_shared=true || status=$?
expect 'the exit status' 1 "$status"
pools after
expect 'the pool' "$found" "$(cat $sys/nr_hugepages)"

title 'Done: every pool is as it was'
