#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""hugevmctl verify on real VMs: what it says of their memory is what the kernel says.

usage: test-verify.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import signal
import sys

import harness
from harness import (G1, M2, check, free, holds, hugetlbfs_of, main, pools, pools_become, qemu, read,
                     same, smaps_of_guest, total, until)
from hugevm_host import Host as InProcessHost

NEED = 128  # pages of 2 MiB for 256 MiB
CELLS = """  <numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune>
  <cpu><numa><cell id='0' cpus='0' memory='160' unit='MiB'/>
    <cell id='1' memory='96' unit='MiB'/></numa></cpu>
"""
MEMFD = "  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>\n"
GROWABLE = """  <maxMemory slots='2' unit='MiB'>1024</maxMemory>
  <numatune><memory mode='strict' nodeset='0'/></numatune>
  <cpu><numa><cell id='0' cpus='0' memory='256' unit='MiB'/></numa></cpu>
"""
VIRTIO_MEM = ("<memory model='virtio-mem'><target><size unit='MiB'>256</size><node>0</node>"
              "<block unit='MiB'>2</block><requested unit='MiB'>64</requested></target></memory>")


def verify(bench, target, status=0):
    return bench.json("verify", target, status=status)


def on_node_0(pages, size_kib=M2):
    return {"node": 0, "size_kib": size_kib, "pages": pages}


def texts(report):
    return [row["text"] for row in report["plan"]]


def ends_well(bench, process, before):
    bench.end(process, signal.SIGTERM)
    pools_become(before)


def two_cells(bench):
    """a VM of two cells is as planned, by its UUID, its name and its process, as is in smaps"""
    before = pools()
    vm = bench.vm(inside=CELLS)
    process = bench.run_until_up(vm)
    for target in (vm.uuid, vm.name, vm.qemu()):
        report = verify(bench, target)
        same(report["vm"], {"uuid": vm.uuid, "name": vm.name}, "VM")
        same((report["pid"], report["as_planned"]), (vm.qemu(), True), "process and verdict")
        same(report["pages"], [on_node_0(NEED)], "pages")
        same(report["mapped"], [{"size_kib": M2, "pages": NEED, "untouched": 0}], "mapped")
        same(report["unplanned"], [], "unplanned")
    same(sum(smaps_of_guest(vm.qemu(), M2)), NEED * M2, "KiB in smaps")
    text = bench.ctl("verify", vm.name, status=0).stdout
    holds(text, vm.uuid, "128 x 2 MiB on node 0", "node 0: 80 x 2 MiB, as planned",
          "any node: 48 x 2 MiB, as planned")
    ends_well(bench, process, before)


def memfd_and_1_gib(bench):
    """pages of 1 GiB in a shared memfd are found, and are no pages of 2 MiB"""
    with hugetlbfs_of(G1):
        before = pools()
        vm = bench.vm(memory_mib=1024, inside=MEMFD)
        process = bench.run_until_up(vm, hugepages=G1)
        report = verify(bench, vm.uuid)
        same(report["pages"], [on_node_0(1, G1)], "pages")
        same(texts(report), ["any node: 1 x 1 GiB, as planned"], "verdict")
        ends_well(bench, process, before)


def untouched(bench):
    """memory of virtio-mem that nobody has plugged is mapped, not touched, and not missing"""
    before = pools()
    vm = bench.vm(inside=GROWABLE, devices=VIRTIO_MEM)
    process = bench.run_until_up(vm)
    report = verify(bench, vm.uuid)
    same(report["pages"], [on_node_0(NEED)], "pages")
    same(report["mapped"], [{"size_kib": M2, "pages": 2 * NEED, "untouched": NEED}], "mapped")
    same(texts(report), [f"node 0: {NEED} of {NEED + 32} x 2 MiB planned; 32 not touched yet"],
         "verdict")
    same(report["as_planned"], True, "as planned")
    ends_well(bench, process, before)


def resident_kib(pid, size_kib):
    """What is there of the process's mappings of this size."""
    found, size = 0, 0
    for line in read(f"/proc/{pid}/smaps").splitlines():
        key, _, rest = line.partition(":")
        if key == "Size":
            size = int(rest.split()[0])
        elif key == "Rss" and size == size_kib:
            found += int(rest.split()[0])
    return found


def ignored_xml(bench):
    """a VM that its host starts on normal pages, whatever hugevm said, is not as planned"""
    before = pools()
    vm = bench.vm()
    host = InProcessHost(harness.module, conf_files=[bench.conf()])
    result = host.before_vm_start(vm.xml, {"hugepages": str(M2)})
    process = bench.start([qemu(), "-uuid", vm.uuid, "-S", "-nodefaults", "-display", "none",
                           "-machine", "q35,memory-backend=ram", "-m", "256", "-accel", "tcg",
                           "-object", "memory-backend-ram,id=ram,size=256M,prealloc=on"])
    until(lambda: resident_kib(process.pid, 256 * 1024) == 256 * 1024, "QEMU's memory")
    host.after_vm_start(result.uuid, result.generation, process.pid)
    report = verify(bench, vm.uuid, status=1)
    same((report["pages"], report["as_planned"]), ([], False), "pages and verdict")
    same(texts(report), [f"any node: 0 of {NEED} x 2 MiB planned; {NEED} missing"], "verdict")
    normal = report["normal"]
    check(normal["mapped_kib"] >= normal["present_kib"] >= 256 * 1024, f"normal pages: {normal}")
    check(all(row["node"] == 0 for row in normal["pages"]), f"nodes of normal pages: {normal}")
    err = bench.ctl("verify", vm.name, status=1).stderr
    holds(err, vm.uuid, "not where it was planned", "128 missing", "domain XML")
    same((total(), free()), (NEED, NEED), "pages that nobody uses")
    process.kill()
    process.wait()
    host.after_vm_destroy(result.uuid, result.generation)
    host.close()
    holds(bench.ctl("verify", process.pid, status=3).stderr, f"no process {process.pid}")
    pools_become(before)


def other_user(bench):
    """whoever is not root is told so, and not that anything is wrong"""
    vm = bench.vm()
    process = bench.run_until_up(vm)
    done = bench.ctl("verify", vm.uuid, status=3, user=65534, extra_groups=[])
    holds(done.stderr, f"/proc/{vm.qemu()}/numa_maps: Permission denied", "run it as root")
    same(done.stdout, "", "output")
    bench.end(process, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main([two_cells, memfd_and_1_gib, untouched, ignored_xml, other_user]))
