#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every slot from Python on a fixture tree, as any user: hugevm_host.py fits the module.

usage: test-python-host.py HUGEVM.SO MAKE-TREE TREES HUGEVM_HOST_DIRECTORY (TAP)
"""
import ctypes
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[4])
import hugevm_host  # noqa: E402
from hugevm_host import Host, HugevmError  # noqa: E402

UUID = "5f0c9a52-6c3d-4a55-9d0e-0a4f7a1c2b3d"
HUGE = {"hugepages": "2048"}
QEMU = 4242
DIMM = ("<memory model='dimm'><target><size unit='MiB'>32</size><node>0</node></target></memory>")
CELL = "<cpu><numa><cell id='0' cpus='0' memory='65536'/></numa></cpu>"


def domain(backing=""):
    return (f"<domain type='kvm'><name>example</name><uuid>{UUID}</uuid>"
            f"<memory unit='MiB'>64</memory>{backing}</domain>")


def same(found, expected, what):
    assert found == expected, f"{what}: {found!r} instead of {expected!r}"


def refused(code, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except HugevmError as error:
        same(error.code, code, f"code of '{error}'")
        return error
    raise AssertionError(f"the call succeeded, and should fail with code {code}")


class Tree:
    """A fixture tree in which this process lives, and a host that works on it."""

    def __init__(self, directory):
        self.root = pathlib.Path(tempfile.mkdtemp(dir=directory))
        subprocess.run([sys.argv[2], f"{sys.argv[3]}/one-node.txt", self.root], check=True)
        self.write(f"proc/{os.getpid()}/stat", pathlib.Path("/proc/self/stat").read_text())
        self.host = self.open()

    def open(self, **options):
        return Host(sys.argv[1], root=str(self.root), **{"name": "python test", **options})

    def write(self, path, text):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def claims(self):
        """(UUID, state, pages) of each claim, the VM's first."""
        ledger = json.loads((self.root / "run/hugevm/ledger.json").read_text())
        return [(claim["uuid"], claim["state"], sum(need["pages"] for need in claim["needs"]))
                for claim in ledger["claims"]]

    def run_qemu(self, pages=32):
        kib, begin = pages * 2048, 1 << 32
        self.write(f"proc/{QEMU}/stat", f"{QEMU} (qemu-system-x86) S" + " 0" * 18 + " 7 0\n")
        self.write(f"proc/{QEMU}/cmdline", f"/usr/bin/qemu-system-x86_64\0-uuid\0{UUID}\0")
        self.write(f"proc/{QEMU}/status",
                   f"Name:\tqemu\nUid:\t107\t107\nHugetlbPages:\t{kib} kB\n")
        self.write(f"proc/{QEMU}/smaps",
                   f"{begin:x}-{begin + kib * 1024:x} rw-p 00000000 00:1c 7 /dev/hugepages/a\n"
                   f"KernelPageSize: 2048 kB\nPrivate_Hugetlb: {kib} kB\nVmFlags: rd wr ht\n")

    def end_qemu(self):
        shutil.rmtree(self.root / f"proc/{QEMU}")

    def run_vm(self, xml=None, properties=None):
        result = self.host.before_vm_start(xml or domain(), properties or HUGE)
        self.host.vm_launching(UUID, result.generation)
        self.run_qemu()
        self.host.after_vm_start(UUID, result.generation)
        return result


def results(tree):
    """a result has XML, UUID, generation, plan and warnings"""
    result = tree.host.before_vm_start(domain(), {"hugepages": "7"})
    same((result.uuid, result.generation, result.xml_changed), (UUID, 1, True), "result")
    assert "<hugepages>" in result.xml and len(result.warnings) == 1, (result.xml, result.warnings)
    same(json.loads(result.json)["need"][0]["pages"], 32, "pages of the plan")
    tree.host.vm_start_failed(UUID, result.generation)
    same(tree.claims(), [], "claims")


def reserved(tree):
    """what a program has of the pages reserved for it is kept no second time"""
    tree.write("etc/hugevm/hugevm.conf", "[hugevm]\nreserved = ovs=size:2M,count:40,node:0\n")
    host = tree.open()
    error = refused(hugevm_host.SHORTAGE, host.before_vm_start, domain(), HUGE)
    assert "reserved for ovs, 0 of 40 in use" in error.message, error.message
    tree.write("proc/77/status", "Name:\tovs\nUid:\t0\t0\nHugetlbPages:\t81920 kB\n")
    tree.write("proc/77/comm", "ovs-vswitchd\n")
    (tree.root / "proc/77/exe").symlink_to("/usr/sbin/ovs-vswitchd")
    tree.write("proc/77/maps", "100000000-105000000 rw-s 00000000 00:1c 9 /dev/hugepages/rte\n")
    tree.write("proc/77/numa_maps", "100000000 default huge N0=40 kernelpagesize_kB=2048\n")
    row, = host.get_stats()["reserved"]
    same((row["used"], row["holders"][0]["pid"]), (40, 77), "of the statistics")
    host.before_vm_start(domain(), HUGE)
    same(tree.claims(), [(UUID, "claimed", 32)], "claims")
    host.close()


def every_slot(tree):
    """the table of slots is as long as the module's, and a slot that it lacks is no crash"""
    same(ctypes.sizeof(hugevm_host.Plugin), tree.host.plugin.size, "bytes")
    tree.host.plugin.plan = type(tree.host.plugin.plan)()
    refused(hugevm_host.NOT_SUPPORTED, tree.host.plan, domain())


def dry_run(tree):
    """plan changes nothing"""
    same(json.loads(tree.host.plan(domain(), HUGE).json)["refusal"], None, "refusal")
    same((tree.root / "run/hugevm").exists(), False, "whether there is a ledger")


def errors(tree):
    """an error has code, message and hint; the number of a wrong property is in the list"""
    error = refused(hugevm_host.BAD_PROPERTY, tree.host.plan, domain(), {"hugepages": "abc"})
    assert "abc" in error.message and "hugepages" in error.message, error.message
    refused(hugevm_host.INVALID_ARGUMENT, tree.host.after_vm_destroy, "no UUID")
    refused(hugevm_host.UNKNOWN_VM, tree.host.vm_launching, UUID)
    refused(hugevm_host.CONFLICT, tree.host.before_vm_start, domain(), HUGE,
            flags=hugevm_host.CANNOT_EDIT_XML)


def life(tree):
    """start and end: the claim runs while QEMU does, and is gone afterwards"""
    result = tree.run_vm()
    same(tree.claims(), [(UUID, "running", 32)], "claims while it runs")
    tree.end_qemu()
    tree.host.after_vm_destroy(UUID, result.generation)
    same(tree.claims(), [], "claims")


def incoming(tree):
    """migration: the VM comes in, and leaves again"""
    result = tree.host.before_vm_migrate_destination(domain(), HUGE)
    tree.host.after_vm_migrate_source(UUID, result.generation)
    same(tree.claims(), [(UUID, "claimed", 32)], "claims of the VM that is to come")
    tree.host.vm_launching(UUID, result.generation)
    tree.run_qemu()
    tree.host.after_vm_migrate_destination(UUID, result.generation, QEMU)
    same(tree.claims(), [(UUID, "running", 32)], "claims of the VM that has come")
    tree.end_qemu()
    tree.host.after_vm_migrate_source(UUID, result.generation)
    same(tree.claims(), [], "claims")


def foreign_page_size(tree):
    """an incoming VM's page size that this host lacks is replaced where that is configured"""
    xml = domain("<memoryBacking><hugepages><page size='16' unit='MiB'/></hugepages>"
                 "</memoryBacking>")
    same(tree.host.adapt_incoming_xml(xml), xml, "XML where nothing is configured")
    tree.write("etc/hugevm/hugevm.conf", "[hugevm]\nincoming_page_sizes = adapt\n")
    assert "size='2048' unit='KiB'" in tree.host.adapt_incoming_xml(xml)


def hibernation(tree):
    """a saved state: the VM's XML counts, and saving it ends the claim"""
    tree.host.before_vm_start(domain(), HUGE)
    same(tree.host.before_vm_dehibernate(domain()).generation, 0, "saved on normal pages")
    same(tree.claims(), [], "claims")
    saved = domain("<memoryBacking><hugepages/></memoryBacking>")
    result = tree.host.before_vm_dehibernate(saved)
    same((result.xml, result.xml_changed), (saved, False), "saved XML")
    tree.host.vm_launching(UUID, result.generation)
    tree.run_qemu()
    tree.host.after_vm_start(UUID, result.generation)
    tree.end_qemu()
    tree.host.after_vm_hibernate(UUID, result.generation)
    same(tree.claims(), [], "claims")


def memory_devices(tree):
    """memory devices: plugged, failed, unplugged"""
    refused(hugevm_host.BAD_XML, tree.host.before_memory_hotplug, UUID, "<disk/>")
    tree.run_vm(domain(CELL))
    plugged = tree.host.before_memory_hotplug(UUID, DIMM)
    same((plugged.xml, [pages for _, _, pages in tree.claims()]), (DIMM, [32, 16]), "claims")
    tree.host.memory_hotplug_failed(UUID, DIMM, plugged.generation)
    same(tree.claims(), [(UUID, "running", 32)], "claims after the failure")
    plugged = tree.host.before_memory_hotplug(UUID, DIMM, QEMU)
    tree.run_qemu(pages=48)
    for _ in range(2):
        tree.host.after_memory_hotplug(UUID, DIMM, plugged.generation)
        same(tree.claims(), [(UUID, "running", 48)], "claims with the device")
    tree.run_qemu(pages=32)
    tree.host.after_memory_hotunplug(UUID, DIMM)
    same(tree.claims(), [(UUID, "running", 32)], "claims without the device")


NIC = "<interface type='vhostuser'><mac address='52:54:00:00:00:07'/></interface>"


def other_devices(tree):
    """before_device_hotplug: what needs shared memory is refused for a VM whose is private"""
    look = tree.host.before_device_hotplug
    look(UUID, NIC)  # of a VM without claim nothing is known
    tree.run_vm(domain(CELL))
    before = tree.claims()
    said = refused(hugevm_host.CONFLICT, look, UUID, NIC).message
    assert "MAC '52:54:00:00:00:07'" in said and UUID in said, said
    look(UUID, "<interface type='bridge'/>")
    look(UUID, "<disk type='file'/>")
    refused(hugevm_host.BAD_XML, look, UUID, "<interface")
    refused(hugevm_host.INVALID_ARGUMENT, look, "no UUID", NIC)
    same(tree.claims(), before, "claims")


def reconciliation(tree):
    """reconcile: a claim of this host's name whose VM is not in the list goes"""
    tree.host.before_vm_start(domain(), HUGE)
    sequence = tree.host.reconcile_begin()
    tree.open(name="another").reconcile(sequence, [])
    tree.host.reconcile(sequence, [UUID])
    same(len(tree.claims()), 1, "claims that are in the list, or of another host")
    tree.host.reconcile(sequence, [])
    same(tree.claims(), [], "claims")


def reports(tree):
    """capabilities and statistics are documents about the host's pools"""
    same(tree.host.get_caps()["default_size_kib"], 2048, "default page size")
    same([pool["free"] for pool in tree.host.get_stats()["pools"]], [60, 1], "free pages")


def callbacks(tree):
    """progress may cancel, and cancels when it raises; the log says what was claimed"""
    tree.write("etc/hugevm/hugevm.conf", "[performance]\nuse_dynamic_hugepages = true\n")
    lines, big = [], domain().replace(">64<", ">400<")
    tree.host.on_log = lambda level, text: lines.append(text)
    tree.host.on_progress = lambda done, wanted, what: True
    refused(hugevm_host.CANCELLED, tree.host.before_vm_start, big, HUGE)
    tree.host.on_progress = lambda: None  # takes other arguments
    with open(os.devnull, "w", encoding="utf-8") as sys.stderr:
        refused(hugevm_host.CANCELLED, tree.host.before_vm_start, big, HUGE)
    sys.stderr = sys.__stderr__
    tree.host.on_progress = None
    tree.host.before_vm_start(domain(), HUGE)
    assert any(UUID in line for line in lines), lines


CASES = (every_slot, results, reserved, dry_run, errors, life, incoming, foreign_page_size,
         hibernation, memory_devices, other_devices, reconciliation, reports, callbacks)


def main():
    print(f"1..{len(CASES)}")
    for number, case in enumerate(CASES, 1):
        problem = None
        with tempfile.TemporaryDirectory(prefix="hugevm-python-") as directory:
            try:
                tree = Tree(directory)
                case(tree)
                tree.host.close()
            except Exception:
                problem = traceback.format_exc()
        print(f"{'not ok' if problem else 'ok'} {number} - {case.__doc__}", flush=True)
        for line in (problem or "").splitlines():
            print(f"# {line}")


if __name__ == "__main__":
    main()
