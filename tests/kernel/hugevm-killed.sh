#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with four unequal nodes: whatever is killed, in whatever order, one look of an
# administrator later every pool is as it was.

. ./hugevm.sh

# Pages of the administrator's on two nodes: a baseline of 0 would hide a give-back of too much.
set_pool 0 7
set_pool 2 5
baseline=$(pools)
static=$(pools 1048576)

all_back() { # TEXT
    status
    same "$1: after one look every pool is as it was" "$(pools)" "$baseline"
    check "$1: nothing is in the ledger" ledger_is_empty
}

# Two cells on two nodes, of which the administrator's pages serve a part.
vm cells 112 "<numatune><memory mode='strict' nodeset='0,2'/>
  <memnode cellid='0' mode='strict' nodeset='0'/>
  <memnode cellid='1' mode='strict' nodeset='2'/></numatune>
  <cpu><numa><cell id='0' cpus='0' memory='48' unit='MiB'/>
  <cell id='1' cpus='1' memory='64' unit='MiB'/></numa></cpu>"
parts="2M:24@0 2M:32@2"

# ---- a VM, its host, or both are gone

start cells $parts
same "two cells: the administrator's pages are used, the rest is grown" "$(totals)" "24 0 32 0"
host_down cells
status
same "the host is killed: the VM runs on and keeps its pages" "$(pools)" \
    "24/0/0 0/0/0 32/0/0 0/0/0 resv 0"
gone_process "$(mapper_of cells)"
all_back "then the VM is killed"

start cells $parts
gone_process "$(mapper_of cells)"
status
same "the VM is killed, its host lives: its pages are free, and are given back" \
    "$(pools)" "$baseline"
same "and its claim is gone with it" "$(grep -c "$(uuid_of cells)" $ledger)" 0
tell cells gone
answers "the host's late word is taken" cells.gone '^gone: OK'
host_down cells
all_back "the host has said so"

start cells $parts
kill -9 "$(mapper_of cells)" "$(cat cells.pid)"
gone_process "$(mapper_of cells)" 2>/dev/null
all_back "VM and host are killed at once"

host_up cells before cells.xml
host_down cells
all_back "the host is killed between its decision and the VM"

# ---- the host is killed at each moment at which something is half done

repair() {
    rm -rf /run/hugevm
    set_pool 0 7
    set_pool 1 0
    set_pool 2 5
}

wanted=$baseline
at_each_moment "killed while it grows" 1 true status before cells.xml
tell cells failed
all_back "the start that was not killed, given up"

vm one 64
claimed() {
    host $module $conf before one.xml >claimed.out
}
at_each_moment "killed while it gives back" 1 claimed status vm "$(uuid_of one)" gone
all_back "the release that was not killed"

# ---- killed in the middle of a write to the pool

vm large 2400 "$(bound 1)"
caught=0
for late_us in 3000 30000; do
    # five writes come before: two copies of the ledger for the claim, two for the intent
    kill-at 9+$late_us host $module $conf before large.xml >killed.out 2>&1
    left=$(pool 1 nr_hugepages)
    say "$(cat killed.out): node 1 had $left pages"
    [ "$left" -gt 0 ] && caught=$((caught + 1))
    all_back "killed $late_us us into a write"
done
say "$caught of 2 left pages behind"
same "the pages of 1 GiB from boot are all there" "$(pools 1048576)" "$static"

# ---- killed while it splits a page of 1 GiB; the first four moments are those of the claim

# The page is the administrator's, and there is no way back: so its pieces stay his.
settings 'host_memory_floor = 0,0%' 'demote = any'
vm split 256 "$(bound 1)"
pieces="7/7/0 512/512/0 5/5/0 0/0/0 resv 0"
unsplit() {
    set_pool 1 0
    set_pool 1 2 1048576
}
look_at_split() {
    status
    wanted=$baseline
    [ "$(pool 1 nr_hugepages 1048576)" -eq 2 ] || wanted=$pieces
}
at_each_moment "killed while it splits" 5 unsplit look_at_split before split.xml
tell split failed
status
same "the split that was not killed, given up: the pieces are the administrator's" \
    "$(pools)" "$pieces"
same "and his other page of 1 GiB is whole" "$(totals 1048576)" "0 1 0 0"
check "and nothing is in the ledger" ledger_is_empty
finish
