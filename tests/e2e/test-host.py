#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host agent in Python: hugevm.so through ctypes, libvirt's embedded driver in this process.

usage: test-host.py HUGEVMCTL HUGEVM.SO [WORD]

Needs package python3-libvirt. What stands for a QEMU where none is needed is guest.py.
"""

import glob
import json
import os
import shutil
import sys
import tempfile
import threading

import libvirt

import harness
from harness import (M2, check, end_process, free, holds, main, pools, pools_become, same,
                     set_total, smaps_of_guest, total, until, write)
from hugevm_host import CONFLICT
from in_process import HUGE, NEED, guest, open_host, refused

ROOM_FOR_DIMMS = ("  <features><acpi/></features>\n"
                  "  <maxMemory slots='2' unit='MiB'>512</maxMemory>\n"
                  "  <cpu><numa><cell id='0' cpus='0' memory='64' unit='MiB'/></numa></cpu>\n")
DIMM = ("<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target>"
        "</memory>")


# --- libvirt ----------------------------------------------------------------------------------


class Embedded:
    """libvirt's embedded QEMU driver in this process: one for all tests, as it probes QEMU once."""

    _connection = None
    _root = None

    @classmethod
    def connection(cls):
        if cls._connection is None:
            libvirt.registerErrorHandler(lambda *_: None, None)
            libvirt.virEventRegisterDefaultImpl()
            threading.Thread(target=cls._run_events, daemon=True).start()
            cls._root = tempfile.mkdtemp(prefix="hugevm-e2e-embed-", dir="/run")
            os.chmod(cls._root, 0o755)
            os.mkdir(f"{cls._root}/etc")
            write(f"{cls._root}/etc/qemu.conf", 'stdio_handler = "file"\n')
            cls._connection = libvirt.open(f"qemu:///embed?root={cls._root}")
        return cls._connection

    @staticmethod
    def _run_events():
        while True:
            libvirt.virEventRunDefaultImpl()

    @classmethod
    def close(cls):
        if cls._connection is not None:
            cls._connection.close()
        if cls._root is not None:
            shutil.rmtree(cls._root, ignore_errors=True)
        for directory in glob.glob(f"{harness.MOUNT}/libvirt/qemu-embed-*"):
            if not os.listdir(directory):
                os.rmdir(directory)
        if os.path.isdir(f"{harness.MOUNT}/libvirt") and not os.listdir(f"{harness.MOUNT}/libvirt"):
            os.rmdir(f"{harness.MOUNT}/libvirt")


def real_vm(bench):
    """a host in Python takes a real VM through its life, and the pools are as before"""
    before = pools()
    host, vm, connection = open_host(bench), bench.vm(), Embedded.connection()
    result = host.before_vm_start(vm.xml, HUGE)
    check(result.xml_changed and result.generation > 0, "no claim, or no edit")
    same((result.uuid, total(), free()), (vm.uuid, NEED, NEED), "UUID and pages")
    host.vm_launching(vm.uuid, result.generation)
    same(bench.claims()[0]["state"], "launching", "state")
    domain = connection.createXML(result.xml, 0)
    host.after_vm_start(vm.uuid, result.generation)
    claim, = bench.claims()
    same((claim["state"], claim["owner"]), ("running", "python"), "claim")
    same((claim["qemu_pid"], claim["owner_pid"]), (vm.qemu(), os.getpid()), "pids")
    check(sum(smaps_of_guest(vm.qemu(), M2)) >= 262144, "QEMU is not on huge pages")
    same(free(), 0, "free pages while it runs")
    domain.destroy()
    host.after_vm_destroy(vm.uuid, result.generation)
    pools_become(before)
    same(bench.claims(), [], "claims")
    host.close()


def destroy_while_alive(bench):
    """after_vm_destroy of a VM whose QEMU lives is a conflict that names the pid"""
    host, vm, connection = open_host(bench), bench.vm(memory_mib=64), Embedded.connection()
    result = host.before_vm_start(vm.xml, HUGE)
    host.vm_launching(vm.uuid, result.generation)
    domain = connection.createXML(result.xml, 0)
    host.after_vm_start(vm.uuid, result.generation)
    error = refused(CONFLICT, host.after_vm_destroy, vm.uuid, result.generation)
    holds(error.message, vm.qemu())
    same((total(), len(bench.claims())), (32, 1), "pages and claims")
    error = refused(CONFLICT, host.before_vm_start, vm.xml, HUGE)
    holds(error.message, "runs already", vm.qemu())
    domain.destroy()
    host.after_vm_destroy(vm.uuid, result.generation)
    until(lambda: total() == 0, "the pages")


def start(host, vm, properties=None):
    """A real VM whose claim runs: (what before_vm_start gave, libvirt's domain)."""
    result = host.before_vm_start(vm.xml, HUGE if properties is None else properties)
    if result.generation != 0:
        host.vm_launching(vm.uuid, result.generation)
    domain = Embedded.connection().createXML(result.xml, 0)
    if result.generation != 0:
        host.after_vm_start(vm.uuid, result.generation)
    return result, domain


def saved_and_restored(bench):
    """a real VM that is saved gives its pages back, and has them again when it is restored"""
    before, image = pools(), f"{bench.directory}/vm.save"
    host, vm, connection = open_host(bench), bench.vm(), Embedded.connection()
    result, domain = start(host, vm)
    domain.save(image)
    host.after_vm_hibernate(vm.uuid, result.generation)
    pools_become(before)
    same(bench.claims(), [], "claims while it is saved")
    host.after_vm_destroy(vm.uuid, result.generation)
    again = host.before_vm_dehibernate(connection.saveImageGetXMLDesc(image))
    same((again.uuid, again.xml_changed, total()), (vm.uuid, False, NEED), "what is to be restored")
    host.vm_launching(vm.uuid, again.generation)
    connection.restoreFlags(image, again.xml)
    host.after_vm_start(vm.uuid, again.generation)
    same([claim["state"] for claim in bench.claims()], ["running"], "claims")
    check(sum(smaps_of_guest(vm.qemu(), M2)) >= 262144, "QEMU is not on huge pages")
    host.after_vm_hibernate(vm.uuid, result.generation)  # of the first run: too late to matter
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims")
    connection.lookupByUUIDString(vm.uuid).destroy()
    host.after_vm_destroy(vm.uuid, again.generation)
    pools_become(before)


def saved_on_normal_pages(bench):
    """a VM that was saved on normal pages comes back on them, whatever its properties say now"""
    before, image = pools(), f"{bench.directory}/vm.save"
    host, vm = open_host(bench), bench.vm(memory_mib=64)
    result, domain = start(host, vm, {})
    same((result.generation, result.xml), (0, vm.xml), "claim and XML of a VM without huge pages")
    domain.save(image)
    saved = Embedded.connection().saveImageGetXMLDesc(image)
    host.before_vm_start(saved, HUGE)
    same(len(bench.claims()), 1, "claims before the saved XML is known")
    same(host.before_vm_dehibernate(saved).generation, 0, "generation")
    same((pools(), bench.claims()), (before, []), "pools and claims")


def memory_plugged(bench):
    """a DIMM for a real VM: its pages are the VM's once it is plugged, and go back if it is not"""
    before = pools()
    host, vm = open_host(bench), bench.vm(memory_mib=64, inside=ROOM_FOR_DIMMS)
    result, domain = start(host, vm)
    same(total(), 32, "total")
    host.memory_hotplug_failed(vm.uuid, DIMM,
                               host.before_memory_hotplug(vm.uuid, DIMM).generation)
    same((total(), len(bench.claims())), (32, 1), "pages and claims after the failure")
    plugged = host.before_memory_hotplug(vm.uuid, DIMM)
    same((total(), free(), plugged.xml), (96, 64, DIMM), "pages, and the device's XML")
    domain.attachDevice(DIMM)
    for _ in range(2):
        host.after_memory_hotplug(vm.uuid, DIMM, plugged.generation)
        claim, = bench.claims()
        same(sum(need["pages"] for need in claim["need"]), 96, "pages of the VM's claim")
    host.after_memory_hotunplug(vm.uuid, DIMM)
    same((total(), free()), (96, 0), "pages that QEMU still maps, whatever the host says")
    domain.destroy()
    host.after_vm_destroy(vm.uuid, result.generation)
    pools_become(before)


def migrated(bench):
    """an incoming VM has a claim that runs, and leaves again; one for a start to come stays"""
    before, host, vm = pools(), open_host(bench), bench.vm()
    result = host.before_vm_migrate_destination(vm.xml, HUGE)
    host.after_vm_migrate_source(vm.uuid, result.generation)
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims of the VM that is to come")
    host.vm_launching(vm.uuid, result.generation)
    machine = guest(bench, "touched", NEED, vm.uuid, "qemu-guest")
    host.after_vm_migrate_destination(vm.uuid, result.generation, machine.pid)
    claim, = bench.claims()
    same((claim["state"], claim["qemu_pid"]), ("running", machine.pid), "state and pid")
    end_process(machine.pid)
    machine.wait()
    host.after_vm_migrate_source(vm.uuid, result.generation)
    pools_become(before)
    same(bench.claims(), [], "claims")


def reconciled(bench):
    """a restarted host says which VMs run: the claim of one that it does not name goes"""
    before = pools()
    host, vm, lost, new = open_host(bench), *(bench.vm(memory_mib=64) for _ in range(3))
    result, domain = start(host, vm)
    host.before_vm_start(lost.xml, HUGE)
    host.close()
    host = open_host(bench)
    sequence = host.reconcile_begin()
    host.before_vm_start(new.xml, HUGE)
    host.reconcile(sequence, [one.UUIDString() for one in Embedded.connection().listAllDomains()])
    same({claim["uuid"] for claim in bench.claims()}, {vm.uuid, new.uuid}, "VMs with claims")
    same(total(), 64, "total")
    host.vm_start_failed(new.uuid)
    domain.destroy()
    host.after_vm_destroy(vm.uuid, result.generation)
    pools_become(before)


def dry_run(bench):
    """a plan tells what a start would do, and does nothing"""
    before, host, vm = pools(), open_host(bench), bench.vm()
    steps = json.loads(host.plan(vm.xml, HUGE).json)["steps"]
    same([(step["action"], step["pages"]) for step in steps], [("grow", NEED)], "steps")
    same((pools(), bench.claims()), (before, []), "pools and claims")


def reports(bench):
    """statistics follow a claim, and capabilities name this host's page sizes"""
    set_total(NEED)
    host, vm = open_host(bench), bench.vm()
    check(M2 in {size["size_kib"] for size in host.get_caps()["sizes"]}, "no pages of 2 MiB")
    host.before_vm_start(vm.xml, HUGE)
    pool = next(pool for pool in host.get_stats()["pools"] if pool["size_kib"] == M2)
    same((pool["total"], pool["claimed"]), (NEED, NEED), "pages, and those of claims")
    host.vm_start_failed(vm.uuid)


if __name__ == "__main__":
    try:
        STATUS = main([
            real_vm, destroy_while_alive, saved_and_restored, saved_on_normal_pages, memory_plugged,
            migrated, reconciled, dry_run, reports,
        ])
    finally:
        Embedded.close()
    sys.exit(STATUS)
