#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with nodes as in hugevm-place.sh: how pages are got where free ones do not do.
# Larger pages are split, a growth over two nodes fails or is cancelled half-way, and a node is
# fragmented (fragment.c says how).

. ./hugevm.sh
. ./planned.sh

booted=$(everything)

all_back() { # TEXT
    same "$1: every pool is as it was at boot" "$(everything)" "$booted"
    check "$1: nothing is in the ledger" ledger_is_empty
}

small_pages() { # PAGES OF NODE 2, 1 GiB PAGES OF NODE 2 - all else as at boot
    echo "2048 KiB: 0/0/0 0/0/0 $1/$1/0 0/0/0 8/8/0 resv 0;" \
        "1048576 KiB: 0/0/0 0/0/0 $2/$2/0 0/0/0 0/0/0 resv 0; "
}

unsplit() {
    set_pool 2 0
    set_pool 2 2 1048576
}

# ---- splitting

vm small 128 "$(bound 2)"

settings 'host_memory_floor = 0,0%' 'demote = own'
start_as_planned "demote = own, nothing grown" small 2M:64@2
same "demote = own, nothing grown: the pages from boot are whole" "$(totals 1048576)" "0 0 2 0 0"
stop small
all_back "demote = own, nothing grown"

# A page that hugevm grew, of a VM whose host was killed before it had mapped.
vm huge 3072 "$(bound 2)" 1048576
host_up huge before huge.xml
host_down huge
same "demote = own: one page of 1 GiB has been grown" "$(totals 1048576)" "0 0 3 0 0"
plan small
same "demote = own: the plan is to split it" "$(plan_rows steps small.plan | one_line)" \
    "2 1048576 1 demote;"
host_up small follow before small.xml map 2M:64@2 started
check "demote = own: it is split" grep -q '^progress: splitting 1 GiB pages on node 2' small.out
same "demote = own: what the VM does not need of it is given back, with all that the dead one had" \
    "$(totals) $(totals 1048576)" "0 0 64 0 8 0 0 2 0 0"
same "demote = own: the VM's pages are where it needs them" \
    "$(placed "$(mapper_of small)" | one_line)" "2 2048 64;"
stop small
all_back "demote = own"

settings 'host_memory_floor = 0,0%' 'demote = any'
start_as_planned "demote = any" small 2M:64@2
same "demote = any: a page from boot has been split" "$(totals) $(totals 1048576)" \
    "0 0 512 0 8 0 0 1 0 0"
stop small
same "demote = any: the pieces are the administrator's" "$(everything)" \
    "$(small_pages 512 1)"
check "demote = any: nothing is in the ledger" ledger_is_empty
unsplit

# The kernel would split pages that are promised to others, who have not touched them yet.
for promised in 1 2; do
    host $module $conf vm "$(uuid_of other)" promise 1G:$promised >other.out
    start_as_planned "$promised of 2 are promised" small 2M:64@2
    same "$promised of 2 are promised: these are whole, and still promised" \
        "$(pools 1048576)" "0/0/0 0/0/0 $promised/$promised/0 0/0/0 0/0/0 resv $promised"
    stop small
    gone_process "$(sed -n 's/^promise: OK, process //p' other.out)"
    status
    unsplit
    all_back "$promised of 2 are promised"
done
settings 'host_memory_floor = 0,0%'

# ---- growth on two nodes, of which the second fails

two_nodes() { # NAME PAGES OF NODE 0, PAGES OF NODE 3
    vm "$1" $((($2 + $3) * 2)) "<numatune><memnode cellid='0' mode='strict' nodeset='0'/>
  <memnode cellid='1' mode='strict' nodeset='3'/></numatune>
  <cpu><numa><cell id='0' cpus='0' memory='$(($2 * 2))' unit='MiB'/>
  <cell id='1' cpus='1' memory='$(($3 * 2))' unit='MiB'/></numa></cpu>"
}

nodes_of_growth() { # FILE
    sed -n 's/^progress: growing 2 MiB pages on node \([0-9]*\),.*/\1/p' "$1" | uniq | one_line
}

set_pool 0 7
set_pool 3 3
before=$(everything)

# when all is there that the first node has to give
two_nodes cancelled 57 150
host $module $conf follow cancel-at 50 before cancelled.xml >cancelled.out 2>&1
answers "cancelled on the second node" cancelled.out '^before: CANCELLED: .* on node 3'
same "cancelled on the second node: the first had grown" "$(nodes_of_growth cancelled.out)" "0;3;"
same "cancelled on the second node: every pool is as it was" "$(everything)" "$before"
check "cancelled on the second node: nothing is in the ledger" ledger_is_empty

free_mib=$(($(node_kib 3 MemFree) / 1024))
scatter $((free_mib * 3 / 4)) 128 pin 3
two_nodes failed 57 $(($(growable_pages 3) - 20))
host $module $conf follow before failed.xml >failed.out 2>&1
answers "the second node falls short" failed.out '^before: SHORTAGE: node 3 gave [1-9][0-9]* of'
same "the second node falls short: the first had grown" "$(nodes_of_growth failed.out)" "0;3;"
same "the second node falls short: every pool is as it was" "$(everything)" "$before"
check "the second node falls short: nothing is in the ledger" ledger_is_empty
mend
set_pool 0 0
set_pool 3 0
all_back "growth on two nodes"

# ---- a fragmented node: one plain write, and hugevm, each from the same start

movable() {
    scatter $((free_mib * 3 / 4)) 2 3
    other_pid=
    ask=$(($(growable_pages 3) * 3 / 4))
}

# Some of what is asked for cannot be had by anybody, as half of the scattered pages are pinned.
partly() {
    scatter $((free_mib * 3 / 8)) 128 pin 3
    other_pid=$scatter_pid
    scatter $((free_mib * 3 / 8)) 2 3
    ask=$(($(growable_pages 3) * 7 / 8))
}

mend_all() {
    mend
    [ -z "$other_pid" ] || gone_process "$other_pid"
}

# The first growth in scattered memory gets more pages than any later one, whoever asks.
partly
set_pool 3 $ask
set_pool 3 0
mend_all

for kind in movable partly; do
    $kind
    asked=$ask
    set_pool 3 $asked
    plain=$(pool 3 nr_hugepages)
    set_pool 3 0
    mend_all
    $kind
    vm $kind $((asked * 2)) "$(bound 3)"
    before=$(everything)
    if host_up $kind before $kind.xml; then
        got=$asked
        same "$kind: the node has what was asked for" "$(pool 3 nr_hugepages)" $asked
        stop_planned $kind
    else
        got=$(sed -n "s/.*node 3 gave \([0-9]*\) of $asked pages.*/\1/p" $kind.out)
        answers "$kind: too few are refused, with what there was to have" $kind.out \
            "^before: SHORTAGE: node 3 gave [1-9][0-9]* of $asked pages of 2 MiB.*fragmented"
    fi
    # how many that are is the kernel's luck: reported, not asserted
    say "fragmented node: plain write $plain of $asked, hugevm ${got:-0} of $asked ($kind)"
    same "$kind: every pool is as it was" "$(everything)" "$before"
    check "$kind: nothing is in the ledger" ledger_is_empty
    mend_all
done
all_back "fragmented node"
finish
