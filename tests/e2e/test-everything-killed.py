#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL to all at once, agent or libvirtd, hook, QEMU: one further call, and all is as before.

usage: test-everything-killed.py HUGEVMCTL HUGEVM.SO [WORD]

CALLS are the further calls, each of which must be enough; None stands for no call at all.
"""

import contextlib
import itertools
import os
import sys

import traces
from harness import (M2, check, end_process, is_alive, pools, pools_become, processes_of, read, same,
                     set_total, total, until)
from installed_host import HOOKS
from libvirt_host import NEED, huge, recorded, run, script

CALLS = (("reconcile",), ("status",), ("claims",))
STATICS = (0, 20)


def held():
    """What the kernel holds for claims."""
    return traces.guards(), traces.launch_mounts()


def kill_all(*pids):
    """To all before any is seen to end."""
    for pid in pids:
        end_process(pid)
    for pid in pids:
        until(lambda pid=pid: not is_alive(pid), f"the end of process {pid}", 10)


def set_right(bench, before, call):
    """One call, or none; and there was something to do, or this tests nothing."""
    if call is not None:
        check(pools() != before or held() != ([], []) or recorded(),
              "nothing was left to set right")
        bench.ctl(*call, status=0)
    pools_become(before)
    same(held(), ([], []), "guards and launch mounts left")
    same(recorded(), [], "claims left")


def each_way():
    """Static pages, and the further call: each with each only where there is time for it."""
    if os.environ.get("HUGEVM_KILLED") == "full":
        return itertools.product(STATICS, CALLS)
    return ((0, CALLS[0]), (20, CALLS[1]), (0, CALLS[2]))


# --- the embedded driver ------------------------------------------------------------------------


def agent_running(bench, _host):
    """hugevmctl run and its QEMU killed at once while the VM runs"""
    for static_pages, call in each_way():
        set_total(static_pages)
        before, vm = pools(), bench.vm(memory_mib=2 * NEED)
        process = bench.run_until_up(vm)
        same(total(), NEED, "pages while it runs")
        kill_all(process.pid, vm.qemu())
        bench.end(process, status=None)
        set_right(bench, before, call)


def agent_starting(bench, _host):
    """hugevmctl run and its QEMU killed at once while QEMU gets its memory"""
    for static_pages, call in each_way():
        set_total(static_pages)
        before, vm = pools(), bench.vm(memory_mib=1024)
        process = bench.run(vm)
        until(vm.qemu, "QEMU", poll_s=0)
        kill_all(process.pid, *processes_of(vm.uuid))
        bench.end(process, status=None)
        set_right(bench, before, call)


def without_a_call(bench, before, *pids):
    """The kernel alone brings the pages back; what stays is a record, which the next call removes."""
    same(pools()[M2], (NEED, 0, NEED, 0), "total, free, surplus, resv of a VM handed over")
    kill_all(*pids)
    pools_become(before)
    bench.ctl("reconcile", status=0)
    pools_become(before)
    same((held(), recorded()), (([], []), []), "what is left")


def agent_handed_over(bench, _host):
    """hugevmctl run and its QEMU killed at once: pages handed over are back without any call"""
    before, vm = pools(), bench.vm(memory_mib=2 * NEED)
    process = bench.run_until_up(vm)
    without_a_call(bench, before, process.pid, vm.qemu())
    bench.end(process, status=None)


# --- libvirtd -----------------------------------------------------------------------------------


def libvirtd_running(bench, host):
    """libvirtd and its QEMU killed at once while the VM runs"""
    for static_pages, call in each_way():
        set_total(static_pages)
        before, vm = pools(), huge(bench)
        qemu = host.start(vm)
        same(total(), NEED, "pages while it runs")
        kill_all(host.libvirtd.process.pid, qemu)
        host.libvirtd.kill()
        set_right(bench, before, call)
        host.libvirtd.start()


def libvirtd_handed_over(bench, host):
    """libvirtd and its QEMU killed at once: pages handed over are back without any call"""
    before, vm = pools(), huge(bench)
    qemu = host.start(vm)
    without_a_call(bench, before, host.libvirtd.process.pid, qemu)
    host.libvirtd.kill()
    host.libvirtd.start()


@contextlib.contextmanager
def stopping_at(bench, operation):
    """libvirtd waits in a hook behind ours; a function that gives that hook's pid."""
    pid_file = f"{bench.directory}/hook.pid"
    with script(f"{HOOKS}/qemu.d/60-wait",
                f'[ "$2" = {operation} ] || exit 0\n'
                f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}\nexec sleep 300"):
        yield lambda: until(lambda: os.path.exists(pid_file) and int(read(pid_file)), "the hook")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pid_file)


def killed_at(bench, host, operation):
    for static_pages, call in each_way():
        set_total(static_pages)
        before, vm = pools(), huge(bench)
        with stopping_at(bench, operation) as hook:
            virsh = bench.start(["virsh", "-c", "qemu:///system", "create", vm.path])
            kill_all(host.libvirtd.process.pid, hook(), *processes_of(vm.uuid))
            host.libvirtd.kill()
            bench.end(virsh, status=None)
        for pid in processes_of(vm.uuid):  # let go by libvirtd's end in the middle of its start
            kill_all(pid)
        set_right(bench, before, call)
        host.libvirtd.start()


def libvirtd_claimed(bench, host):
    """libvirtd and hook killed at once when the VM has its pages, and no QEMU"""
    killed_at(bench, host, "prepare")


def libvirtd_launching(bench, host):
    """libvirtd, hook and QEMU killed at once right before QEMU runs"""
    killed_at(bench, host, "start")


def libvirtd_started(bench, host):
    """libvirtd, hook and QEMU killed at once when QEMU has its memory"""
    killed_at(bench, host, "started")


if __name__ == "__main__":
    sys.exit(run([agent_running, agent_starting, agent_handed_over, libvirtd_running,
                  libvirtd_handed_over, libvirtd_claimed,
                  libvirtd_launching, libvirtd_started]))
