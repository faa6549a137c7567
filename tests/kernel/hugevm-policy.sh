#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with nodes of 640M, 384M, 6G and 192M, the CPUs on the first two, node 2 the
# nearest to node 1: VMs that prefer a node, or leave it or the page size to hugevm. Where the kernel
# then puts the pages is what was planned.

. ./hugevm.sh
. ./planned.sh

# Of page sizes to choose from those count for which libvirt would find a hugetlbfs.
for size in 2M 1G; do
    mkdir -p /dev/hugepages-$size
    mount -t hugetlbfs -o pagesize=$size none /dev/hugepages-$size
done

booted=$(everything)

all_back() { # TEXT
    same "$1: every pool is as it was at boot" "$(everything)" "$booted"
    check "$1: nothing is in the ledger" ledger_is_empty
}

tuned() { # MODE NODES
    echo "<numatune><memory mode='$1' nodeset='$2'/></numatune>"
}

pinned() { # NAME CPUS
    sed -i "s|<vcpu>|<vcpu cpuset='$2'>|" "$1.xml"
}

sizeless() { # NAME
    sed -i '/<memoryBacking>/d' "$1.xml"
}

# Per node, what a VM has, "node size_kib pages;" each.
placed_of() { # NAME
    mapper=$(mapper_of "$1")
    placed "${mapper:-self}" | sums | one_line
}

# What was grown is all that there is: nothing else can be where the VM is.
placed_as_grown() { # TEXT NAME
    same "$1: its pages are on the nodes that were to grow" "$(placed_of "$2")" \
        "$(plan_rows steps "$2.plan" | cut -d ' ' -f 1-3 | sums | one_line)"
}

# The parts that QEMU would map by a domain XML; a list of nodes or cells has no ranges.
parts_of() { # FILE
    awk -v RS='<' -v q="'" '
        function value(name) {
            return match($0, " " name "=" q "[^" q "]*") ?
                substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) : ""
        }
        function part(cell, mib) {
            kib = cell in page ? page[cell] : page["all"]
            if (kib > 0)
                print kib / 1024 "M:" mib * 1024 / kib policy
        }
        /^memory unit/ { sub(/.*>/, ""); memory = $0 + 0 }
        /^page / {
            n = split(value("nodeset"), cells, ",")
            for (i = 1; i <= n; i++)
                page[cells[i]] = value("size")
            if (n == 0)
                page["all"] = value("size")
        }
        /^memory mode/ {
            mode = value("mode")
            policy = "@" (mode == "strict" ? "" : mode ":") value("nodeset")
        }
        /^cell / { id[++n_cells] = value("id"); mib[n_cells] = value("memory") }
        END {
            for (i = 1; i <= n_cells; i++)
                part(id[i], mib[i])
            if (n_cells == 0)
                part("all", memory)
        }' "$1"
}

# Starts a VM, and maps what the XML says that the host got back, in NAME.given.
start_as_given() { # NAME [PROPERTY=VALUE]
    plan "$1" ${2:+"$2"} || say "plan: $(cat "$1.plan.error")"
    host_up "$1" follow xml "$1.given" before "$1.xml" ${2:+"$2"} || return
    parts=$(parts_of "$1.given")
    [ -n "$parts" ] || return
    say "$1: $(grep -o '<memory mode[^>]*>\|<page [^>]*>' "$1.given" | one_line) maps" $parts
    host $module $conf vm "$(uuid_of "$1")" map $parts started >>"$1.out" 2>&1
}

started() { # TEXT NAME
    grep -q '^started: OK' "$2.out"
    point $? "$1: it starts"
    grep -v '^progress' "$2.out" | sed 's/^/#   /'
}

given() { # TEXT NAME PATTERN
    tr -d '\n' <"$2.given" | sed 's/>  *</></g' | grep -q "$3"
    point $? "$1: the XML says so"
}

say "distances $(cat /sys/devices/system/node/node?/distance | one_line)"
for n in $nodes; do
    say "node $n: CPUs '$(cat "/sys/devices/system/node/node$n/cpulist")'," \
        "$(node_kib "$n" MemTotal) KiB, $(growable_pages "$n") pages growable"
done

# ---- preferred

vm prefers 128 "$(tuned preferred 3)"
start_as_planned "preferred" prefers 2M:64@preferred:3
same "preferred: the node has grown all" "$(totals)" "0 0 0 64"
placed_as_grown "preferred" prefers
stop prefers
all_back "preferred"

# Filled to its brim a node may have a few pages less than the plan counted on.
pages=$(($(growable_pages 3) + 40))
vm overflows $((pages * 2)) "$(tuned preferred 3)"
plan overflows
start overflows 2M:$pages@preferred:3
started "preferred, larger than the node" overflows
say "planned $(plan_rows steps overflows.plan | one_line) became $(totals)"
same "preferred, larger than the node: the plan fills it, and goes on where a CPU is" \
    "$(plan_rows steps overflows.plan | sed 's/ .*//' | one_line)" "3;1;"
same "preferred, larger than the node: its pages are where there are pages" \
    "$(placed_of overflows)" "$(state | awk '$3 > 0' | sort -k 1n | one_line)"
same "preferred, larger than the node: it has them all" "$(($(totals | tr ' ' '+')))" $pages
stop overflows
all_back "preferred, larger than the node"

# The pages are there, some of them where they are wanted.
set_pool 3 20
set_pool 1 100
vm helped 128 "$(tuned preferred 3)"
sed -i 's/use_dynamic_hugepages = true/use_dynamic_hugepages = false/' $conf
start_as_planned "preferred, without growth" helped 2M:64@preferred:3
same "preferred, without growth: the node gives all it has" "$(placed_of helped)" \
    "1 2048 44;3 2048 20;"
stop helped
settings 'host_memory_floor = 0,0%'
set_pool 1 0
set_pool 3 0
all_back "preferred, without growth"

# ---- interleave

vm even 128 "$(tuned interleave 0,3)"
start_as_planned "interleave over two" even 2M:64@interleave:0,3
same "interleave over two: the same on both" "$(totals)" "32 0 0 32"
placed_as_grown "interleave over two" even
stop even
all_back "interleave over two"

vm odd 130 "$(tuned interleave 0-2)"
start_as_planned "interleave over three" odd 2M:65@interleave:0,1,2
same "interleave over three: the remainder is on the first" "$(totals)" "22 22 21 0"
placed_as_grown "interleave over three" odd
stop odd
all_back "interleave over three"

set_pool 0 10
set_pool 1 100
vm lacks 128 "$(tuned interleave 0,1)"
sed -i 's/use_dynamic_hugepages = true/use_dynamic_hugepages = false/' $conf
start_as_planned "interleave, one node has too few" lacks 2M:64@interleave:0,1
same "interleave, one node has too few: the other helps" "$(placed_of lacks)" \
    "0 2048 10;1 2048 54;"
stop lacks
settings 'host_memory_floor = 0,0%'
set_pool 0 0
start_as_planned "interleave, one node has free pages" lacks 2M:64@interleave:0,1
same "interleave, one node has free pages: the other grows its share" "$(placed_of lacks)" \
    "0 2048 32;1 2048 32;"
stop lacks
set_pool 1 0
all_back "interleave, pages that are there"

vm each 128 "<numatune><memnode cellid='0' mode='preferred' nodeset='1'/>
  <memnode cellid='1' mode='interleave' nodeset='2-3'/></numatune>
  <cpu><numa><cell id='0' cpus='0' memory='48' unit='MiB'/>
  <cell id='1' cpus='1' memory='80' unit='MiB'/></numa></cpu>"
start_as_planned "a policy for each cell" each 2M:24@preferred:1 2M:40@interleave:2,3
same "a policy for each cell: each has its own nodes" "$(totals)" "0 24 20 20"
placed_as_grown "a policy for each cell" each
stop each
all_back "a policy for each cell"

# ---- near the CPUs

# Without the pin it would be on node 1, which has less to spare.
vm near 128
pinned near 0
start_as_planned "pinned to the CPU of node 0" near 2M:64
same "pinned to the CPU of node 0: it has grown there" "$(totals)" "64 0 0 0"
placed_as_grown "pinned to the CPU of node 0" near
stop near
all_back "pinned to the CPU of node 0"

settings 'host_memory_floor = 0,25%'
pages=$(($(growable_pages 1) + 20))
vm beyond $((pages * 2))
pinned beyond 1
plan beyond
start beyond 2M:$pages
started "pinned, larger than the node" beyond
say "planned $(plan_rows steps beyond.plan | one_line) became $(totals)"
same "pinned, larger than the node: the rest is on the nearest, not on one with CPUs" \
    "$(plan_rows steps beyond.plan | sed 's/ .*//' | one_line)" "1;2;"
same "pinned, larger than the node: its pages are where there are pages" \
    "$(placed_of beyond)" "$(state | awk '$3 > 0' | sort -k 1n | one_line)"
same "pinned, larger than the node: it has them all" "$(($(totals | tr ' ' '+')))" $pages
stop beyond
settings 'host_memory_floor = 0,0%'
all_back "pinned, larger than the node"

vm crossed 160 "<cputune><vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='0'/></cputune>
  <cpu><numa><cell id='0' cpus='0' memory='64' unit='MiB'/>
  <cell id='1' cpus='1' memory='96' unit='MiB'/></numa></cpu>"
start_as_planned "cells with pinned vCPUs" crossed 2M:32 2M:48
same "cells with pinned vCPUs: each has grown near its own" "$(totals)" "48 32 0 0"
stop crossed
all_back "cells with pinned vCPUs"

# ---- an unbound VM on several nodes

set_pool 0 40
set_pool 1 40
set_pool 3 40
before=$(everything)
vm roams 200
start_as_planned "unbound, on several nodes" roams 2M:100
hugevmctl --conf $conf status --json >status.json
same "unbound, on several nodes: status counts its pages where the kernel put them" \
    "$(for n in $nodes; do
        echo "$n $(plan_table "$n" 2048 claimed status.json pools)"
    done | one_line)" \
    "$(for n in $nodes; do
        echo "$n $(placed "$(mapper_of roams)" |
            awk -v node="$n" '$1 == node { sum += $3 } END { print sum + 0 }')"
    done | one_line)"
check "unbound, on several nodes: verify finds it as planned" \
    hugevmctl --conf $conf verify "$(uuid_of roams)"
stop roams
same "unbound, on several nodes: every pool is as it was" "$(everything)" "$before"
set_pool 0 0
set_pool 1 0
set_pool 3 0
all_back "unbound, on several nodes"

# ---- bind_unbound

settings 'host_memory_floor = 0,0%' 'bind_unbound = prefer'
vm drawn 128
start_as_given drawn
started "bind_unbound = prefer" drawn
given "bind_unbound = prefer" drawn "<memory mode='preferred' nodeset='1'/>"
same "bind_unbound = prefer: the node with the least to spare has grown" "$(totals)" "0 64 0 0"
placed_as_grown "bind_unbound = prefer" drawn
stop drawn
all_back "bind_unbound = prefer"

settings 'host_memory_floor = 0,0%' 'bind_unbound = single-node'
vm single 128
pinned single 0
start_as_given single
started "bind_unbound = single-node" single
given "bind_unbound = single-node" single "<memory mode='strict' nodeset='0'/>"
same "bind_unbound = single-node: the node of its CPU has grown" "$(totals)" "64 0 0 0"
placed_as_grown "bind_unbound = single-node" single
stop single
all_back "bind_unbound = single-node"

# Node 1 has the memory, by its amount.
scatter $(($(node_kib 1 MemFree) / 1024 * 3 / 4)) 128 pin 1
pages=$(($(growable_pages 1) - 20))
vm second $((pages * 2))
pinned second 1
start_as_given second
started "single-node, fragmented" second
same "single-node, fragmented: the plan was to have all on node 1" \
    "$(plan_rows steps second.plan | one_line)" "1 2048 $pages grow;"
given "single-node, fragmented: the nearest is the second choice" second \
    "<memory mode='strict' nodeset='2'/>"
same "single-node, fragmented: that node has grown, and no other" "$(everything)" \
    "2048 KiB: 0/0/0 0/0/0 $pages/0/0 0/0/0 resv 0; 1048576 KiB: 0/0/0 0/0/0 0/0/0 0/0/0 resv 0; "
same "single-node, fragmented: it is there" "$(placed_of second)" "2 2048 $pages;"
stop second
all_back "single-node, fragmented"

settings 'host_memory_floor = 0,0%' 'bind_unbound = prefer'
vm partly $((pages * 2))
pinned partly 1
start_as_given partly
started "prefer, fragmented" partly
given "prefer, fragmented" partly "<memory mode='preferred' nodeset='1'/>"
same "prefer, fragmented: its pages are where there are pages" \
    "$(placed_of partly)" "$(state | awk '$3 > 0' | sort -k 1n | one_line)"
same "prefer, fragmented: some on its node, the others on the nearest, and no more" \
    "$(($(pool 1 nr_hugepages) > 0)) $(($(pool 1 nr_hugepages) + $(pool 2 nr_hugepages)))" "1 $pages"
stop partly
all_back "prefer, fragmented"
settings 'host_memory_floor = 0,0%'

# ---- hugepages=large|any

vm normal $((pages * 2)) "$(bound 1)"
sizeless normal
start_as_given normal hugepages=any
same "any, on the fragmented node: by the figures there are huge pages" \
    "$(plan_rows steps normal.plan | one_line)" "1 2048 $pages grow;"
answers "any, on the fragmented node: it gets normal pages, with a warning" normal.out \
    '^before: warning: the guest gets normal pages'
check "any, on the fragmented node: the XML is as it was" cmp normal.xml normal.given
all_back "any, on the fragmented node"
host_down normal
mend

large() { # NAME
    vm "$1" 1088 "$(bound 2)<cpu><numa><cell id='0' cpus='0' memory='1024' unit='MiB'/>
  <cell id='1' cpus='1' memory='64' unit='MiB'/></numa></cpu>"
    sizeless "$1"
}

large sizes
start_as_given sizes hugepages=large
started "large" sizes
given "large" sizes \
    "<page size='1048576' unit='KiB' nodeset='0'/><page size='2048' unit='KiB' nodeset='1'/>"
same "large: each cell has its own size" "$(placed_of sizes)" "2 2048 32;2 1048576 1;"
placed_as_grown "large" sizes
stop sizes
all_back "large"

# Pinned pages wherever the node could have a page of 1 GiB: as long as there is such a place it is
# made the only free memory, and some of it is pinned.
scattered=
set_pool 2 1 1048576
while [ "$(pool 2 nr_hugepages 1048576)" -gt 0 ]; do
    set_pool 2 100000
    set_pool 2 0 1048576
    scatter 32 2 pin 2
    scattered="$scattered $scatter_pid"
    set_pool 2 0
    set_pool 2 1 1048576
done
say "1 GiB pages are prevented by processes$scattered;" \
    "$(node_kib 2 MemFree) of $(node_kib 2 MemTotal) KiB are free"
large falls
start_as_given falls hugepages=large
started "large, fragmented" falls
same "large, fragmented: the plan was to have 1 GiB" "$(plan_rows steps falls.plan | one_line)" \
    "2 1048576 1 grow;2 2048 32 grow;"
given "large, fragmented: both cells have small ones" falls \
    "<hugepages><page size='2048' unit='KiB'/></hugepages>"
same "large, fragmented: these are there" "$(placed_of falls)" "2 2048 544;"
same "large, fragmented: no other page has been left" "$(totals) $(totals 1048576)" \
    "0 0 544 0 0 0 0 0"
stop falls
for scatter_pid in $scattered; do
    mend
done
all_back "large, fragmented"
finish
