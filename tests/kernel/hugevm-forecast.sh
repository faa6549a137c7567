#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with three nodes (640M, 512M, 4G): what `status` and `plan` forecast, compared
# with what hugevm then gets from the kernel. Node 1 is the one that is scattered.

. ./hugevm.sh

forecast() { # NODE [UNIT] - allocatable: the only pages there can be are grown
    hugevmctl --conf $conf status >status.out 2>&1
    awk -v node="$1" -v unit="${2:-MiB}" '$1 == node && $3 == unit { print $NF }' status.out
}

# A forecast is good if it is at most 10 % (and 3 pages) too high, which a start would stumble over,
# and at most 40 % too low. Memory of which half is in use is not among these: from one time to the
# next the kernel gets all of it together, or a quarter.
good() { # FORECAST GOT
    [ "$1" -le $(($2 * 110 / 100 + 3)) ] && [ "$1" -ge $(($2 * 60 / 100 - 3)) ]
}

# Through hugevm, all that memory allows on a node: what it got is in $got, also where it refused.
get() { # NAME NODE PAGES
    vm "$1" $(($3 * 2)) "$(bound "$2")"
    hugevmctl --conf $conf plan "$1.xml" >"$1.plan" 2>&1
    host $module $conf before "$1.xml" >"$1.out" 2>&1
    got=$(sed -n "s/.*node $2 gave \([0-9]*\) of.*/\1/p" "$1.out")
    if [ -z "$got" ]; then
        got=$(pool "$2" nr_hugepages)
        tell "$1" failed
    fi
}

compare() { # TEXT NAME NODE
    forecast=$(forecast "$3")
    memory=$(growable_pages "$3")
    get "$2" "$3" $((memory - 8))
    say "$1: memory $memory, forecast $forecast, got $got of $((memory - 8))"
    check "$1: never more is forecast than memory allows" [ "$forecast" -le $((memory + 2)) ]
    check "$1: what is forecast is had" good "$forecast" "$got"
}

empty=$(pools)

# ---- nothing in the way

compare "fresh node" fresh 0

# ---- scattered, but compaction mends it

for keep in 8 64; do
    scatter $(($(node_kib 1 MemFree) / 1024 * 9 / 10)) $keep 1
    compare "one of $keep pages in the way" movable$keep 1
    mend
done

# ---- an administrator who wants no compaction is told what is there without

scatter $(($(node_kib 1 MemFree) / 1024 * 9 / 10)) 8 1
with=$(forecast 1)
settings 'host_memory_floor = 0,0%' 'compact = false'
without=$(forecast 1)
say "with compaction $with, without $without"
check "without compaction less is forecast" [ "$without" -lt $((with / 2)) ]
settings 'host_memory_floor = 0,0%'
mend

# ---- scattered for good: no page of it can be moved

# After the others: having failed here, the kernel puts off compaction for a while.
scatter $(($(node_kib 1 MemFree) / 1024 * 9 / 10)) 64 pin 1
compare "pinned" pinned 1
check "pinned: that is much less than memory allows" [ "$forecast" -lt $((memory / 3)) ]
answers "pinned: the plan stands, and warns" pinned.plan 'node 1 is likely to give only about'
check "pinned: the plan stands" grep -q 'would be allowed' pinned.plan
vm beside 64
hugevmctl --conf $conf plan beside.xml >beside.plan 2>&1
check "pinned: a VM that may go elsewhere is not warned" sh -c \
    'grep -q "would be allowed" beside.plan && ! grep -q "likely" beside.plan'
mend

# ---- pages of 1 GiB

gib=$(forecast 2 GiB)
set_pool 2 100 1048576
got=$(pool 2 nr_hugepages 1048576)
again=$(forecast 2 GiB)
set_pool 2 0 1048576
say "1 GiB on node 2: forecast $gib, got $got; with these in the pool $again are allocatable"
check "1 GiB: no more is forecast than is had" [ "$gib" -le "$got" ]
check "1 GiB: a node that has nothing but free memory is likely to give some" [ "$gib" -gt 0 ]
same "1 GiB: nor is it forecast again" "$again" "$got"
same "1 GiB: a node without room for one has none" "$(forecast 1 GiB)" 0

same "every pool is as it was" "$(pools)" "$empty"
check "nothing is in the ledger" ledger_is_empty
finish
