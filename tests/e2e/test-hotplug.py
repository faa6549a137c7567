#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory of VMs that run: devices come and go under a real libvirtd, and the pages follow.

usage: test-hotplug.py HUGEVMCTL HUGEVM.SO [WORD]

libvirt has no hook for it, so these are the two ways that it goes: a manager reports each device
through the ABI, or nobody says anything. Firmware is guest enough to have a DIMM attached; to let
go of one, and for virtio-mem, a Linux runs in the VM (guest_linux.py).
"""

import os
import re
import signal
import sys
import time

import guest_linux
import harness
from harness import (G1, M2, STATIC, check, holds, is_alive, pools, pools_become, same,
                     set_total, smaps_of_guest, until, write)
from hugevm_host import SHORTAGE
from hugevm_host import Host as Manager
from hugevm_host import HugevmError
from libvirt_host import CONF, pages_now, recorded, run

VM_MIB, NEED = 128, 64  # of a VM's only guest cell, and its pages
MEMFD = "<hugepages/><source type='memfd'/><access mode='shared'/>"
DIMM_MIB, DIMM = 128, 64  # a DIMM that a guest onlines is a multiple of Linux's memory block
PLUG_S = 30


# --- VMs and devices --------------------------------------------------------------------------


def vm_of(bench, memory_mib=VM_MIB, backing="<hugepages/>", devices="", guest=None):
    """A VM with one guest cell, and slots for memory; guest: the files of a Linux."""
    inside = (f"<maxMemory slots='8' unit='MiB'>{1 << 14}</maxMemory>"
              f"<memoryBacking>{backing}</memoryBacking><features><acpi/></features>"
              f"<cpu><numa><cell id='0' cpus='0' memory='{memory_mib}' unit='MiB'/></numa></cpu>")
    vm = bench.vm(memory_mib=memory_mib, inside=inside, devices=devices)
    if guest is not None:
        vm.log = f"{bench.directory}/{vm.name}.log"
        vm.xml = guest_linux.boot(vm.xml, guest, vm.log, guest_linux.MEMORY)
        write(vm.path, vm.xml)
    return vm


def dimm(mib=DIMM_MIB, page_kib=M2):
    """page_kib None: that of its guest cell."""
    source = f"<source><pagesize unit='KiB'>{page_kib}</pagesize></source>" if page_kib else ""
    return (f"<memory model='dimm'>{source}<target><size unit='MiB'>{mib}</size><node>0</node>"
            "</target></memory>")


def virtio_mem(requested_mib):
    return ("<memory model='virtio-mem'><source><pagesize unit='KiB'>2048</pagesize></source>"
            "<target><size unit='MiB'>512</size><node>0</node><block unit='KiB'>2048</block>"
            f"<requested unit='MiB'>{requested_mib}</requested></target></memory>")


def attach(bench, host, vm, device, status=0):
    path = write(f"{bench.directory}/device.xml", device)
    return host.virsh("attach-device", vm.uuid, path, "--live", status=status)


def live_devices(host, vm):
    xml = host.virsh("dumpxml", vm.uuid, status=0).stdout
    return re.findall(r"<memory model=.*?</memory>", xml, re.DOTALL)


def detach(bench, host, vm):
    """Its only DIMM, as its live XML has it; until the guest has let go of it."""
    device, = live_devices(host, vm)
    path = write(f"{bench.directory}/device.xml", device)
    host.virsh("detach-device", vm.uuid, path, "--live", status=0)
    until(lambda: not live_devices(host, vm), "the guest to let go of the DIMM", PLUG_S, 0.1)
    return device


def manager():
    return Manager(harness.module, [CONF], name="manager")


def refusal_of(code, call, *arguments):
    try:
        call(*arguments)
    except HugevmError as error:
        same(error.code, code, f"code of '{error.message}'")
        return error.message
    check(False, "that should have been refused")
    return None


# --- what is there ----------------------------------------------------------------------------


def claimed(vm, kib=M2):
    """Pages that the VM's claim has, and those of memory devices beside it."""
    def pages_of(claims):
        return sum(need["pages"] for claim in claims for need in claim["needs"]
                   if need["size_kib"] == kib)

    claims = recorded()
    return (pages_of(claim for claim in claims if claim["uuid"] == vm.uuid),
            pages_of(claim for claim in claims if claim.get("device_of") == vm.uuid))


def has_pages(vm, total, free, claim, device=0):
    same((pages_now(), claimed(vm)), ((total, free), (claim, device)),
         "(total, free), (pages of the VM's claim, of its devices' claims)")


def finds_nothing(bench):
    found = bench.json("audit")["findings"]
    same(found, [], "findings of the audit")


def back_as_before(bench, before):
    pools_become(before)
    same(recorded(), [], "claims")
    finds_nothing(bench)


# --- reported ---------------------------------------------------------------------------------


def reported(bench, host):
    """a reported DIMM has its pages before it is plugged, and they go with the VM"""
    before, vm, hv = pools(), vm_of(bench), manager()
    qemu = host.start(vm)
    has_pages(vm, NEED, 0, NEED)
    plug = hv.before_memory_hotplug(vm.uuid, dimm())
    has_pages(vm, NEED + DIMM, DIMM, NEED, DIMM)
    finds_nothing(bench)
    attach(bench, host, vm, dimm())
    has_pages(vm, NEED + DIMM, 0, NEED, DIMM)
    for _ in range(2):
        hv.after_memory_hotplug(vm.uuid, dimm(), plug.generation)
        has_pages(vm, NEED + DIMM, 0, NEED + DIMM)
    same(sum(smaps_of_guest(qemu, M2)), (VM_MIB + DIMM_MIB) * 1024, "KiB on pages of 2 MiB")
    finds_nothing(bench)
    host.kill(vm)
    back_as_before(bench, before)
    hv.close()


def refused_by_libvirt(bench, host):
    """what libvirt does not plug is given back, by its generation and by its looks"""
    before, vm, hv = pools(), vm_of(bench), manager()
    too_much = dimm(1 << 15)
    host.start(vm)
    has_pages(vm, NEED, 0, NEED)
    plug = hv.before_memory_hotplug(vm.uuid, dimm())
    has_pages(vm, NEED + DIMM, DIMM, NEED, DIMM)
    attach(bench, host, vm, too_much, status=1)
    hv.memory_hotplug_failed(vm.uuid, dimm(), plug.generation)
    has_pages(vm, NEED, 0, NEED)
    hv.before_memory_hotplug(vm.uuid, dimm())
    hv.memory_hotplug_failed(vm.uuid, dimm(64))  # another one
    has_pages(vm, NEED + DIMM, DIMM, NEED, DIMM)
    hv.memory_hotplug_failed(vm.uuid, dimm())
    has_pages(vm, NEED, 0, NEED)
    host.destroy(vm)
    back_as_before(bench, before)
    hv.close()


def shortage(bench, host):
    """a device larger than the machine is refused before anything is taken, and the VM runs on"""
    before, vm, hv = pools(), vm_of(bench), manager()
    qemu = host.start(vm)
    during = pools(), recorded()
    said = refusal_of(SHORTAGE, hv.before_memory_hotplug, vm.uuid, dimm(1 << 20))
    holds(said, vm.name, "524288 pages of 2 MiB")
    host.conf(STATIC)
    refusal_of(SHORTAGE, hv.before_memory_hotplug, vm.uuid, dimm())
    same((pools(), recorded(), is_alive(qemu)), (*during, True), "pools, claims, QEMU")
    host.kill(vm)
    back_as_before(bench, before)
    hv.close()


AGENT = """
import os, sys, time
sys.path.insert(0, {here!r})
from hugevm_host import Host
Host({module!r}, [{conf!r}], name="manager").before_memory_hotplug({uuid!r}, {device!r})
print("done", flush=True)
time.sleep(60)
"""


def dies_after_before(bench, vm, device):
    """A manager that is killed when it has its pages."""
    text = AGENT.format(here=os.path.dirname(os.path.abspath(__file__)), module=harness.module,
                        conf=CONF, uuid=vm.uuid, device=device)
    process = bench.start([sys.executable, "-c", text])
    same(process.stdout.readline(), "done\n", "what the manager says")
    bench.end(process, signal.SIGKILL, -signal.SIGKILL)


def manager_killed(bench, host):
    """a manager that dies in the middle: what was plugged is claimed, the rest goes with the VM"""
    before, vm = pools(), vm_of(bench)
    host.start(vm)
    dies_after_before(bench, vm, dimm())
    bench.ctl("reconcile", status=0)
    has_pages(vm, NEED + DIMM, DIMM, NEED, DIMM)
    attach(bench, host, vm, dimm())
    bench.ctl("reconcile", status=0)
    has_pages(vm, NEED + DIMM, 0, NEED + DIMM)
    dies_after_before(bench, vm, dimm())
    bench.ctl("reconcile", status=0)
    has_pages(vm, NEED + 2 * DIMM, DIMM, NEED + DIMM, DIMM)
    host.kill(vm)
    back_as_before(bench, before)


# --- page sizes -------------------------------------------------------------------------------


def into_normal_pages(bench, host):
    """a DIMM on huge pages in a VM on normal ones is claimed, and goes with the VM"""
    set_total(3)
    before, vm, hv = pools(), vm_of(bench, backing="<nosharepages/>"), manager()
    host.start(vm)
    same(recorded(), [], "claims before")
    plug = hv.before_memory_hotplug(vm.uuid, dimm())
    has_pages(vm, DIMM, DIMM, 0, DIMM)
    attach(bench, host, vm, dimm())
    hv.after_memory_hotplug(vm.uuid, dimm(), plug.generation)
    has_pages(vm, DIMM, 0, DIMM)
    finds_nothing(bench)
    host.kill(vm)
    back_as_before(bench, before)
    hv.close()


def other_sizes(bench, host):
    """memfd: a DIMM without page size inherits its cell's, one on 1 GiB grows that pool"""
    before, hv = pools(), manager()
    vm = vm_of(bench, backing=MEMFD)
    qemu = host.start(vm)
    for device, pages in ((dimm(page_kib=None), ((NEED + DIMM, 0), (0, 0))),
                          (dimm(1024, G1), ((NEED + DIMM, 0), (1, 0)))):
        hv.before_memory_hotplug(vm.uuid, device)
        attach(bench, host, vm, device)
        hv.after_memory_hotplug(vm.uuid, device)
        same((pages_now(), pages_now(G1)), pages, "total and free of 2 MiB, of 1 GiB")
    same((claimed(vm), claimed(vm, G1)), ((NEED + DIMM, 0), (1, 0)), "claimed")
    same(sum(smaps_of_guest(qemu, G1)), G1, "KiB on pages of 1 GiB")
    finds_nothing(bench)
    host.destroy(vm)
    back_as_before(bench, before)
    hv.close()


# --- nobody says anything ---------------------------------------------------------------------


def unreported(bench, host):
    """a DIMM that nobody reports takes free pages, and the claim follows"""
    set_total(NEED + DIMM + 5)
    before, vm, other = pools(), vm_of(bench), vm_of(bench)
    host.start(vm)
    has_pages(vm, NEED + DIMM + 5, DIMM + 5, NEED)
    attach(bench, host, vm, dimm())
    has_pages(vm, NEED + DIMM + 5, 5, NEED)
    host.start(other)  # lacks pages, and so looks where they are
    has_pages(vm, 2 * NEED + DIMM, 0, NEED + DIMM)
    bench.ctl("reconcile", status=0)
    has_pages(vm, 2 * NEED + DIMM, 0, NEED + DIMM)
    host.kill(other)
    host.kill(vm)
    back_as_before(bench, before)


# --- with a Linux in the VM -------------------------------------------------------------------


def guest_files(bench):
    build = os.path.dirname(os.path.dirname(harness.ctl))
    return guest_linux.make_files(f"{build}/kernel", bench.directory, guest_linux.MEMORY)


def unplugged(bench, host):
    """an unplugged DIMM's pages go back, reported or not, although some are the kernel's already"""
    before, hv, need = pools(), manager(), 128
    vm = vm_of(bench, memory_mib=256, guest=guest_files(bench))
    host.start(vm)
    guest_linux.wait_ready(vm.log)
    has_pages(vm, need, 0, need)
    same(pools()[M2][2], need, "pages handed over to the kernel")
    for is_reported in (True, False):
        hv.before_memory_hotplug(vm.uuid, dimm())
        attach(bench, host, vm, dimm())
        hv.after_memory_hotplug(vm.uuid, dimm())
        has_pages(vm, need + DIMM, 0, need + DIMM)
        device = detach(bench, host, vm)
        if is_reported:
            hv.after_memory_hotunplug(vm.uuid, device)
            has_pages(vm, need, 0, need)
        else:
            drains_to(bench, vm, need)
    finds_nothing(bench)
    host.kill(vm)
    back_as_before(bench, before)
    hv.close()


def drains_to(bench, vm, pages):
    """QEMU lets go of a DIMM's memory a moment after libvirt has."""
    def is_done():
        bench.ctl("reconcile", status=0)
        return (pages_now(), claimed(vm)) == ((pages, 0), (pages, 0))

    until(is_done, f"{pages} pages to be claimed and no more", PLUG_S, 0.1)


def unplugged_elsewhere(bench, host):
    """an unplugged DIMM's pages go back from memfd, and from a VM that is else on normal ones"""
    set_total(3)
    before, hv, files = pools(), manager(), guest_files(bench)
    memfd = vm_of(bench, 256, MEMFD, guest=files)
    normal = vm_of(bench, 256, "<nosharepages/>", guest=files)
    for vm in (memfd, normal):
        host.start(vm)
    for vm, need in ((memfd, 128), (normal, 0)):
        guest_linux.wait_ready(vm.log)
        hv.before_memory_hotplug(vm.uuid, dimm())
        attach(bench, host, vm, dimm())
        hv.after_memory_hotplug(vm.uuid, dimm())
        same(claimed(vm), (need + DIMM, 0), "claimed with the DIMM")
        hv.after_memory_hotunplug(vm.uuid, detach(bench, host, vm))
        same(claimed(vm), (need, 0), "claimed without the DIMM")
    same(pages_now(), (128 + 3, 3), "total and free: what memfd has, and what was there")
    finds_nothing(bench)
    for vm in (memfd, normal):
        host.kill(vm)
    back_as_before(bench, before)
    hv.close()


def resize(host, vm, mib):
    host.virsh("update-memory-device", vm.uuid, "--requested-size", f"{mib}M", status=0)

    def current_kib():
        device, = live_devices(host, vm)
        return int(re.search(r"<current unit='KiB'>(\d+)<", device)[1])

    until(lambda: current_kib() == mib * 1024, f"the guest to have {mib} MiB of virtio-mem", PLUG_S,
          0.1)


def requesting(device, mib):
    return re.sub(r"<requested[^>]*>\d+<", f"<requested unit='MiB'>{mib}<", device)


def elastic(bench, host):
    """virtio-mem: pages before the guest takes them, kept through its reboot, back when it shrinks"""
    before, hv = pools(), manager()
    vm = vm_of(bench, memory_mib=256, devices=virtio_mem(0), guest=guest_files(bench))
    need = 128
    host.start(vm)
    guest_linux.wait_ready(vm.log)
    has_pages(vm, need, 0, need)
    device, = live_devices(host, vm)
    plug = hv.before_memory_hotplug(vm.uuid, requesting(device, 256))
    has_pages(vm, need + 128, 128, need, 128)
    resize(host, vm, 256)
    hv.after_memory_hotplug(vm.uuid, requesting(device, 256), plug.generation)
    has_pages(vm, need + 128, 0, need + 128)
    finds_nothing(bench)
    host.virsh("reset", vm.uuid, status=0)
    bench.ctl("reconcile", status=0)
    has_pages(vm, need + 128, pages_now()[1], *claimed(vm))
    same(sum(claimed(vm)), need + 128, "claimed while the guest boots again")
    guest_linux.wait_ready(vm.log, 2)
    resize(host, vm, 256)
    bench.ctl("reconcile", status=0)
    has_pages(vm, need + 128, 0, need + 128)
    resize(host, vm, 128)
    device, = live_devices(host, vm)
    hv.after_memory_hotunplug(vm.uuid, device)
    has_pages(vm, need + 64, 0, need + 64)
    finds_nothing(bench)
    host.kill(vm)
    back_as_before(bench, before)
    hv.close()


if __name__ == "__main__":
    sys.exit(run([
        reported, refused_by_libvirt, shortage, manager_killed, into_normal_pages, other_sizes,
        unreported, unplugged, unplugged_elsewhere, elastic,
    ]))
