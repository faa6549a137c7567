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
import signal
import subprocess
import sys
import tempfile
import threading

import libvirt

import harness
from harness import (DYNAMIC, G1, M2, STATIC, check, end_process, free, holds, is_alive, main, pools,
                     pools_become, same, set_total, smaps_of_guest, total, until, write)
from hugevm_host import (CANCELLED, CONFLICT, SHORTAGE, TIMEOUT, UNKNOWN_VM, Host, HugevmError)

HERE = os.path.dirname(os.path.abspath(__file__))
HUGE = {"hugepages": str(M2)}
NEED = 128
ROOM_FOR_DIMMS = ("  <features><acpi/></features>\n"
                  "  <maxMemory slots='2' unit='MiB'>512</maxMemory>\n"
                  "  <cpu><numa><cell id='0' cpus='0' memory='64' unit='MiB'/></numa></cpu>\n")
DIMM = ("<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target>"
        "</memory>")


def open_host(bench, conf=DYNAMIC, **options):
    return Host(harness.module, [bench.conf(conf)], **options)


def refused(code, function, *arguments, **options):
    """The error of a call that must fail with this code."""
    try:
        function(*arguments, **options)
    except HugevmError as error:
        same(error.code, code, f"code of '{error}'")
        return error
    raise harness.Failure(f"the call succeeded, and should fail with code {code}")


def guest(bench, kind, pages, uuid, program="somebody"):
    """A process that holds pages; hugevm takes a program named qemu... for the VM's QEMU."""
    path = f"{bench.directory}/{program}"
    if not os.path.lexists(path):
        os.symlink(sys.executable, path)
    process = bench.start([path, f"{HERE}/guest.py", kind, str(pages), "-uuid", uuid])
    same(process.stdout.readline().strip(), "ready", "the guest says")
    return process


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


# --- growth -----------------------------------------------------------------------------------


def big_vm(bench):
    """A VM of 4000 pages, or what the machine allows; the number of pages."""
    pages = bench.growable(4000)
    return bench.vm(memory_mib=pages * 2), pages


def cancelled_growth(bench):
    """a cancelled growth gives back what it had got"""
    set_total(20)
    before = pools()
    host, (vm, _) = open_host(bench), big_vm(bench)
    seen = []
    host.on_progress = lambda done, *_: seen.append((done, total())) or done >= 200
    error = refused(CANCELLED, host.before_vm_start, vm.xml, HUGE)
    done, there = seen[-1]
    check(done >= 200 and there >= 220, f"nothing had been got: {seen}")
    holds(error.message, "cancelled", done)
    same(pools(), before, "pools after the cancelled growth")
    same(bench.claims(), [], "claims")
    refused(UNKNOWN_VM, host.vm_launching, vm.uuid)


def timed_out_growth(bench):
    """a growth that runs out of time gives back what it had got"""
    before = pools()
    host, (vm, _) = open_host(bench), big_vm(bench)
    refused(TIMEOUT, host.before_vm_start, vm.xml, HUGE, timeout_ms=5)
    same(pools(), before, "pools after the growth that took too long")
    same(bench.claims(), [], "claims")


def timed_out_growth_of_large_pages(bench):
    """a growth of pages of 1 GiB that runs out of time gives back what it had got"""
    before = pools()
    host, vm = open_host(bench), bench.vm(memory_mib=4096)
    error = refused(TIMEOUT, host.before_vm_start, vm.xml, {"hugepages": str(G1)}, timeout_ms=10)
    print(f"# {error.message}")
    same(pools(), before, "pools after the growth that took too long")
    same(bench.claims(), [], "claims")


def progress_of_a_big_growth(bench):
    """a growth of thousands of pages reports progress more than once, and gives all back"""
    before = pools()
    host, (vm, pages) = open_host(bench), big_vm(bench)
    calls = []
    host.on_progress = lambda *call: calls.append(call)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), pages, "total")
    check(len(calls) > 1, f"progress was called {len(calls)} times")
    same([call[1] for call in calls], [pages] * len(calls), "pages wanted")
    same([call[0] for call in calls], sorted(call[0] for call in calls), "pages got so far")
    holds(calls[0][2], "2 MiB", "node 0")
    host.vm_start_failed(vm.uuid, result.generation)
    pools_become(before)


def no_progress_without_growth(bench):
    """a VM that finds free pages grows nothing and reports no progress"""
    set_total(NEED)
    host, vm = open_host(bench), bench.vm()
    calls = []
    host.on_progress = lambda *call: calls.append(call)
    result = host.before_vm_start(vm.xml, HUGE)
    same((calls, total()), ([], NEED), "progress and total")
    host.vm_start_failed(vm.uuid, result.generation)
    same((total(), free()), (NEED, NEED), "static pages that remain")


# --- letting go -------------------------------------------------------------------------------


def failed_start(bench):
    """vm_start_failed gives back what was grown, and not the administrator's pages"""
    set_total(50)
    host, vm = open_host(bench), bench.vm()
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), NEED, "total")
    host.vm_launching(vm.uuid, result.generation)
    host.vm_start_failed(vm.uuid, result.generation)
    same((total(), free()), (50, 50), "pages that remain")


def destroyed_twice(bench):
    """after_vm_destroy twice is the same as once"""
    set_total(30)
    host, vm, other = open_host(bench), bench.vm(), bench.vm(memory_mib=64)
    kept = host.before_vm_start(other.xml, HUGE)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), NEED + 32, "total")
    host.after_vm_destroy(vm.uuid, result.generation)
    once = total()
    check(32 <= once <= 62, f"{once} pages left for 32 claimed and 30 of the administrator")
    for _ in range(2):
        host.after_vm_destroy(vm.uuid, result.generation)
        same((total(), len(bench.claims())), (once, 1), "pages and claims")
    host.after_vm_destroy(other.uuid, kept.generation)
    same((total(), bench.claims()), (30, []), "pages and claims")


def late_event(bench):
    """an event of an older start does not free a newer claim"""
    before = pools()
    host, vm = open_host(bench), bench.vm()
    first = host.before_vm_start(vm.xml, HUGE)
    host.vm_start_failed(vm.uuid, first.generation)
    second = host.before_vm_start(vm.xml, HUGE)
    check(second.generation > first.generation, "generations do not rise")
    host.after_vm_destroy(vm.uuid, first.generation)
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims")
    refused(UNKNOWN_VM, host.vm_launching, vm.uuid, first.generation)
    host.after_vm_destroy(vm.uuid, second.generation)
    pools_become(before)


def claimed_again(bench):
    """a VM that its host claims twice without starting it has its pages once"""
    before = pools()
    host, vm = open_host(bench), bench.vm()
    host.before_vm_start(vm.xml, HUGE)
    second = host.before_vm_start(vm.xml, HUGE)
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims")
    host.after_vm_destroy(vm.uuid, second.generation)
    pools_become(before)


def configuration_breaks_meanwhile(bench):
    """pages come back although the configuration broke while the VM ran"""
    before = pools()
    host, vm = open_host(bench), bench.vm()
    result = host.before_vm_start(vm.xml, HUGE)
    bench.conf("[[[ broken")
    host.after_vm_destroy(vm.uuid, result.generation)
    pools_become(before)


def administrator_takes_pages(bench):
    """pages that the administrator took meanwhile are not taken a second time"""
    host, vm = open_host(bench), bench.vm()
    set_total(50)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), NEED, "total")
    write(harness.knob(M2), str(NEED - 70))
    same(pools()[M2], (NEED, NEED, 70, NEED), "total, free, surplus, resv: the guard holds them")
    host.after_vm_destroy(vm.uuid, result.generation)
    same(total(), 50, "total: of the 78 grown 70 were gone already")


def administrator_adds_pages(bench):
    """pages that the administrator added meanwhile stay"""
    host, vm = open_host(bench), bench.vm()
    result = host.before_vm_start(vm.xml, HUGE)
    set_total(NEED + 25)
    host.after_vm_destroy(vm.uuid, result.generation)
    same(total(), 25, "total")


# --- others on the same pools -----------------------------------------------------------------


def promised_pages(bench):
    """pages that another process has reserved but not yet touched are not given to a VM"""
    set_total(100)
    other, vm = bench.vm(), bench.vm(memory_mib=100)
    process = guest(bench, "untouched", 100, other.uuid)
    same(pools()[M2], (100, 100, 0, 100), "total, free, surplus, resv")
    error = refused(SHORTAGE, open_host(bench, STATIC).before_vm_start, vm.xml, HUGE)
    holds(error.message, "wants 50 pages of 2 MiB", "0 available", "100 used by others")
    host = open_host(bench)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), 150, "total, with 50 pages grown beside the reserved ones")
    host.vm_start_failed(vm.uuid, result.generation)
    same(pools()[M2], (100, 100, 0, 100), "total, free, surplus, resv")
    end_process(process.pid)


def database_restarts(bench):
    """a user of static pages that restarts beside a VM finds its pages"""
    set_total(40)
    host, vm, database = open_host(bench), bench.vm(), bench.vm()
    first = guest(bench, "touched", 40, database.uuid)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), 40 + NEED, "total")
    host.vm_launching(vm.uuid, result.generation)
    machine = guest(bench, "touched", NEED, vm.uuid, "qemu-guest")
    host.after_vm_start(vm.uuid, result.generation, machine.pid)
    bench.end(first, signal.SIGKILL, status=None)
    until(lambda: free() == 40, "the database's pages")
    end_process(machine.pid)
    machine.wait()
    host.after_vm_destroy(vm.uuid, result.generation)
    same((total(), free()), (40, 40), "pages while nothing runs")
    guest(bench, "touched", 40, database.uuid)


def reserved_pages(bench):
    """pages reserved by configuration are not given to a VM, and growth goes around them"""
    set_total(60)
    conf = "reserved_hugepage_count = 60\nreserved_hugepage_size = 2048\n"
    vm = bench.vm(memory_mib=64)
    refused(SHORTAGE, open_host(bench, STATIC + conf).before_vm_start, vm.xml, HUGE)
    host = open_host(bench, DYNAMIC + conf)
    result = host.before_vm_start(vm.xml, HUGE)
    same(total(), 92, "total")
    host.vm_start_failed(vm.uuid, result.generation)
    same(total(), 60, "total")


AGENT = """
import sys
sys.path.insert(0, sys.argv[1])
import hugevm_host
host = hugevm_host.Host(sys.argv[2], [sys.argv[3]])
xml = open(sys.argv[4]).read()
sys.stdin.readline()
result = host.before_vm_start(xml, {"hugepages": "2048"})
print(result.generation, flush=True)
sys.stdin.readline()
host.vm_start_failed(result.uuid, result.generation)
"""


def agent(bench, vm):
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, HERE, harness.module, bench.conf(), vm.path], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    bench.started.append(process)
    return process


def poke(process):
    process.stdin.write("\n")
    process.stdin.flush()


def two_agents(bench):
    """two agents that claim 100 pages each at once both get theirs, and all goes back"""
    before = pools()
    agents = [agent(bench, bench.vm(memory_mib=200)) for _ in range(2)]
    for process in agents:
        poke(process)
    generations = {process.stdout.readline() for process in agents}
    same(len(generations), 2, f"different generations {generations}")
    same((total(), len(bench.claims())), (200, 2), "pages and claims")
    for process in agents:
        poke(process)
        _, err = process.communicate(timeout=30)
        same((process.returncode, err), (0, ""), "end of an agent")
    pools_become(before)
    same(bench.claims(), [], "claims")


def dead_agent(bench):
    """the claim of an agent that was killed before QEMU came is gone with the next call"""
    before, vm = pools(), bench.vm()
    process = agent(bench, vm)
    poke(process)
    process.stdout.readline()
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims while the agent lives")
    process.kill()
    process.wait()
    bench.ctl("reconcile", status=0)
    pools_become(before)
    same(bench.claims(), [], "claims")


def owner_is_another(bench):
    """a claim lives as long as the process that its host names as owner"""
    before, vm = pools(), bench.vm()
    owner = bench.start(["sleep", "60"])
    process = bench.start([sys.executable, "-c", f"""
import sys
sys.path.insert(0, {HERE!r})
import hugevm_host
host = hugevm_host.Host({harness.module!r}, [{bench.conf()!r}], owner_pid={owner.pid})
host.before_vm_start(open({vm.path!r}).read(), {HUGE!r})
"""])
    bench.end(process)
    bench.ctl("reconcile", status=0)
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims while the owner lives")
    same(bench.claims()[0]["owner_pid"], owner.pid, "owner")
    owner.kill()
    owner.wait()
    bench.ctl("reconcile", status=0)
    pools_become(before)


def orphaned_vm(bench):
    """a VM that outlives its agent keeps its pages until it ends"""
    before, vm = pools(), bench.vm()
    process = agent(bench, vm)
    poke(process)
    process.stdout.readline()
    open_host(bench).vm_launching(vm.uuid)
    machine = guest(bench, "touched", NEED, vm.uuid, "qemu-guest")
    process.kill()
    process.wait()
    bench.ctl("reconcile", status=0)
    check(is_alive(machine.pid), "the VM has died")
    same((total(), len(bench.claims())), (NEED, 1), "pages and claims while it runs")
    end_process(machine.pid)
    machine.wait()
    bench.ctl("reconcile", status=0)
    pools_become(before)
    same(bench.claims(), [], "claims")


if __name__ == "__main__":
    try:
        STATUS = main([
            real_vm, destroy_while_alive, saved_and_restored, saved_on_normal_pages, memory_plugged,
            migrated, reconciled, dry_run, reports, cancelled_growth, timed_out_growth,
            timed_out_growth_of_large_pages, progress_of_a_big_growth, no_progress_without_growth,
            failed_start, destroyed_twice, late_event, claimed_again,
            configuration_breaks_meanwhile, administrator_takes_pages, administrator_adds_pages,
            promised_pages, database_restarts, reserved_pages, two_agents, dead_agent,
            owner_is_another, orphaned_vm,
        ])
    finally:
        Embedded.close()
    sys.exit(STATUS)
