#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# In a throwaway VM with four unequal nodes, booted with hugepages=1:2 of 1 GiB: the boot-time pages
# are where the command line put them, and every fact holds beside other nodes.

count_1g() {
    cat "/sys/devices/system/node/node$1/hugepages/hugepages-1048576kB/nr_hugepages"
}

seen="$(count_1g 0) $(count_1g 1) $(count_1g 2) $(count_1g 3)"
if [ "$seen" = "0 2 0 0" ]; then
    echo "ok 1 - boot-time pages of 1 GiB are on the node that the command line names"
else
    echo "not ok 1 - boot-time pages of 1 GiB are on the node that the command line names"
fi
echo "#   seen     $seen"
echo "1..1"

for probe in probe-nodes probe-guard probe-surplus probe-launch probe-vault; do
    echo "# ==> $probe"
    "$probe"
done
exit 0
