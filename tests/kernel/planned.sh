# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Compares what `hugevmctl plan` says with what the kernel shows after the start: pools per node and
# size, and where the pages of the VM really are. For the scenarios; sourced after hugevm.sh.
#
# The parts that the VM maps are written in each scenario, not taken from the plan: a wrong need
# shall not be mapped as wrongly.

sizes=$(find /sys/kernel/mm/hugepages -name 'hugepages-*kB' | sed 's/.*-\([0-9]*\)kB/\1/' | sort -n)

# Pages in each pool, a line "node size_kib pages".
state() {
    for kib in $sizes; do
        for n in $nodes; do
            read -r total <"/sys/devices/system/node/node$n/hugepages/hugepages-${kib}kB/nr_hugepages"
            echo "$n $kib $total"
        done
    done
}

# Everything that a scenario has to leave as it was.
everything() {
    for kib in $sizes; do
        printf '%s KiB: %s; ' "$kib" "$(pools "$kib")"
    done
}

one_line() {
    tr '\n' ';'
}

# ---- the plan's JSON

# The rows of a section, a line "node size_kib pages action" each; a node that is not one is "any".
plan_rows() { # SECTION FILE
    awk -v section="\"$1\"" '
        /^  "/ { here = $1 == section }
        here && /" : / {
            key = $1
            gsub(/"/, "", key)
            sub(/.* : /, "")
            gsub(/[",]/, "")
            value[key] = $0 == "null" ? "any" : $0
        }
        here && /^    }/ { print value["node"], value["size_kib"], value["pages"], value["action"] }
    ' "$2"
}

# One figure of a pool's row in the plan's table; of another report, in the section named.
plan_table() { # NODE|null KIB KEY FILE [SECTION]
    awk -v node="$1" -v kib="$2" -v wanted="\"$3\"" -v section="\"${5:-table}\"" '
        /^  "/ { here = $1 == section }
        { gsub(/,$/, "") }
        here && $1 == "\"node\"" { row_node = $3 }
        here && $1 == "\"size_kib\"" { row_kib = $3 }
        here && $1 == wanted && row_node == node && row_kib == kib { print $3 }
    ' "$4"
}

# What state() shows once the plan's steps are done; reads what it shows now.
after_steps() { # FILE
    plan_rows steps "$1" >steps.rows
    awk '
        FILENAME == "steps.rows" && $4 == "grow" { add[$1 " " $2] += $3 }
        FILENAME == "steps.rows" && $4 == "demote" {
            add[$1 " " $2] -= $3
            add[$1 " 2048"] += $3 * $2 / 2048
        }
        FILENAME != "steps.rows" { print $1, $2, $3 + add[$1 " " $2] }
    ' steps.rows -
}

# Sums of "node size_kib pages" lines. A size of which some pages may be on any node is summed over
# all nodes: which of them served the bound needs cannot be told.
sums() {
    awk '
        { line[NR] = $1 " " $2; pages[NR] = $3; if ($1 == "any") floats[$2] = 1 }
        END {
            for (i = 1; i <= NR; i++) {
                split(line[i], part, " ")
                sum[(part[2] in floats ? "any" : part[1]) " " part[2]] += pages[i]
            }
            for (key in sum)
                print key, sum[key]
        }' | sort -k 2n -k 1
}

# ---- the VM

# Where a process has its huge pages, "node size_kib pages" each.
placed() { # PID
    awk '/ huge / {
        kib = 0
        for (i = 1; i <= NF; i++)
            if ($i ~ /^kernelpagesize_kB=/)
                kib = substr($i, 19)
        for (i = 1; i <= NF; i++)
            if ($i ~ /^N[0-9]+=/) {
                split(substr($i, 2), count, "=")
                print count[1], kib, count[2]
            }
    }' "/proc/$1/numa_maps"
}

# The dry run of a VM, in NAME.plan.
plan() { # NAME [PROPERTY=VALUE]
    hugevmctl --conf $conf plan --json ${2:+-p "$2"} "$1.xml" >"$1.plan" 2>"$1.plan.error"
}

# Starts a VM whose dry run has to tell the truth about pools and places. Without parts it is not
# mapped: touching much memory takes long here.
start_as_planned() { # TEXT NAME [PART]...
    text=$1
    vm_name=$2
    shift 2
    plan "$vm_name" || say "plan: $(cat "$vm_name.plan.error")"
    wanted_pools=$(state | after_steps "$vm_name.plan")
    if [ $# -gt 0 ]; then
        start "$vm_name" "$@"
    else
        host_up "$vm_name" before "$vm_name.xml"
    fi || sed 's/^/#   /' "$vm_name.out"
    say "$text: need $(plan_rows need "$vm_name.plan" | one_line)"
    say "$text: steps $(plan_rows steps "$vm_name.plan" | one_line)"
    same "$text: the pools are as planned" "$(state | one_line)" "$(echo "$wanted_pools" | one_line)"
    [ $# -gt 0 ] || return
    plan_rows need "$vm_name.plan" >need.rows
    mapper=$(mapper_of "$vm_name")
    # the lines of the need, with 0 pages, tell which sizes are summed over all nodes
    same "$text: its pages are where it needs them" \
        "$({ placed "${mapper:-self}"; awk '{ print $1, $2, 0 }' need.rows; } | sums | one_line)" \
        "$(sums <need.rows | one_line)"
}

# Ends what start_as_planned() has begun.
stop_planned() { # NAME
    if [ -n "$(mapper_of "$1")" ]; then
        stop "$1"
    else
        tell "$1" failed
        host_down "$1"
    fi
}

# The dry run and the start refuse in the same words, and nothing changes.
refused() { # TEXT NAME PATTERN [CODE]
    as_before=$(everything)
    plan "$2" && say "$1: the plan allows it"
    host $module $conf before "$2.xml" >"$2.out" 2>&1
    answers "$1" "$2.out" "^before: ${4:-SHORTAGE}: .*$3"
    # but for figures, as free memory is not the same from one moment to the next
    same "$1: the dry run says the same" \
        "$(sed -n 's/^  *"message" : "\(.*\)",$/\1/p' "$2.plan" | sed 's/[0-9][0-9]*/N/g')" \
        "$(sed -n 's/^before: [A-Z_]*: //p' "$2.out" | sed 's/[0-9][0-9]*/N/g')"
    same "$1: every pool is as it was" "$(everything)" "$as_before"
    check "$1: nothing is in the ledger" ledger_is_empty
}
