#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with four unequal nodes: hugevm beside others who change the same pools. An
# administrator raises or lowers them while a VM runs, and another process lives on surplus pages.

. ./hugevm.sh

overcommit=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages

vm bound0 80 "$(bound 0)"
vm bound2 80 "$(bound 2)"

# Every pool is as the administrator wants it now, and hugevm has nothing left to give back.
left() { # TEXT POOLS
    status
    same "$1" "$(pools)" "$2"
    check "$1: nothing is in the ledger" ledger_is_empty
}

# ---- the administrator, between growth and release; 10 of his pages serve 40 of the VM

for case in "raises by 15|+15" "lowers by 8|-8" "lowers by 35|-35"; do
    text="${case%|*}"
    set_pool 0 10
    start bound0 2M:40@0
    same "node 0 has 10 pages, the VM needs 40" "$(totals)" "40 0 0 0"
    set_pool 0 $((40 + ${case#*|}))
    say "the administrator $text: $(pools)"
    stop bound0
    case $case in
    raises*) left "raises by 15: he has 25 afterwards" "25/25/0 0/0/0 0/0/0 0/0/0 resv 0" ;;
    # What he takes comes off the grown pages first.
    *by\ 8*) left "lowers by 8: he has his 10 afterwards" "10/10/0 0/0/0 0/0/0 0/0/0 resv 0" ;;
    *) left "lowers by 35, below what was his: he has the 5" "5/5/0 0/0/0 0/0/0 0/0/0 resv 0" ;;
    esac
    set_pool 0 0
done

# Before the VM maps them, the pages are free: lowering takes them away at once.
set_pool 0 10
host_up bound0 before bound0.xml
set_pool 0 4
say "the administrator lowers to 4 before the VM has mapped: $(pools)"
tell bound0 failed
host_down bound0
left "lowered before the VM mapped: he has his 4" "4/4/0 0/0/0 0/0/0 0/0/0 resv 0"
set_pool 0 0

# A raise on another node is none of hugevm's business.
start bound0 2M:40@0
set_pool 2 12
stop bound0
left "raised on another node: that stays" "0/0/0 0/0/0 12/12/0 0/0/0 resv 0"
set_pool 2 0

# The host is dead meanwhile: what the ledger does not know of shows in the pools alone.
set_pool 0 10
start bound0 2M:40@0
host_down bound0
set_pool 0 55
gone_process "$(mapper_of bound0)"
left "raised by 15 while no host lives: he has 25" "25/25/0 0/0/0 0/0/0 0/0/0 resv 0"
set_pool 0 0

# ---- another process on surplus pages

for where in 0 2; do
    echo 16 >$overcommit
    host $module $conf vm "$(uuid_of others)" map 2M:16@0 >others.out
    say "another process has 16 surplus pages on node 0: $(pools)"
    start bound$where 2M:40@$where
    say "a VM of 40 pages on node $where beside it: $(pools)"
    show_ledger
    same "the VM of 40 pages on node $where starts, no surplus is left" \
        "$(cat /sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages)" 0
    stop bound$where
    say "that VM is gone, the other process lives: $(pools)"
    show_ledger
    check "the other process keeps its pages" [ "$(pool 0 nr_hugepages)" -ge 16 ]
    echo 0 >$overcommit
    gone_process "$(mapper_of others)"
    say "the other process is gone too: $(pools)"
    left "after one look every pool is empty again" "0/0/0 0/0/0 0/0/0 0/0/0 resv 0"
    repair
done

# Killed at each moment after the claim's four: those of making surplus persistent and of growing.
surplus_user() {
    echo 16 >$overcommit
    host $module $conf vm "$(uuid_of others)" map 2M:16@0 >others.out
}
its_end() {
    status
    [ "$(pool 0 nr_hugepages)" -eq 16 ] || say "moment $moment: the other process has no 16 pages"
    echo 0 >$overcommit
    gone_process "$(mapper_of others)"
    status
}
wanted="0/0/0 0/0/0 0/0/0 0/0/0 resv 0"
at_each_moment "killed beside surplus" 5 surplus_user its_end before bound2.xml
tell bound2 failed
its_end
left "the one that was not killed, given up" "$wanted"

# A VM whose administrator lowered the pool under it is surplus itself; a second VM pins it.
start bound0 2M:40@0
set_pool 0 0
say "the pool is lowered to 0 under a running VM: $(pools)"
start bound2 2M:40@2
say "a second VM on node 2: $(pools)"
show_ledger
stop bound2
say "the second is gone: $(pools)"
stop bound0
left "both are gone: every pool is empty again" "0/0/0 0/0/0 0/0/0 0/0/0 resv 0"
finish
