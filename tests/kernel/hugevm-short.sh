#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with little memory on one node: what hugevm does when the kernel has the memory
# that was asked for, but not in one piece.

. ./hugevm.sh

# Asks twice from the same state: as an administrator with one write, and through hugevm.
plain_write() { # PAGES
    began=$(now_ms)
    set_pool 0 "$1"
    took=$(($(now_ms) - began))
    plain=$(pool 0 nr_hugepages)
    set_pool 0 0
    say "  plain write: asked $1, got $plain, in $took ms"
}

through_hugevm() { # NAME
    began=$(now_ms)
    host $module $conf before "$1.xml" >"$1.out" 2>&1
    result=$?
    say "  hugevm: exit $result, in $(($(now_ms) - began)) ms, total $(pool 0 nr_hugepages)"
}

memory=$(($(node_kib 0 MemFree) / 1024))
spread=$((memory * 3 / 4))
say "node 0 has $memory MiB free, of which $spread MiB get scattered"

# ---- pinned: not even compaction helps

# The first growth in scattered memory gets more pages than any later one, whoever asks: it is not
# counted.
scatter $spread 128 pin
set_pool 0 "$(growable_pages 0)"
set_pool 0 0
mend
scatter $spread 128 pin
ask=$(growable_pages 0)
plain_write "$ask"
mend
scatter $spread 128 pin
ask=$(growable_pages 0)
before=$(pools)
say "pinned: $ask pages are growable as far as the counters tell; pools $before"
vm short $((ask * 2 - 16))
ask=$((ask - 8))
hugevmctl --conf $conf plan short.xml >plan.out 2>&1
answers "the floor allows what the kernel will not have: the plan stands" plan.out \
    'would be allowed'
through_hugevm short
got=$(sed -n 's/.*node 0 gave \([0-9]*\) of.*/\1/p' short.out)
got=${got:-0}
say "  hugevm: asked $ask, got $got before it gave them back"
answers "the start is refused with SHORTAGE" short.out '^before: SHORTAGE: '
check "the message says node, pages got, pages asked and their size" \
    grep -q "node 0 gave [0-9]* of $ask pages of 2 MiB asked for" short.out
check "fewer pages were got than asked, and more than none" [ "$got" -gt 0 -a "$got" -lt $ask ]
same "every pool is as it was" "$(pools)" "$before"
check "the ledger has no growth, intent or claim" ledger_is_empty

# What the kernel can give, hugevm gets: half of what came before the refusal.
vm half $got
start half 2M:$((got / 2))
stop half
check "half as many pages are had and mapped" grep -q '^started: OK' half.out
same "after that VM the pool is as it was" "$(pools)" "$before"
mend

# ---- cancelled by the host, in a large growth

vm large $((memory / 2))
host $module $conf cancel-at 1 before large.xml >large.out 2>&1
answers "a host that cancels gets CANCELLED" large.out '^before: CANCELLED: '
same "and every pool is as it was" "$(pools)" "$before"
check "and nothing is in the ledger" ledger_is_empty

# ---- movable: compaction can mend it

# Half of these pages are handed back one by one, so that no huge page is left in one piece there.
scatter $spread 2
ask=$(($(growable_pages 0) * 3 / 4))
plain_write $ask
mend
scatter $spread 2
say "movable: $ask pages asked of $(growable_pages 0) that are growable"
vm movable $((ask * 2))
before=$(pools)
through_hugevm movable
if [ $result -eq 0 ]; then
    same "with movable pages in the way, hugevm has all that was asked" "$(totals)" $ask
    tell movable failed
else
    answers "with movable pages in the way, hugevm refuses with SHORTAGE" movable.out 'SHORTAGE'
fi
same "afterwards the pool is as it was" "$(pools)" "$before"
check "and nothing is in the ledger" ledger_is_empty
mend
finish
