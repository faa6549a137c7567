#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many VMs of libvirt's at once, whose QEMUs and libvirtd die: at the end all pages are back.

usage: test-host-life.py HUGEVMCTL HUGEVM.SO [WORD]

Beside what hugevm adds lie pages of the administrator's, which is the harder case: nothing may be
handed over to the kernel then, so each page comes back by an event, or not at all.
"""

import concurrent.futures
import contextlib
import os
import shutil
import subprocess
import sys
import time

import harness
import traces
from harness import (DYNAMIC, STATIC, Failure, check, end_process, free, holds, is_alive, pools,
                     pools_become, read, same, set_total, total, until, write)
from installed_host import HOOKS, LOCK, SCRATCH
from libvirt_host import HOOK, huge, recorded, run, script
from two_hosts import Peer

VMS = 20
MEMORY_MIB = 32
EACH = MEMORY_MIB // 2  # pages of 2 MiB
STATIC_PAGES = 64
DIMM_MIB = 64
PARALLEL = 20
START_S = 90
ROOM_FOR_DIMM = ("<features><acpi/></features><maxMemory slots='2' unit='MiB'>512</maxMemory>"
                 f"<cpu><numa><cell id='0' cpus='0' memory='{MEMORY_MIB}' unit='MiB'/>"
                 "</numa></cpu>")
DIMM = ("<memory model='dimm'><source><pagesize unit='KiB'>2048</pagesize></source>"
        f"<target><size unit='MiB'>{DIMM_MIB}</size><node>0</node></target></memory>")


def nothing_left(bench, before):
    """No event to come is counted on: the ledger is read as it is before hugevmctl may repair."""
    until(lambda: pools() == before and not recorded(), "the pages and the last claim", 10)
    same((traces.guards(), traces.launch_mounts()), ([], []), "guards and launch mounts")
    same(bench.json("audit", "-c", "qemu:///system", status=0)["findings"], [], "findings")


@contextlib.contextmanager
def told(host):
    """Where it fails, what there is, and what hugevm has told syslog."""
    try:
        yield
    except Failure as error:
        claims = [f"{claim['name']} {claim['state']}" for claim in recorded()]
        raise Failure(f"{error}\n{pools()}, {len(claims)} claims: {claims}\n"
                      + "\n".join(host.syslog.messages("hugevm"))) from error


def in_use():
    return total() - free()


def at_once(function, vms):
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as threads:
        return list(threads.map(function, vms))


def running(host, vms):
    known = host.virsh("list", "--uuid", status=0).stdout.split()
    return [vm for vm in vms if vm.uuid in known and vm.qemu()]


def start_all(host, vms):
    """As whoever watches over a service: what does not run is started again, for some time."""
    def start(vm):
        end = time.monotonic() + START_S
        while True:
            done = host.create(vm)
            if done.returncode == 0:
                return
            with_pages = "hugevm" in done.stderr
            check(not with_pages, f"hugevm refuses it: {done.stderr}")
            check(time.monotonic() < end, f"it does not start: {done.stderr}")
            time.sleep(0.2)
            if "already" in done.stderr and vm in running(host, [vm]):
                return
    at_once(start, vms)


def killed_in_starts(host, vms):
    """libvirtd is killed when some VMs run, while others are on their way."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        starts = thread.submit(at_once, host.create, vms)
        until(lambda: [claim["state"] for claim in recorded()].count("running") >= len(vms) // 3,
              "some of the VMs", START_S)
        host.libvirtd.kill()
        statuses = [done.returncode for done in starts.result()]
    host.libvirtd.start()
    return statuses.count(0)


def killed_beside_restart(host, vms):
    """QEMUs are killed while libvirtd serves, ends, is not there, and starts."""
    parts = [vms[i::4] for i in range(4)]
    for vm in parts[0]:
        end_process(vm.qemu())
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        stopped = thread.submit(host.libvirtd.stop)
        for vm in parts[1]:
            end_process(vm.qemu())
        stopped.result()
        for vm in parts[2]:
            end_process(vm.qemu())
        # not started in the thread: libvirtd dies with whoever has started it
        killed = thread.submit(lambda: [end_process(vm.qemu()) for vm in parts[3]])
        host.libvirtd.start()
        killed.result()
    for vm in vms:
        host.wait_gone(vm)


def saved_and_restored(bench, host, vm):
    image, used = f"{bench.directory}/saved", in_use()
    host.virsh("save", vm.uuid, image, status=0)
    until(lambda: in_use() == used - EACH, "the pages of the saved VM")
    same(pools()[2048][1], STATIC_PAGES, "free pages while it is saved")
    check(vm.uuid not in [claim["uuid"] for claim in recorded()], "a saved VM has a claim")
    host.virsh("restore", image, status=0)
    check(vm.qemu(), "the restored VM has no QEMU")
    same(in_use(), used, "pages in use after the restore")
    claim = next(claim for claim in recorded() if claim["uuid"] == vm.uuid)
    same(claim["state"], "running", "state of the restored VM's claim")


def with_dimm(bench, host, vm):
    """libvirt calls no hook when memory is plugged: its pages are the administrator's free ones."""
    device = write(f"{bench.directory}/dimm.xml", DIMM)
    free_before = pools()[2048][1]
    check(free_before >= DIMM_MIB // 2, f"no free pages for a DIMM: {pools()}")
    host.virsh("attach-device", vm.uuid, device, "--live", status=0)
    same(pools()[2048][1], free_before - DIMM_MIB // 2, "free pages after the DIMM")


def migrated(bench, host, peer, vm):
    """To a host that resizes nothing: there the VM is on the administrator's free pages."""
    sockets = f"{bench.directory}/sockets"
    os.makedirs(sockets)
    os.chmod(sockets, 0o777)
    grown = total() - STATIC_PAGES
    host.virsh("migrate", "--live", vm.uuid, peer.uri, "--migrateuri", f"unix://{sockets}/peer",
               status=0)
    same(peer.claims(), [(vm.uuid, "running")], "claims of the other host")
    host.wait_gone(vm)
    until(lambda: vm.uuid not in [claim["uuid"] for claim in recorded()], "the claim to go", 10)
    print(f"# migrated: {grown - (total() - STATIC_PAGES)} pages were given back here")
    peer.virsh("destroy", vm.uuid, status=0)
    until(lambda: not peer.claims(), "the other host to let go", 10)
    same(peer.findings(), [], "what audit finds there")


def ended_in_order(host, vms):
    def end(numbered):
        i, vm = numbered
        if i % 3 == 0:
            host.virsh("destroy", vm.uuid, status=0)
        elif i % 3 == 1:
            host.virsh("destroy", vm.uuid, "--graceful", status=0)
        else:  # as a guest that switches itself off: the answer is lost, QEMU is gone
            host.virsh("qemu-monitor-command", vm.uuid, "--hmp", "quit")
        host.wait_gone(vm)
    at_once(end, list(enumerate(vms)))


def starts_overlap(bench, host):
    """pages of a VM go back when it ends, although others were started during its start

    Each of their QEMUs is in a mount namespace with a copy of its launch mount. libvirtd would
    remove the directory, and the kernel with it those copies: so it is not there.
    """
    set_total(4)
    before = pools()
    first, second = (huge(bench, memory_mib=MEMORY_MIB, machine="pc") for _ in range(2))
    plain = bench.vm(memory_mib=MEMORY_MIB, machine="pc")
    go_on = f"{bench.directory}/go-on"
    with script(f"{HOOKS}/qemu.d/60-slow",
                f'[ "$1" = {first.name} ] && [ "$2" = start ] || exit 0\n'
                f"for i in $(seq 600); do [ -e {go_on} ] && exit 0; sleep 0.1; done"):
        process = bench.start(["virsh", "-c", "qemu:///system", "create", first.path])
        until(lambda: [claim["state"] for claim in recorded()] == ["mounted"], "its mount", 30)
        host.start(second)
        host.start(plain)
        write(go_on, "")
        bench.end(process)
    host.libvirtd.kill()
    qemu = first.qemu()
    end_process(qemu)
    until(lambda: not is_alive(qemu), "QEMU's end")
    bench.ctl("reconcile", status=0)
    with told(host):
        until(lambda: pools()[2048] == (EACH + 4, 4, 0, 0), "the pages of the first one", 5)
    same([claim["uuid"] for claim in recorded()], [second.uuid], "claims")
    host.libvirtd.start()
    host.wait_gone(first)
    host.destroy(second)
    host.destroy(plain)
    nothing_left(bench, before)


def a_hosts_life(bench, host):
    """20 VMs, half of them killed, libvirtd restarted, one saved, one moved, a DIMM: all is back"""
    set_total(STATIC_PAGES)
    before, begin = pools(), time.monotonic()
    # the first start probes QEMU, for seconds: not what is to be interrupted
    first = huge(bench, memory_mib=MEMORY_MIB, machine="pc")
    host.start(first)
    host.destroy(first)
    nothing_left(bench, before)
    print(f"# one VM: {time.monotonic() - begin:.1f} s")
    vms = [huge(bench, memory_mib=MEMORY_MIB, inside=ROOM_FOR_DIMM, machine=("pc", "q35")[i % 2])
           for i in range(VMS)]
    up = killed_in_starts(host, vms)
    print(f"# libvirtd killed after {up} of {VMS} starts: {time.monotonic() - begin:.1f} s")
    start_all(host, [vm for vm in vms if vm not in running(host, vms)])
    same(len(running(host, vms)), VMS, "VMs that run")
    until(lambda: [claim["state"] for claim in recorded()] == ["running"] * VMS, "their claims")
    # what a start was killed with may lie free still: the next end of a VM gives it back
    same(in_use(), VMS * EACH, "pages in use while all run")
    print(f"# all run: {time.monotonic() - begin:.1f} s")
    victims, others = vms[:VMS // 2], vms[VMS // 2:]
    killed_beside_restart(host, victims)
    left = STATIC_PAGES + len(others) * EACH, STATIC_PAGES
    with told(host):
        until(lambda: pools()[2048][:2] == left, "the pages of those that were killed", 10)
    same(sorted(claim["uuid"] for claim in recorded()), sorted(vm.uuid for vm in others), "claims")
    print(f"# half of them killed: {time.monotonic() - begin:.1f} s")
    saved_and_restored(bench, host, others[0])
    with_dimm(bench, host, others[1])
    print(f"# saved, restored, DIMM: {time.monotonic() - begin:.1f} s")
    with contextlib.closing(Peer("peer")) as peer:
        peer.conf(STATIC)
        migrated(bench, host, peer, others[2])
    print(f"# migrated: {time.monotonic() - begin:.1f} s")
    during = bench.ctl("audit", "-c", "qemu:///system")
    print(f"# audit: {during.returncode} {during.stdout.strip()}")
    start_all(host, victims[:2])
    ended_in_order(host, others[:2] + others[3:] + victims[:2])
    pools_become(before)
    nothing_left(bench, before)
    print(f"# all ended: {time.monotonic() - begin:.1f} s")


def files_of_hugevm():
    """What was installed, and what the host has made since; configuration is the user's."""
    found = []
    for directory in ("/etc", "/usr", "/var"):
        upper = f"{SCRATCH}{directory}/upper"
        for path, directories, files in os.walk(upper):
            names = [f"{directory}{path[len(upper):]}/{name}" for name in directories + files]
            found += [name for name in names if "hugevm" in name and os.path.lexists(name)
                      and not name.startswith("/etc/hugevm")]
    return sorted(found)


def removed(bench, host):
    """drain, and then an uninstallation, leave nothing of hugevm but its configuration"""
    before, vm = pools(), huge(bench, memory_mib=MEMORY_MIB, machine="pc")
    build = os.path.dirname(os.path.dirname(os.path.abspath(harness.ctl)))
    check(HOOK in files_of_hugevm(), f"this tests nothing: {files_of_hugevm()}")
    host.start(vm)
    host.conf(f"{DYNAMIC}[hugevm]\nenabled = false\n")
    said = bench.ctl("drain", status=1).stderr
    holds(said, vm.name, vm.uuid, f"{EACH} x 2 MiB", "what to do: end these VMs or migrate them")
    same(pools()[2048][0], EACH, "total, as the VM still runs")
    host.destroy(vm)
    same(bench.ctl("drain", "--wait", "10", status=0).stderr, "", "what drain says")
    same(pools(), before, "pools")
    done = subprocess.run(["ninja", "-C", f"{build}/host", "uninstall"], text=True, check=False,
                          capture_output=True)
    same((done.returncode, files_of_hugevm()), (0, []), f"status, files left ({done.stderr})")
    mounts = [line for line in read("/proc/self/mounts").splitlines()
              if f" {harness.STATE}" in line.replace(LOCK, "") or "hugevm:" in line]
    same((traces.guards(), mounts), ([], []), "guards and mounts")
    shutil.rmtree("/run/hugevm")
    plain = bench.vm(memory_mib=MEMORY_MIB, machine="pc")
    host.start(plain)
    host.destroy(plain)


if __name__ == "__main__":
    sys.exit(run([starts_overlap, a_hosts_life, removed]))
