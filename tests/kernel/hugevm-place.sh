#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with nodes of 512M, 0, 6G, 640M and 256M, the CPUs on the first two: pages come
# from where the VM may have them. Two pages of 1 GiB are on node 2 and eight of 2 MiB on node 4
# since boot. Each start is preceded by a dry run, whose need and steps are what the kernel shows.

. ./hugevm.sh
. ./planned.sh

booted=$(everything)

all_back() { # TEXT
    same "$1: every pool is as it was at boot" "$(everything)" "$booted"
    check "$1: nothing is in the ledger" ledger_is_empty
}

cell() { # NUMBER MIB
    echo "<cell id='$1' cpus='$1' memory='$2' unit='MiB'/>"
}

memnode() { # CELL NODES
    echo "<memnode cellid='$1' mode='strict' nodeset='$2'/>"
}

for n in $nodes; do
    say "node $n: CPUs '$(cat "/sys/devices/system/node/node$n/cpulist")'," \
        "$(node_kib "$n" MemTotal) KiB, $(growable_pages "$n") pages growable"
done
same "boot-time pages of 1 GiB are on node 2" "$(totals 1048576)" "0 0 2 0 0"
same "boot-time pages of 2 MiB are on node 4" "$(totals)" "0 0 0 0 8"

# ---- cells bound to nodes of unequal size

vm four 416 "<numatune><memory mode='strict' nodeset='0,2-4'/>
  $(memnode 0 0) $(memnode 1 2) $(memnode 2 3) $(memnode 3 4)</numatune>
  <cpu><numa>$(cell 0 64) $(cell 1 192) $(cell 2 128) $(cell 3 32)</numa></cpu>"
start_as_planned "four cells" four 2M:32@0 2M:96@2 2M:64@3 2M:16@4
same "four cells: each node has grown what its cell needs" "$(totals)" "32 0 96 64 16"
stop four
all_back "four cells"

vm either 256 "$(bound 0,3)"
start_as_planned "two nodes may serve" either 2M:128@0,3
stop either
all_back "two nodes may serve"

# More than either node has: both are needed, and no other. The first is filled to its brim, where
# the kernel may have a few pages less than the plan counted on: these come from the other.
pages=$((($(growable_pages 0) + $(growable_pages 3)) * 9 / 10))
vm both $((pages * 2)) "$(bound 0,3)"
plan both
same "two nodes have to serve: the plan has a step on each" \
    "$(plan_rows steps both.plan | sed 's/ .*//' | sort -n | one_line)" "0;3;"
host_up both before both.xml || sed 's/^/#   /' both.out
say "$(plan_rows steps both.plan | one_line) became $(totals)"
same "two nodes have to serve: all is on these" \
    "$(($(pool 0 nr_hugepages) + $(pool 3 nr_hugepages))) $(totals | cut -d ' ' -f 2,3,5)" \
    "$pages 0 0 8"
stop_planned both
all_back "two nodes have to serve"

# ---- pools from boot

vm boot4 16 "$(bound 4)"
start_as_planned "2 MiB pages from boot" boot4 2M:8@4
same "2 MiB pages from boot: nothing is grown" "$(totals)" "0 0 0 0 8"
stop boot4
all_back "2 MiB pages from boot"

vm elsewhere 16 "$(bound 3)"
start_as_planned "2 MiB pages from boot, on another node" elsewhere 2M:8@3
same "2 MiB pages from boot, on another node: they do not serve" "$(totals)" "0 0 0 8 8"
stop elsewhere
all_back "2 MiB pages from boot, on another node"

vm huge2 1024 "$(bound 2)" 1048576
start_as_planned "1 GiB pages from boot" huge2 1G:1@2
same "1 GiB pages from boot: nothing is grown" "$(totals 1048576)" "0 0 2 0 0"
stop huge2
all_back "1 GiB pages from boot"

vm huge3 1024 "$(bound 3)" 1048576
refused "1 GiB on a node that has none" huge3 "1 page of 1 GiB on node 3: 0 available"
same "1 GiB on a node that has none: the table has that node's figures" \
    "$(for key in wanted short total free; do plan_table 3 1048576 $key huge3.plan; done |
        one_line)" "1;1;0;0;"

# ---- nodes without memory or CPU

check "node 1 has a CPU and no memory" \
    [ "$(cat /sys/devices/system/node/node1/cpulist) $(node_kib 1 MemTotal)" = "1 0" ]
check "nodes 2 to 4 have no CPU" \
    [ -z "$(cat /sys/devices/system/node/node[234]/cpulist | tr -d '\n')" ]

vm nowhere 64 "$(bound 1)"
refused "bound to the node without memory" nowhere "host nodes without memory: 1" BAD_XML

vm cpuless 128 "$(bound 2)"
start_as_planned "bound to a node without CPU" cpuless 2M:64@2
stop cpuless
all_back "bound to a node without CPU"

# ---- two page sizes in one VM

two_sizes() { # NAME GIB PAGES - of 1 GiB and of 2 MiB, the small ones in the first cell
    vm "$1" $(($2 * 1024 + $3 * 2)) \
        "$(bound 2)<cpu><numa>$(cell 0 $(($3 * 2))) $(cell 1 $(($2 * 1024)))</numa></cpu>"
    sed -i "s|<hugepages>.*</hugepages>|<hugepages><page size='2048' unit='KiB' nodeset='0'/>\
<page size='1048576' unit='KiB' nodeset='1'/></hugepages>|" "$1.xml"
}

# Most of the node: were the small pages got first, the large one would find no place.
two_sizes sizes 3 $(($(growable_pages 2) - 512 - 100))
host $module $conf follow before sizes.xml vm "$(uuid_of sizes)" failed >sizes.order 2>&1
same "two sizes: the large pages are got first" \
    "$(sed -n 's/^progress: growing \(.*\) pages.*/\1/p' sizes.order | uniq | one_line)" \
    "1 GiB;2 MiB;"
all_back "two sizes, given up"
start_as_planned "two sizes, most of the node" sizes
stop_planned sizes
all_back "two sizes, most of the node"
two_sizes small_sizes 1 64
start_as_planned "two sizes" small_sizes 2M:64@2 1G:1@2
stop small_sizes
all_back "two sizes"

# ---- pages that are there once

set_pool 3 64
vm once 256 "<cpu><numa>$(cell 0 128) $(cell 1 128)</numa></cpu>"
start_as_planned "two floating cells, pages for one" once 2M:64 2M:64
same "two floating cells, pages for one: those for the other are grown" \
    "$(($(totals | tr ' ' '+')))" 128
stop once
same "two floating cells, pages for one: what was there is left" "$(totals)" "0 0 0 64 8"

vm mixed 256 "<numatune>$(memnode 0 3)</numatune><cpu><numa>$(cell 0 128) $(cell 1 128)</numa></cpu>"
start_as_planned "a bound and a floating cell" mixed 2M:64@3 2M:64
stop mixed
same "a bound and a floating cell: what was there is left" "$(totals)" "0 0 0 64 8"
sed -i 's/use_dynamic_hugepages = true/use_dynamic_hugepages = false/' $conf
refused "two floating cells, pages for one and no growth" once "128 pages of 2 MiB on any node: 72 available"
settings 'host_memory_floor = 0,0%'
set_pool 3 0
all_back "pages that are there once"

# ---- reserved pages

settings 'host_memory_floor = 0,0%' 'reserved = dpdk=size:2M,count:6,node:4'
vm part 16 "$(bound 4)"
start_as_planned "6 of node 4's 8 pages are reserved" part 2M:8@4
same "6 of node 4's 8 pages are reserved: 6 are grown" "$(totals)" "0 0 0 0 14"
stop part
all_back "6 of node 4's 8 pages are reserved"

# Two of the eight are in use by somebody else; the program of that name has some here, or elsewhere.
cp "$(command -v host)" ./dpdk-program
vm quarter 8 "$(bound 4)"
host $module $conf vm "$(uuid_of others)" map 2M:2@4 >others.out
start_as_planned "others use up nothing of what is reserved by name" quarter 2M:4@4
same "others use up nothing of what is reserved by name: all is grown" "$(totals)" "0 0 0 0 12"
stop quarter
set_pool 2 6
for part in 3@4 5@2; do
    ./dpdk-program $module $conf vm "$(uuid_of dpdk)" map 2M:$part >dpdk.out
    start_as_planned "the program has pages $part" quarter 2M:4@4
    same "the program has pages $part: all is grown" "$(totals)" "0 0 6 0 12"
    stop quarter
    gone_process "$(mapper_of dpdk)"
done
gone_process "$(mapper_of others)"
set_pool 2 0
./dpdk-program $module $conf vm "$(uuid_of dpdk)" map 2M:5@4 >dpdk.out
start_as_planned "of its six pages the program has five" quarter 2M:4@4
same "of its six pages the program has five: two are there" "$(totals)" "0 0 0 0 10"
stop quarter
gone_process "$(mapper_of dpdk)"
all_back "pages that are reserved by name"

settings 'host_memory_floor = 0,0%' 'reserved = size:2M,count:6'
vm loose 16
start_as_planned "6 of all pages are reserved" loose 2M:8
same "6 of all pages are reserved: 6 are grown" "$(($(totals | tr ' ' '+')))" 14
stop loose
all_back "6 of all pages are reserved"

settings 'host_memory_floor = 0,0%' 'reserved = size:1G,count:2,node:2'
start_as_planned "both 1 GiB pages from boot are reserved" huge2 1G:1@2
same "both 1 GiB pages from boot are reserved: one is grown" "$(totals 1048576)" "0 0 3 0 0"
stop huge2
all_back "both 1 GiB pages from boot are reserved"
settings 'host_memory_floor = 0,0%'

# ---- one node is used up

full=$(($(growable_pages 4) + 8 - 10))
vm full $((full * 2)) "$(bound 4)"
start_as_planned "almost all of node 4" full 2M:$full@4
vm late 64 "$(bound 4)"
beside=$(everything)
plan late
host $module $conf before late.xml >late.out 2>&1
answers "bound to the node that is used up" late.out \
    '^before: SHORTAGE: .*32 pages of 2 MiB on node 4: 0 available'
same "bound to the node that is used up: every pool is as it was" "$(everything)" "$beside"
same "bound to the node that is used up: its figures are the kernel's" \
    "$(for key in wanted total free; do plan_table 4 2048 $key late.plan; done | one_line)" \
    "32;$(pool 4 nr_hugepages);$(pool 4 free_hugepages);"
check "bound to the node that is used up: the table says who has its pages" \
    grep -q '"full"' late.plan
vm roams 64
start_as_planned "unbound, beside it" roams 2M:32
same "unbound, beside it: it did not grow there" "$(pool 4 nr_hugepages)" "$full"
stop roams
stop full
all_back "one node is used up"

# ---- the memory kept for the host

settings 'host_memory_floor = 0,50%'
part=$(($(node_kib 3 MemTotal) / 2048 * 3 / 4))
vm floor $((part * 2)) "$(bound 3)"
refused "into the host's share of its node" floor "$part pages of 2 MiB on node 3: .*kept for the host"
vm above $((part * 2))
start_as_planned "as large, unbound" above
same "as large, unbound: node 3 is above its floor" \
    "$(($(node_kib 3 MemFree) * 2 > $(node_kib 3 MemTotal)))" 1
stop_planned above
settings 'host_memory_floor = 0,0%'
all_back "memory kept for the host"
finish
