#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs of VDSM's that leave this host, come back, come in and grow: libvirtd, QEMU, real sudo.

usage: test-vdsm-moves.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import sys

from harness import DYNAMIC, STATIC, check, free, holds, pools, pools_become, same, set_total, total
from vdsm_host import (
    ELEMENT, HUGE, LIBVIRT_HOOK, NEED, PASSED, REFUSED, Vm, claimed, is_one_line, libvirtd,
    other_sudo, silent, vdsm, without, main)
from vdsm_runner import HookError

# room for DIMMs, which takes a guest cell
GROWABLE = (f"{HUGE}<maxMemory slots='4' unit='MiB'>1024</maxMemory>"
            "<features><acpi/></features><cpu><numa><cell id='0' cpus='0' memory='256' unit='MiB'/></numa></cpu>")
DIMM = ("<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>")
DIMM_PAGES = 64


def nothing_left(bench, before):
    pools_become(before)
    same(bench.claims(), [], "claims")


def claimed_pages(bench):
    """Of all claims together: a device may have one of its own."""
    return sum(need["pages"] for claim in bench.claims() for need in claim["need"])


# --- out and in -------------------------------------------------------------------------------


def saved_and_restored(bench):
    """a saved VM gives back at once, not at the engine's destroy, and a restore claims anew"""
    before = pools()
    with without(LIBVIRT_HOOK):
        vm = Vm(bench, vdsm(bench), {"hugepages": "2048"}, inside=HUGE)
        image = f"{bench.directory}/image"
        vm.start(vm.launch)
        vm.hibernate(lambda: libvirtd().virsh("save", vm.name, image, status=0))
        nothing_left(bench, before)
        vm.gone()
        nothing_left(bench, before)

        def launch(_xml):
            claimed(bench, "claimed")
            same(free(), NEED, "free pages before QEMU")
            libvirtd().virsh("restore", image, status=0)

        vm.run_point("before_vm_start")
        vm.run_point("before_vm_dehibernate", FROM_SNAPSHOT="False")
        launch(vm.xml)
        same(total(), NEED, "pages of the restored VM")
        vm.destroy(vm.end)
        nothing_left(bench, before)
    silent(vm.runner)


def leaves_by_migration(bench):
    """a VM that has migrated away gives back at once; one that could not keeps its pages"""
    before = pools()
    with without(LIBVIRT_HOOK):
        vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
        vm.start(vm.launch)
        vm.run_point("before_vm_migrate_source")  # and then the destination refuses
        claimed(bench, "running")
        vm.migrate_out(vm.end)
        nothing_left(bench, before)
        vm.gone()
        nothing_left(bench, before)
    silent(vm.runner)


def start_to_come(bench):
    """a late end of a migration or a hibernation does not take what the next start has claimed"""
    before = pools()
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"})
    vm.before_vm_start()
    for point in ("after_vm_migrate_source", "after_vm_hibernate"):
        vm.run_point(point)
        claimed(bench, "claimed")
    vm.destroy()
    nothing_left(bench, before)
    silent(vm.runner)


def comes_in(bench):
    """an incoming VM is noted as running when it is here, and gives back at its end"""
    before = pools()
    with without(LIBVIRT_HOOK):
        vm = Vm(bench, vdsm(bench), {"hugepages": "2048"}, inside=HUGE)
        vm.migrate_in(vm.launch)
        same(claimed(bench, "running")["qemu_pid"], vm.domain.qemu(), "QEMU of the claim")
        vm.destroy(vm.end)
        nothing_left(bench, before)
    silent(vm.runner)


def does_not_come_in(bench):
    """an incoming migration that fails gives back at after_vm_destroy"""
    before = pools()
    vm = Vm(bench, vdsm(bench), {"hugepages": "2048"}, inside=HUGE)

    def fail(_xml):
        claimed(bench, "claimed")
        raise ConnectionError("the source has gone away")

    try:
        vm.migrate_in(fail)
    except ConnectionError:
        vm.destroy()
    nothing_left(bench, before)
    silent(vm.runner)


# --- restores that differ from what the engine thinks -----------------------------------------


def restored_as(bench, saved, pages, properties=None):
    """The claim that is there when libvirt restores; vm is what the engine sends."""
    before = pools()
    vm = Vm(bench, vdsm(bench), properties or {"hugepages": "2048"})
    seen = []
    vm.run_point("before_vm_start")
    vm.run_point("before_vm_dehibernate", saved(vm), FROM_SNAPSHOT="False")
    seen.append((claimed_pages(bench), total()))
    vm.destroy()
    same(seen, [(pages, pages)], "pages claimed, and there")
    nothing_left(bench, before)
    silent(vm.runner)


def with_element(vm, memory_mib=256):
    return vm.before.replace(">256<", f">{memory_mib}<").replace("<vcpu>", f"{HUGE}<vcpu>")


def saved_larger(bench):
    """a restore claims for the memory that was saved: more"""
    restored_as(bench, lambda vm: with_element(vm, 384), 192)


def saved_smaller(bench):
    """a restore claims for the memory that was saved: less"""
    restored_as(bench, lambda vm: with_element(vm, 128), 64)


def saved_without(bench):
    """a VM that was saved on normal pages takes none, whatever its property says by now"""
    restored_as(bench, lambda vm: vm.before, 0)


def saved_with(bench):
    """a VM that was saved on huge pages gets them, whatever its property says by now"""
    restored_as(bench, with_element, NEED, properties={"hugepages": "0"})


def saved_too_large(bench):
    """a restore that does not fit is refused with the reason, and nothing stays claimed"""
    vm = Vm(bench, vdsm(bench, STATIC), {"hugepages": "2048"})
    set_total(NEED)
    before = pools()
    vm.run_point("before_vm_start")
    try:
        vm.run_point("before_vm_dehibernate", with_element(vm, 384), FROM_SNAPSHOT="False")
        check(False, "the restore is not refused")
    except HookError as error:
        is_one_line(str(error))
        holds(str(error), "short")
    nothing_left(bench, before)
    set_total(0)


# --- memory that is plugged -------------------------------------------------------------------


def attach(bench, vm, device, status=0):
    path = f"{bench.directory}/device.xml"
    with open(path, "w", encoding="utf-8") as file:
        file.write(device)
    done = libvirtd().virsh("attach-device", vm.name, path, "--live", status=status)
    if done.returncode != 0:
        raise OSError(done.stderr)


def growing_vm(bench, conf=DYNAMIC, pages=NEED):
    vm = Vm(bench, vdsm(bench, conf), {"hugepages": "2048"}, inside=GROWABLE)
    vm.start(vm.launch)
    claimed(bench, "running", pages=pages)
    return vm


def plugged(bench):
    """a DIMM gets its pages before QEMU has it, they are the VM's after, and go back with it"""
    before = pools()
    with without(LIBVIRT_HOOK):
        vm = growing_vm(bench)

        def plug(device):
            same(device, DIMM, "the device's XML")
            same((claimed_pages(bench), free()), (NEED + DIMM_PAGES, DIMM_PAGES), "claimed and free")
            attach(bench, vm, device)

        vm.plug_memory(DIMM, plug)
        claimed(bench, "running", pages=NEED + DIMM_PAGES)
        same((claimed_pages(bench), free()), (NEED + DIMM_PAGES, 0), "claimed and free afterwards")
        vm.destroy(vm.end)
        nothing_left(bench, before)
    silent(vm.runner)


def not_enough_to_plug(bench):
    """a DIMM for which there are no pages is refused in one line, and the VM goes on"""
    with without(LIBVIRT_HOOK):
        set_total(NEED + DIMM_PAGES - 1)
        before = pools()
        vm = growing_vm(bench, STATIC, NEED + DIMM_PAGES - 1)
        try:
            vm.plug_memory(DIMM, lambda device: check(False, "it is plugged"))
            check(False, "the plug is not refused")
        except HookError as error:
            is_one_line(str(error))
            holds(str(error), "short", DIMM_PAGES)
        claimed(bench, "running", pages=NEED + DIMM_PAGES - 1)
        same(claimed_pages(bench), NEED, "claimed pages")
        vm.destroy(vm.end)
        nothing_left(bench, before)
        set_total(0)


def plug_fails(bench):
    """the pages of a DIMM that libvirt did not plug go back with the VM at the latest"""
    before = pools()
    with without(LIBVIRT_HOOK):
        vm = growing_vm(bench)
        try:
            vm.plug_memory(DIMM, lambda device: attach(bench, vm, "<memory model='none'/>", 1))
        except OSError:
            same(claimed_pages(bench), NEED + DIMM_PAGES, "claimed pages: nobody has said anything")
        vm.destroy(vm.end)
        nothing_left(bench, before)
    silent(vm.runner)


def devices_that_share(bench):
    """a vhostuser NIC or disk is refused to a VM with private memory, without sudo, and to no other"""
    devices = {"nic": "<interface type='vhostuser'><mac address='52:54:00:00:00:07'/></interface>",
               "disk": "<disk type='vhostuser'><target dev='vdb'/></disk>"}
    names = {"nic": "(MAC '52:54:00:00:00:07')", "disk": "(target 'vdb')"}
    runner, plugged = vdsm(bench), []
    vm = Vm(bench, runner, {"hugepages": "2048"})
    shared = Vm(bench, runner, {"hugepages": "2048", "hugepages_shared": "true"})
    other = Vm(bench, runner)
    for one in (vm, shared, other):
        one.before_vm_start()
    with other_sudo("echo sudo is asked >&2; exit 1"):
        for kind, device in devices.items():
            try:
                vm.plug_device(kind, device, lambda xml: check(False, "it is plugged"))
                check(False, "the plug is not refused")
            except HookError as error:
                is_one_line(str(error))
                holds(str(error), names[kind], vm.uuid, "is private", "hugepages_shared=true")
            for one in (shared, other):
                one.plug_device(kind, device, plugged.append)
        vm.plug_device("nic", "<interface type='bridge'/>", plugged.append)
    same(len(plugged), 5, "devices that are plugged")
    same([status for _, status, _ in runner.log if status != PASSED], [REFUSED] * 2, "refusals")
    for one in (vm, shared):
        one.destroy()
    same(bench.claims(), [], "claims")


def plug_of_others(bench):
    """memory of a VM that has no claim is plugged as if hugevm were not there"""
    before = pools()
    vm = Vm(bench, vdsm(bench), inside=GROWABLE.replace(HUGE, ""))
    vm.start(vm.launch)
    vm.plug_memory(DIMM, lambda device: attach(bench, vm, device))
    same((pools(), bench.claims()), (before, []), "pools and claims")
    check(ELEMENT not in vm.xml, "the VM has huge pages")
    vm.destroy(vm.end)
    silent(vm.runner)


if __name__ == "__main__":
    sys.exit(main([
        saved_and_restored, leaves_by_migration, start_to_come, comes_in, does_not_come_in,
        saved_larger, saved_smaller, saved_without, saved_with, saved_too_large, plugged,
        not_enough_to_plug, plug_fails, devices_that_share, plug_of_others,
    ]))
