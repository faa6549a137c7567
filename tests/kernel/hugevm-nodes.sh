#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with four unequal nodes (512M, 6G, 640M, 256M; two pages of 1 GiB on node 1
# since boot): hugevm grows where the VM may have its pages, and nowhere else.

. ./hugevm.sh
. ./planned.sh

empty=$(pools)
static=$(pools 1048576)
for n in $nodes; do
    mib=$(($(node_kib "$n" MemFree) / 1024))
    say "node $n: $mib MiB free, $(growable_pages "$n") pages growable"
done
say "1 GiB: $static"

all_back() { # TEXT
    same "$1: every pool of 2 MiB is as it was" "$(pools)" "$empty"
    same "$1: the pages of 1 GiB from boot are all there" "$(pools 1048576)" "$static"
    check "$1: nothing is in the ledger" ledger_is_empty
}

# What verify says of a VM that runs, by its name and by its process, and with which status.
verified() { # TEXT NAME STATUS LINE...
    text=$1 name=$2 wanted_status=$3
    shift 3
    for target in "$name" "$(mapper_of "$name")"; do
        hugevmctl verify "$target" >verify.out 2>&1
        seen=$?
        missing=
        for line in "$@"; do
            grep -q "$line" verify.out || missing="$missing; no $line"
        done
        same "$text ($target)" "status $seen$missing" "status $wanted_status"
        sed 's/^/#   /' verify.out
    done
}

# ---- where pages are grown

vm bound2 128 "$(bound 2)"
start_as_planned "bound VM" bound2 2M:64@2
same "a VM bound to node 2 grows on node 2 only" "$(totals)" "0 0 64 0"
same "and its pages are in use there" "$(pools)" "0/0/0 0/0/0 64/0/0 0/0/0 resv 0"
stop bound2
all_back "bound VM"

vm free 128
start_as_planned "unbound VM" free 2M:64
same "an unbound VM grows on one node only" "$(totals | tr ' ' '\n' | grep -vx 0)" 64
stop free
all_back "unbound VM"

# Bound to node 3, more than it has: the other nodes' memory does not count.
vm full 256 "$(bound 3)"
host $module $conf before full.xml >full.out 2>&1
answers "a VM that is larger than its node is refused" full.out '^before: SHORTAGE: .* on node 3:'
all_back "refused VM"

# The floor: half of node 3 is the host's, so that half of the other half is still had.
settings 'host_memory_floor = 0,50%'
part=$(($(node_kib 3 MemTotal) / 2048 / 2))
vm floor $((part * 2)) "$(bound 3)"
host $module $conf before floor.xml >floor.out 2>&1
answers "a VM that reaches into the host's share of its node is refused" floor.out \
    '^before: SHORTAGE: .* on node 3:.*memory kept for the host'
all_back "floor"
settings 'host_memory_floor = 0,0%'

cells="<numatune><memory mode='strict' nodeset='0,2'/>
  <memnode cellid='0' mode='strict' nodeset='0'/>
  <memnode cellid='1' mode='strict' nodeset='2'/></numatune>
  <cpu><numa><cell id='0' cpus='0' memory='64' unit='MiB'/>
  <cell id='1' cpus='1' memory='96' unit='MiB'/></numa></cpu>"
vm cells 160 "$cells"
start_as_planned "two cells" cells 2M:32@0 2M:48@2
same "two cells on two nodes grow as much as each cell needs" "$(totals)" "32 0 48 0"
verified "and their memory is where it was planned" cells 0 \
    'node 0: 32 x 2 MiB, as planned' 'node 2: 48 x 2 MiB, as planned'
stop cells
all_back "two cells"

# A QEMU that has one cell's pages on the other's node: all of them, then a part.
set_pool 0 80
start cells 2M:32@0 2M:48@0
verified "a cell on another node than planned is told" cells 1 \
    'node 0: 32 x 2 MiB, as planned' 'node 2: 0 of 48 x 2 MiB planned; they are on node 0'
stop cells
start cells 2M:32@0 2M:20@2 2M:28@0
verified "so is a part of it" cells 1 'node 2: 20 of 48 x 2 MiB planned; 28 are on node 0'
stop cells
status
set_pool 0 0
all_back "misplaced cells"

# 32 pages are on node 0 then, and with the second number all 48 on node 2 as well.
for enough in 32 33; do
    host $module $conf cancel-at $enough before cells.xml >cells.out 2>&1
    answers "a host that cancels after $enough pages gets CANCELLED" cells.out '^before: CANCELLED: '
    all_back "cancelled after $enough pages"
done

# Three at once, of which two fit: whoever is refused takes and leaves nothing.
each=$(($(growable_pages 2) * 4 / 10))
for i in 1 2 3; do
    vm at-once$i $((each * 2)) "$(bound 2)"
    host $module $conf before at-once$i.xml hold >at-once$i.out 2>&1 &
    echo $! >at-once$i.pid
done
for i in 1 2 3; do
    until grep -q 'holding\|before: [A-Z]*: ' at-once$i.out; do
        usleep 20000
    done
done
say "$(cat at-once?.out | tr '\n' ' ')"
won=$(cat at-once?.out | grep -c holding)
say "of three at once, $won start"
check "no more start at once than fit" [ "$won" -le 2 ]
same "and they have their pages, nobody else" "$(totals)" "0 0 $((each * won)) 0"
for i in 1 2 3; do
    tell at-once$i failed
    host_down at-once$i 2>/dev/null
done
all_back "three at once"

# Free pages on another node are of no use to a bound VM.
set_pool 2 40
vm other 64 "$(bound 0)"
start_as_planned "free pages elsewhere" other 2M:32@0
same "free pages of node 2 do not serve a VM bound to node 0" "$(totals)" "32 0 40 0"
vm floats 32
host_up floats before floats.xml
same "a floating VM takes them, and nothing is grown" "$(totals)" "32 0 40 0"
stop other
host_down floats
status
set_pool 2 0
all_back "free pages elsewhere"

# ---- pages of 1 GiB

vm huge0 1024 "$(bound 0)" 1048576
host $module $conf before huge0.xml >huge0.out 2>&1
answers "1 GiB on node 0, which has no such piece, is refused" huge0.out '^before: SHORTAGE: '
all_back "1 GiB on node 0"

vm huge1 3072 "$(bound 1)" 1048576
start_as_planned "three pages of 1 GiB" huge1
same "three of them on node 1: two are there, one is grown" "$(totals 1048576)" "0 3 0 0"
tell huge1 failed
host_down huge1
all_back "1 GiB on node 1"

# An agent got a page of 1 GiB and is killed before its VM starts: the next VM has it, in pieces.
host_up huge1 before huge1.xml
host_down huge1
vm pieces 600 "$(bound 1)"
hugevmctl --conf $conf plan pieces.xml >plan.out 2>&1
answers "hugevm's own page of 1 GiB, left by a killed agent, is to be split" plan.out \
    'demote 1 x 1 GiB on node 1'
start pieces 2M:300@1
same "it is split for the VM, the administrator's two are not" "$(totals 1048576)" "0 2 0 0"
same "and what the VM does not need of it has gone back" "$(pools)" \
    "0/0/0 300/0/0 0/0/0 0/0/0 resv 0"
stop pieces
all_back "pieces"

# 2 MiB beside free 1 GiB pages: these are the administrator's, and stay in one piece.
pages=$(($(growable_pages 1) + 200))
vm split $((pages * 2)) "$(bound 1)"
host $module $conf before split.xml >split.out 2>&1
answers "free 1 GiB pages from boot are not split for a VM of 2 MiB pages" split.out 'SHORTAGE'
all_back "not split"

# ---- the planned node gives less

# Most of node 1 is in pages that are reserved for others; node 2 is scattered.
reserved=$(($(growable_pages 1) - $(growable_pages 2) * 6 / 10))
settings 'host_memory_floor = 0,0%' "reserved = size:2M,count:$reserved,node:1"
set_pool 1 $reserved
narrow=$(pools)
say "growable on node 1: $(growable_pages 1), on node 2: $(growable_pages 2); pools $narrow"
scatter $(($(node_kib 2 MemFree) / 1024 * 9 / 10)) 128 pin 2
say "scattered: growable on node 1: $(growable_pages 1), on node 2: $(growable_pages 2)"
ask=$(($(growable_pages 2) - 20))
vm moves $((ask * 2)) "<numatune><memory mode='preferred' nodeset='2'/></numatune>"
hugevmctl --conf $conf plan moves.xml >plan.out 2>&1
answers "the plan is to grow all on node 2" plan.out "grow $ask x 2 MiB on node 2"
start moves 2M:$ask
same "what node 2 cannot give comes from other nodes" \
    "$(($(totals | tr ' ' '+')))" $((ask + reserved))
say "pools $(pools)"
part=$(pool 2 nr_hugepages)
check "and node 2 has a part in it" [ "$part" -gt 0 -a "$part" -lt $ask ]
stop moves
same "after that VM every pool is as it was" "$(pools)" "$narrow"

few=$(($(growable_pages 0) + part / 2)) # more than either can give
vm several $((few * 2)) "<numatune><memory mode='strict' nodeset='0,2'/></numatune>"
host_up several before several.xml
same "of a VM that nodes 0 and 2 may serve, each gives what it can, and no other node" \
    "$(($(pool 0 nr_hugepages) + $(pool 2 nr_hugepages))) on two, $(pool 1 nr_hugepages) $(pool 3 nr_hugepages)" \
    "$few on two, $reserved 0"
say "pools $(pools)"
check "and both have a part in it" \
    [ "$(pool 0 nr_hugepages)" -gt 0 -a "$(pool 2 nr_hugepages)" -gt 0 ]
tell several failed
host_down several
same "after that VM, too, every pool is as it was" "$(pools)" "$narrow"

vm stays $((ask * 2)) "$(bound 2)"
host $module $conf before stays.xml >stays.out 2>&1
answers "the same VM bound to node 2 is refused" stays.out '^before: SHORTAGE: node 2 gave '
same "and every pool is as it was" "$(pools)" "$narrow"
check "and nothing is in the ledger" ledger_is_empty
mend
set_pool 1 0
all_back "scattered node"
finish
