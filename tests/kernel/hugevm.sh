# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the scenarios with hugevm's own binaries share: TAP points, pools, virtual machines. For
# busybox's sh in the throwaway VM; sourced, not run.
#
# The settings are in $conf, for the host program and hugevmctl alike. Nothing is kept for the host
# unless a scenario says so: a VM of half a GiB could give nothing with the built-in floor.

module=/usr/bin/hugevm.so
conf=/root/hugevm.conf
ledger=/run/hugevm/ledger.json
points=0
wanted= # what at_each_moment compares the pools with

settings() { # [LINE OF THE SECTION hugevm]...
    printf '[performance]\nuse_dynamic_hugepages = true\n[hugevm]\n' >$conf
    printf '%s\n' "$@" >>$conf
}
settings 'host_memory_floor = 0,0%'

# ---- TAP

point() { # STATUS TEXT
    points=$((points + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $points - $2"
    else
        echo "not ok $points - $2"
    fi
}

say() {
    echo "# $*"
}

check() { # TEXT COMMAND...
    text=$1
    shift
    "$@"
    point $? "$text"
}

same() { # TEXT SEEN WANTED
    [ "$2" = "$3" ]
    point $? "$1"
    say "  seen   $2"
    [ "$2" = "$3" ] || say "  wanted $3"
}

finish() {
    echo "1..$points"
    exit 0
}

# The last answer of a host program has a text in it.
answers() { # TEXT FILE PATTERN
    grep -q "$3" "$2"
    point $? "$1"
    sed 's/^/#   /' "$2"
}

now_ms() {
    awk '{ printf "%d", $1 * 1000 }' /proc/uptime
}

# ---- pools

nodes=$(find /sys/devices/system/node -name 'node[0-9]*' | sed 's/.*node//' | sort -n)

pool() { # NODE FILE [KIB]
    read -r pages <"/sys/devices/system/node/node$1/hugepages/hugepages-${3:-2048}kB/$2"
    echo "$pages"
}

set_pool() { # NODE PAGES [KIB]
    echo "$2" >"/sys/devices/system/node/node$1/hugepages/hugepages-${3:-2048}kB/nr_hugepages"
}

# These two run no program: a start of one costs more here than all the rest.
totals() { # [KIB]
    line=
    for n in $nodes; do
        read -r total <"/sys/devices/system/node/node$n/hugepages/hugepages-${1:-2048}kB/nr_hugepages"
        line="$line${line:+ }$total"
    done
    echo "$line"
}

# total/free/surplus of each node, and what is promised
pools() { # [KIB]
    line=
    for n in $nodes; do
        pool_dir=/sys/devices/system/node/node$n/hugepages/hugepages-${1:-2048}kB
        read -r total <"$pool_dir/nr_hugepages"
        read -r free <"$pool_dir/free_hugepages"
        read -r surplus <"$pool_dir/surplus_hugepages"
        line="$line$total/$free/$surplus "
    done
    read -r resv <"/sys/kernel/mm/hugepages/hugepages-${1:-2048}kB/resv_hugepages"
    echo "${line}resv $resv"
}

ledger_is_empty() { # nothing grown, no intent, no claim
    [ ! -e $ledger ] || ! grep -q '"node"\|"uuid"' $ledger
}

show_ledger() {
    say "  ledger $(tr -d ' \n' <$ledger)"
}

node_kib() { # NODE KEY OF MEMINFO
    awk -v key="$2:" '$3 == key { print $4 }' "/sys/devices/system/node/node$1/meminfo"
}

# The growable memory that hugevm sees on a node with a floor of 0, in pages of 2 MiB.
growable_pages() { # NODE
    low_kib=$(awk -v node="$1," '/^Node/ { here = $2 == node } here && $1 == "low" { sum += $2 * 4 }
        END { print sum }' /proc/zoneinfo)
    kib=$(($(node_kib "$1" MemFree) + $(node_kib "$1" 'Active(file)') +
        $(node_kib "$1" 'Inactive(file)') + $(node_kib "$1" SReclaimable) - low_kib))
    echo $((kib / 2048))
}

# ---- virtual machines

uuid_of() { # NAME
    echo "00000000-0000-4000-8000-$(printf %s "$1" | md5sum | cut -c 1-12)"
}

vm() { # NAME MIB [XML [KIB]]
    cat >"$1.xml" <<END
<domain type='qemu'>
  <name>$1</name>
  <uuid>$(uuid_of "$1")</uuid>
  <memory unit='MiB'>$2</memory>
  <memoryBacking><hugepages><page size='${4:-2048}' unit='KiB'/></hugepages></memoryBacking>
  <vcpu>2</vcpu>
  $3
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
</domain>
END
}

bound() { # NODE
    echo "<numatune><memory mode='strict' nodeset='$1'/></numatune>"
}

# A host program in the background, until it holds or has ended; its output is in NAME.out.
host_up() { # NAME WORD...
    name=$1
    shift
    : >"$name.out"
    host $module $conf "$@" hold >"$name.out" 2>&1 &
    echo $! >"$name.pid"
    until grep -q holding "$name.out" || ! kill -0 "$(cat "$name.pid")" 2>/dev/null; do
        usleep 20000
    done
    grep -q holding "$name.out"
}

host_down() { # NAME
    gone_process "$(cat "$1.pid")"
}

start() { # NAME PART... - a VM up to "started", its host alive
    start_name=$1
    shift
    host_up "$start_name" before "$start_name.xml" map "$@" started
}

mapper_of() { # NAME
    sed -n 's/^map: OK, process //p' "$1.out"
}

gone_process() { # PID - killed, and no more in memory
    # busybox's kill takes no number for 0: all of this script
    [ -n "$1" ] && kill -9 "$1" || return
    while [ -e "/proc/$1" ] && ! grep -q 'State:.Z' "/proc/$1/status" 2>/dev/null; do
        usleep 10000
    done
}

tell() { # NAME SLOT - by a host program of its own
    host $module $conf vm "$(uuid_of "$1")" "$2" >"$1.$2" 2>&1
}

# The VM ends, and its host, alive until then, says so.
stop() { # NAME
    gone_process "$(mapper_of "$1")"
    tell "$1" gone
    host_down "$1"
}

# Runs a host program that is killed before its N-th change to a file or a pool, for all N from
# FIRST on. PREPARE comes before each, and after each LOOK; then every pool shall be as $wanted
# says, and the ledger empty.
at_each_moment() { # TEXT FIRST PREPARE LOOK WORD...
    text=$1
    first=$2
    prepare=$3
    look=$4
    shift 4
    moment=$first
    wrong=0
    while $prepare && kill-at "$moment" host $module $conf "$@" >killed.out 2>&1; do
        left=$(pools)
        $look
        if [ "$(pools)" != "$wanted" ] || ! ledger_is_empty; then
            wrong=$((wrong + 1))
            say "moment $moment, $(cat killed.out): left $left, then $(pools), not $wanted"
            show_ledger
            repair
        fi
        moment=$((moment + 1))
    done
    same "$text: of $((moment - first)) moments, so many were not set right" $wrong 0
    check "$text: there were moments to try" [ $((moment - first)) -gt 7 ]
}

# So that one fault is not counted for all later moments too. To be replaced where the administrator
# has pages.
repair() {
    rm -rf /run/hugevm
    for n in $nodes; do
        set_pool "$n" 0
    done
}

# As an administrator who looks at the pools.
status() {
    hugevmctl --conf $conf status >status.out 2>&1
}

# Memory that is free but scattered; until `mend`.
scatter() { # MIB KEEP [pin] [NODE]
    : >scatter.out
    fragment "$@" >scatter.out 2>&1 &
    scatter_pid=$!
    until grep -q . scatter.out || ! kill -0 "$scatter_pid" 2>/dev/null; do
        usleep 20000
    done
    grep -q ready scatter.out || say "fragment: $(cat scatter.out)"
}

mend() {
    gone_process "$scatter_pid"
}
