#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Starts that leave page sizes or the node to hugevm: what it chose is what QEMU has.

usage: test-sizes.py HUGEVMCTL HUGEVM.SO [WORD]

Through all doors: hugevmctl run, VDSM's hook, libvirt's hook, which cannot edit the XML. This
machine has one node, so that bind_unbound has its say on a fixture tree, and libvirt on its XML.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys

import harness
from harness import (DYNAMIC, G1, M2, STATIC, check, holds, hugetlbfs_of, pools, pools_become, read,
                     same, set_total, write)
from hugevm_host import Host as InProcessHost
from libvirt_host import huge, one_line, property_of
from vdsm_host import PASSED, Vm, is_one_line, libvirtd, main, silent, vdsm

MIB = 1024  # KiB
NORMAL = 0  # size_kib of "chosen"
TWO_PAGES = [f"<page size='{size}' unit='KiB' nodeset='{cell}'/>"
             for cell, size in enumerate((G1, M2))]
MAKE_TREE = os.path.join(os.path.dirname(os.path.abspath(sys.argv[1])), "../tests/host/make-tree")
TWO_NODES = """arch x86_64
mem available=16777216 default=2048
size 2048
size 1048576
node 0 total=8388608 free=8388608
node 1 total=8388608 free=8388608
pool 0 2048 total=512 free=512
pool 1 2048 total=100 free=100
pool 0 1048576 total=1 free=1
pool 1 1048576
"""


# --- VMs, and what their QEMU has -------------------------------------------------------------


def cells(*sizes_mib):  # one or two
    return "<cpu><numa>" + "".join(
        f"<cell id='{cell}' {cpus} memory='{mib}' unit='MiB'/>"
        for cell, (cpus, mib) in enumerate(zip(["cpus='0'", ""], sizes_mib))) + "</numa></cpu>\n"


def dimm(mib, cell):
    return (f"<memory model='dimm'><target><size unit='MiB'>{mib}</size><node>{cell}</node>"
            "</target></memory>")


def backends(pid):
    """Per memory backend on huge pages: page size and KiB that are there, as the kernel has it."""
    found, name, size = {}, None, 0
    for line in read(f"/proc/{pid}/smaps").splitlines():
        key, _, rest = line.partition(":")
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            match = re.search(r"qemu_back_mem\.(.+)\.\w{6}", line)  # .NAME.RANDOM
            name = match.group(1) if match else line.split(None, 5)[-1]
        elif key == "KernelPageSize":
            size = int(rest.split()[0])
        elif key.endswith("_Hugetlb") and int(rest.split()[0]) > 0:
            found[name] = (size, found.get(name, (0, 0))[1] + int(rest.split()[0]))
    return found


def chosen(bench, vm, value, conf):
    """What a dry run says: page size per guest cell."""
    plan = bench.json("plan", vm.path, "-p", f"hugepages={value}", conf=conf, status=0)
    return {row["cell"]: row["size_kib"] for row in plan["chosen"]}


def has(bench, vm, expected):
    """QEMU has these backends on huge pages and no others, and verify says the same."""
    same(backends(vm.qemu()), expected, "QEMU's memory on huge pages")
    report = bench.json("verify", vm.qemu(), status=0)
    pages = {}
    for size_kib, kib in expected.values():
        pages[size_kib] = pages.get(size_kib, 0) + kib // size_kib
    same({row["size_kib"]: row["pages"] for row in report["pages"]}, pages, "pages of verify")
    same(report["as_planned"], True if expected else None, "verdict of verify")


@contextlib.contextmanager
def running(bench, vm, value, conf):
    """A VM of hugevmctl run; a list that gets its stderr. All is back after it."""
    before, said = pools(), []
    process = bench.run_until_up(vm, conf=conf, hugepages=value)
    yield said
    said.append(bench.end(process, signal.SIGTERM)[1])
    pools_become(before)
    same(bench.claims(), [], "claims")


# --- hugevmctl run ----------------------------------------------------------------------------


def run_large(bench):
    """large gives 1 GiB to a cell and its DIMM, and 2 MiB to the cell that 1 GiB does not divide"""
    vm = bench.vm(memory_mib=2560, devices=dimm(1024, 0),
                  inside="<maxMemory slots='2' unit='MiB'>4096</maxMemory>"
                         f"<features><acpi/></features>{cells(1024, 512)}")
    conf = bench.conf(DYNAMIC)
    with hugetlbfs_of(G1):
        same(chosen(bench, vm, "large", conf), {0: G1, 1: M2}, "chosen")
        with running(bench, vm, "large", conf) as said:
            has(bench, vm, {"ram-node0": (G1, G1), "memdimm0": (G1, G1),
                            "ram-node1": (M2, 512 * MIB)})
    check("warning" not in said[0], f"large warns: {said[0]}")


def run_large_falls(bench):
    """of two cells that want one page of 1 GiB each, the one that finds none gets 2 MiB"""
    set_total(1, G1)
    set_total(512)
    vm = bench.vm(memory_mib=2048, inside=cells(1024, 1024))
    conf = bench.conf(STATIC)
    with hugetlbfs_of(G1):
        plan = chosen(bench, vm, "large", conf)
        same(sorted(plan.values()), [M2, G1], "chosen")
        with running(bench, vm, "large", conf):
            has(bench, vm, {f"ram-node{cell}": (size, G1) for cell, size in plan.items()})
            same(harness.free(M2) + harness.free(G1), 0, "free pages while it runs")


def run_without_mount(bench):
    """run does not choose a page size of which no hugetlbfs is mounted"""
    vm = bench.vm(memory_mib=1024)
    conf = bench.conf(DYNAMIC)
    same(chosen(bench, vm, "large", conf), {None: M2}, "chosen")
    with running(bench, vm, "large", conf):
        has(bench, vm, {"pc.ram": (M2, G1)})


def run_any_mixed(bench):
    """any gives normal pages, with a warning, to the cell for which there are no huge ones"""
    set_total(128)
    vm = bench.vm(memory_mib=512, inside=cells(256, 256))
    conf = bench.conf(STATIC)
    plan = chosen(bench, vm, "any", conf)
    same(sorted(plan.values()), [NORMAL, M2], "chosen")
    named = next(cell for cell, size in plan.items() if size == M2)
    with running(bench, vm, "any", conf) as said:
        has(bench, vm, {f"ram-node{named}": (M2, 256 * MIB)})
    holds(said[0], "hugevmctl: warning: ", f"guest cell {1 - named} gets normal pages")


def run_any_normal(bench):
    """any starts on normal pages, with a warning, where there are no huge ones; large does not"""
    vm = bench.vm(memory_mib=256)
    conf = bench.conf(STATIC)
    before = pools()
    same(chosen(bench, vm, "any", conf), {None: NORMAL}, "chosen")
    with running(bench, vm, "any", conf) as said:
        has(bench, vm, {})
        same((pools(), bench.claims()), (before, []), "pools and claims while it runs")
    holds(said[0], "hugevmctl: warning: the guest gets normal pages: hugepages=any")
    _, err = bench.end(bench.run(vm, conf=conf, hugepages="large"), status=1)
    holds(err, "wants 128 pages of 2 MiB", "128 short", "what to do: ")
    same(vm.qemu(), 0, "QEMU of a refused VM")
    same(pools(), before, "pools after the refusal")


# --- VDSM's hook ------------------------------------------------------------------------------


def vdsm_vm(bench, runner, value, inside="", **options):
    """As VDSM has it: the property is in the environment, and in the XML's metadata too."""
    return Vm(bench, runner, {"hugepages": value}, inside=inside + property_of(value, own=False),
              **options)


def is_accepted(bench, name, xml):
    """libvirt's schema and its parser take the XML; what it has made of it."""
    path = write(f"{bench.directory}/{name}-accepted.xml", xml)
    libvirtd().virsh("define", "--validate", path, status=0)
    try:
        return libvirtd().virsh("dumpxml", "--inactive", name, status=0).stdout
    finally:
        libvirtd().virsh("undefine", name, status=0)


@contextlib.contextmanager
def gigantic_for_libvirtd():
    """libvirtd looks for mounts when it starts, and never again."""
    try:
        with hugetlbfs_of(G1):
            libvirtd().restart()
            yield
    finally:
        libvirtd().restart()


def vdsm_two_sizes(bench):
    """through both hooks any gives each cell its size, in an XML that libvirt takes and starts"""
    before = pools()
    with gigantic_for_libvirtd():
        vm = vdsm_vm(bench, vdsm(bench), "any", memory_mib=1280, inside=cells(1024, 256))

        def launch(xml):
            holds(is_accepted(bench, vm.name, xml), *TWO_PAGES)
            vm.launch(xml)

        vm.start(launch)
        has(bench, vm.domain, {"ram-node0": (G1, G1), "ram-node1": (M2, 256 * MIB)})
        vm.destroy(vm.end)
        pools_become(before)
        same(bench.claims(), [], "claims")
        silent(vm.runner)


def vdsm_without_mount(bench):
    """through VDSM's hook a size whose hugetlbfs libvirtd does not know is none to choose"""
    before = pools()
    vm = vdsm_vm(bench, vdsm(bench), "large", memory_mib=1024)
    vm.start(vm.launch)
    holds(vm.xml, "<page size='2048' unit='KiB'/>")
    has(bench, vm.domain, {"pc.ram": (M2, G1)})
    vm.destroy(vm.end)
    pools_become(before)


def vdsm_mixed(bench):
    """through both hooks one cell on huge and one on normal pages is one claim of the first"""
    set_total(128)
    before = pools()
    vm = vdsm_vm(bench, vdsm(bench, STATIC), "any", memory_mib=512, inside=cells(256, 256))
    vm.start(vm.launch)
    named, = re.findall(r"<page size='2048' unit='KiB' nodeset='([01])'/>", vm.xml)
    has(bench, vm.domain, {f"ram-node{named}": (M2, 256 * MIB)})
    holds(vm.runner.log[0][2], f"guest cell {1 - int(named)} gets normal pages")
    vm.destroy(vm.end)
    pools_become(before)


def vdsm_normal(bench):
    """through both hooks any with no huge pages to be had starts, with one line to VDSM's log"""
    before = pools()
    vm = vdsm_vm(bench, vdsm(bench, STATIC), "any")
    vm.start(vm.launch)
    same(vm.xml, vm.before, "the XML")
    status, text = vm.runner.log[0][1:]
    same(status, PASSED, "the hook's status")
    is_one_line(text)
    holds(text, "warning", "the guest gets normal pages")
    has(bench, vm.domain, {})
    same((pools(), bench.claims()), (before, []), "pools and claims while it runs")
    vm.destroy(vm.end)
    pools_become(before)


def vdsm_comes_back(bench):
    """a VM that any has left on normal pages migrates in and is restored, and keeps no huge ones"""
    before = pools()
    vm = vdsm_vm(bench, vdsm(bench), "any")
    vm.migrate_in(lambda xml: same((pools(), bench.claims()), (before, []), "pools and claims"))

    def launch(xml):  # VDSM restores what was saved, whatever its first hook has made of it
        same((pools(), bench.claims()), (before, []), "pools and claims before it")
        vm.launch(xml)

    vm.restore(launch)
    has(bench, vm.domain, {})
    same((pools(), bench.claims()), (before, []), "pools and claims while it runs")
    vm.destroy(vm.end)
    pools_become(before)


# --- libvirt's hook ---------------------------------------------------------------------------


@contextlib.contextmanager
def defined(bench, vm):
    vdsm(bench)
    libvirtd().virsh("define", vm.path, status=0)
    try:
        yield
    finally:
        libvirtd().virsh("undefine", vm.name, status=0)


def libvirt_large(bench):
    """virsh start of a VM with large in its metadata and no <hugepages> says what to add"""
    vm = bench.vm(memory_mib=64, inside=property_of("large"))
    before = pools()
    with defined(bench, vm):
        said = libvirtd().virsh("start", vm.name, status=1).stderr
        one_line(said[said.index("hugevm: "):], "property hugepages", "cannot be edited here",
                 "what to do: add <memoryBacking><hugepages/></memoryBacking>")
        same((vm.qemu(), pools(), bench.claims()), (0, before, []), "QEMU, pools and claims")


def libvirt_large_bare(bench):
    """virsh start with large beside a bare <hugepages/> goes by the XML: the default size"""
    vm = huge(bench, inside=property_of("large"))
    before = pools()
    with defined(bench, vm):
        libvirtd().virsh("start", vm.name, status=0)
        has(bench, vm, {"pc.ram": (M2, 64 * MIB)})
        libvirtd().virsh("destroy", vm.name, status=0)
        pools_become(before)
        same(bench.claims(), [], "claims")


# --- what libvirt makes of the XML ------------------------------------------------------------


def edited_on_two_nodes(bench, vm, bind, properties):
    """The XML that a host with two nodes would start."""
    root = f"{bench.directory}/{vm.name}-root"
    lines = write(f"{bench.directory}/two-nodes.txt", TWO_NODES)
    subprocess.run([MAKE_TREE, lines, root], check=True)
    conf = bench.conf(f"{STATIC}[hugevm]\nbind_unbound = {bind}\n", "two-nodes.conf")
    host = InProcessHost(harness.module, [conf], root=root)
    try:
        return host.before_vm_start(vm.xml, properties).xml
    finally:
        host.close()


def libvirt_takes_the_xml(bench):
    """libvirt keeps what was added for sizes, sharing and the node, and starts a VM with that"""
    vdsm(bench)
    before = pools()
    for bind, mode in (("single-node", "strict"), ("prefer", "preferred")):
        numatune = f"<memory mode='{mode}' nodeset='0'/>"
        vm = bench.vm(memory_mib=1280, inside=cells(1024, 256))
        xml = edited_on_two_nodes(bench, vm, bind, {"hugepages": "large",
                                                    "hugepages_shared": "true"})
        accepted = is_accepted(bench, vm.name, xml)
        holds(accepted, *TWO_PAGES, numatune)
        same(accepted.count("memAccess='shared'"), 2, "shared cells")
        vm = bench.vm(memory_mib=256)
        xml = edited_on_two_nodes(bench, vm, bind, {"hugepages": "2M"})
        holds(is_accepted(bench, vm.name, xml), "<page size='2048' unit='KiB'/>", numatune)
        libvirtd().virsh("create", write(vm.path, xml), status=0)
        has(bench, vm, {"pc.ram": (M2, 256 * MIB)})
        libvirtd().virsh("destroy", vm.name, status=0)
        pools_become(before)


if __name__ == "__main__":
    sys.exit(main([
        run_large, run_large_falls, run_without_mount, run_any_mixed, run_any_normal,
        vdsm_two_sizes, vdsm_without_mount, vdsm_mixed, vdsm_normal, vdsm_comes_back,
        libvirt_large, libvirt_large_bare, libvirt_takes_the_xml,
    ]))
