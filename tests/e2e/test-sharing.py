#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shared memory under a real libvirtd: who gets it, and who is told that he cannot have it.

usage: test-sharing.py HUGEVMCTL HUGEVM.SO [WORD]

Beside each refusal stands what libvirt and QEMU make of the same device without hugevm. Firmware is
guest enough: no driver has to find out.
"""

import os
import socket
import struct
import sys
import threading

import harness
from harness import check, holds, pools, pools_become, same, write
from hugevm_host import CONFLICT, HugevmError
from hugevm_host import Host as Manager
from libvirt_host import CONF, pages_now, recorded, run

VM_MIB, NEED = 64, 32
DIMM_MIB, DIMM = 32, 16
SHARED = "<access mode='shared'/>"


def vm_of(bench, access="", devices=""):
    """A VM on huge pages with one guest cell, and slots for memory."""
    inside = (f"<maxMemory slots='4' unit='MiB'>{1 << 14}</maxMemory>"
              f"<memoryBacking><hugepages/>{access}</memoryBacking><features><acpi/></features>"
              f"<cpu><numa><cell id='0' cpus='0' memory='{VM_MIB}' unit='MiB'/></numa></cpu>")
    return bench.vm(memory_mib=VM_MIB, inside=inside, devices=devices)


def dimm(access=""):
    return (f"<memory model='dimm'{access}><target><size unit='MiB'>{DIMM_MIB}</size>"
            "<node>0</node></target></memory>")


def nic(path):
    return ("<interface type='vhostuser'><mac address='52:54:00:00:00:07'/>"
            f"<source type='unix' path='{path}' mode='client'/><model type='virtio'/></interface>")


def disk(path):
    return ("<disk type='vhostuser' device='disk'><driver name='qemu' type='raw'/>"
            f"<source type='unix' path='{path}'/><target dev='vda' bus='virtio'/></disk>")


def file_system(directory, tag="share"):
    return ("<filesystem type='mount' accessmode='passthrough'><driver type='virtiofs'/>"
            f"<source dir='{directory}'/><target dir='{tag}'/></filesystem>")


def attach(bench, host, vm, device, status=0):
    path = write(f"{bench.directory}/device.xml", device)
    return host.virsh("attach-device", vm.uuid, path, "--live", status=status)


def manager():
    return Manager(harness.module, [CONF], name="manager")


def refusal_of(call, *arguments):
    try:
        call(*arguments)
    except HugevmError as error:
        same(error.code, CONFLICT, f"code of '{error.message}'")
        return error
    check(False, "that should have been refused")
    return None


def mapped(pid):
    """KiB of its memory on huge pages, by how it is mapped: (shared, private)."""
    sums = {"s": 0, "p": 0}
    for line in harness.read(f"/proc/{pid}/maps").splitlines():
        place, rights, rest = line.split(maxsplit=2)
        if "/libvirt/qemu/" in rest and "hugepages" in rest:
            begin, end = (int(part, 16) for part in place.split("-"))
            sums[rights[3]] += (end - begin) // 1024
    return sums["s"], sums["p"]


class Backend:
    """The other side of a vhost-user device, as far as QEMU asks it before a guest does."""

    GET_FEATURES, GET_VRING_BASE, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM = 1, 11, 15, 17
    FEATURES = 1 << 32 | 1 << 30  # VERSION_1, and the protocol's own, without which QEMU 7.2 hangs
    HEADER = struct.Struct("=III")
    IS_REPLY = 0x1 | 0x4

    def __init__(self, path):
        self.path, self.seen = path, []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        os.chmod(path, 0o666)
        self.server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        try:
            while True:
                self._answer(self.server.accept()[0])
        except OSError:
            pass  # the end of the case

    def _answer(self, peer):
        with peer, peer.makefile("rb") as stream:
            while len(header := stream.read(self.HEADER.size)) == self.HEADER.size:
                request, _, size = self.HEADER.unpack(header)
                stream.read(size)
                self.seen.append(request)
                if request in (self.GET_FEATURES, self.GET_PROTOCOL_FEATURES, self.GET_QUEUE_NUM):
                    value = self.FEATURES if request == self.GET_FEATURES else 0
                    peer.sendall(self.HEADER.pack(request, self.IS_REPLY, 8)
                                 + struct.pack("=Q", value))

    def close(self):
        self.server.close()


def back_as_before(before):
    pools_become(before)
    same(recorded(), [], "claims")


# --- cases ------------------------------------------------------------------------------------


def dimm_of_a_shared_vm(bench, host):
    """a DIMM that says nothing is shared as its VM is; a private one is refused before libvirt"""
    before, vm, hv = pools(), vm_of(bench, SHARED), manager()
    qemu = host.start(vm)
    same(mapped(qemu), (VM_MIB * 1024, 0), "KiB shared and private")
    private = dimm(" access='private'")
    error = refusal_of(hv.before_memory_hotplug, vm.uuid, private)
    holds(error.message, vm.uuid, "is shared", "access='private'")
    same((pages_now(), len(recorded())), ((NEED, 0), 1), "pages and claims after the refusal")
    plug = hv.before_memory_hotplug(vm.uuid, dimm())
    same([claim["shared"] for claim in recorded()], [True, True], "shared in the claims")
    attach(bench, host, vm, dimm())
    hv.after_memory_hotplug(vm.uuid, dimm(), plug.generation)
    same(mapped(qemu), ((VM_MIB + DIMM_MIB) * 1024, 0), "KiB shared and private with the DIMM")
    same([claim["shared"] for claim in recorded()], [True], "shared in the claim")
    host.conf(harness.DYNAMIC + "[hugevm]\nenabled = false\n")
    harness.set_total(NEED + 2 * DIMM)
    attach(bench, host, vm, private)  # what libvirt and QEMU think of it
    same(mapped(qemu)[1], DIMM_MIB * 1024, "KiB private that libvirt plugs all the same")
    host.conf()
    host.kill(vm)
    harness.set_total(0)
    back_as_before(before)
    hv.close()


def devices_for_a_private_vm(bench, host):
    """a NIC, a disk, a file system that need shared memory are refused to a VM with private"""
    before, vm, hv = pools(), vm_of(bench), manager()
    backend = Backend(f"{bench.directory}/socket")
    host.start(vm)
    for device, name in ((nic(backend.path), f"(MAC '52:54:00:00:00:07', socket '{backend.path}')"),
                         (disk(backend.path), "disk 'vhostuser' (target 'vda', "),
                         (file_system(bench.directory), "filesystem 'virtiofs' (target 'share')")):
        error = refusal_of(hv.before_device_hotplug, vm.uuid, device)
        holds(error.message, name, vm.uuid, vm.name, "is private for as long as it runs")
        holds(error.hint, "hugepages_shared=true")
    same(len(recorded()), 1, "claims")
    for device in (disk(backend.path), file_system(bench.directory)):
        holds(attach(bench, host, vm, device, status=1).stderr, "requires shared memory")
    # neither libvirt 9.0 nor QEMU says a word: the guest has a NIC that moves no packet
    plugged = attach(bench, host, vm, nic(backend.path))
    holds(plugged.stdout, "successfully")
    check(Backend.GET_FEATURES in backend.seen, f"QEMU asks its back end for {backend.seen}")
    backend.close()
    host.kill(vm)
    back_as_before(before)
    hv.close()


def devices_for_a_shared_vm(bench, host):
    """the same NIC passes where memory is shared, and what needs none passes anywhere"""
    before, hv = pools(), manager()
    backend = Backend(f"{bench.directory}/socket")
    for access in (SHARED, ""):
        vm = vm_of(bench, access)
        host.start(vm)
        hv.before_device_hotplug(vm.uuid, "<interface type='bridge'><source bridge='b'/></interface>")
        if access:
            hv.before_device_hotplug(vm.uuid, nic(backend.path))
            attach(bench, host, vm, nic(backend.path))
        host.kill(vm)
    backend.close()
    back_as_before(before)
    hv.close()


def edited_for_a_device(bench, host):
    """with a property alone libvirt refuses virtiofs, and starts what hugevm has made of it"""
    before, hv = pools(), manager()
    os.chmod(bench.directory, 0o777)
    vm = bench.vm(memory_mib=VM_MIB, devices=file_system(bench.directory))
    holds(host.virsh("define", vm.path, status=1).stderr, "requires shared memory")
    result = hv.plan(vm.xml, {"hugepages": "2048"})
    warning, = result.warnings
    holds(warning, "needed by filesystem 'virtiofs' (target 'share')", "is made shared")
    holds(result.xml, "<page size='2048' unit='KiB'/>", SHARED)
    write(vm.path, result.xml)
    host.virsh("define", vm.path, status=0)
    host.virsh("start", vm.uuid, status=0)
    same(mapped(vm.qemu()), (VM_MIB * 1024, 0), "KiB shared and private")
    same([claim["shared"] for claim in recorded()], [True], "shared in the claim")
    host.destroy(vm)
    host.virsh("undefine", vm.uuid, status=0)
    back_as_before(before)
    hv.close()


def private_outright(bench, host):
    """a private DIMM beside such a device is refused by name, where libvirt starts it"""
    before = pools()
    devices = file_system(bench.directory) + dimm(" access='private'")
    vm = vm_of(bench, SHARED, devices)
    host.refused(vm, "needed by filesystem 'virtiofs' (target 'share')",
                 "memory device 0 has access='private'", "what to do:")
    same((pages_now(), recorded()), ((0, 0), []), "pages and claims")
    host.conf(harness.DYNAMIC + "[hugevm]\nenabled = false\n")
    harness.set_total(NEED + DIMM)
    os.chmod(bench.directory, 0o777)
    qemu = host.start(vm)
    same(mapped(qemu), (VM_MIB * 1024, DIMM_MIB * 1024), "KiB shared and private without hugevm")
    host.kill(vm)
    harness.set_total(0)
    back_as_before(before)


if __name__ == "__main__":
    sys.exit(run([dimm_of_a_shared_vm, devices_for_a_private_vm, devices_for_a_shared_vm,
                  edited_for_a_device, private_outright]))
