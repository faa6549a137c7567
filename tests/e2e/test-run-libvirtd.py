#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""hugevmctl run through a libvirtd: what others do to the VM, and a daemon that goes away.

usage: test-run-libvirtd.py HUGEVMCTL HUGEVM.SO [WORD]

libvirt's hook is not there, so that it is the run that gives back.
"""

import functools
import signal
import sys
import time

from harness import end_process, free, holds, pools, pools_become, same, total, until
from libvirt_host import HOOK, NEED, recorded, replaced, run

URI = ("-c", "qemu:///system")


def without_hook(case):
    @functools.wraps(case)
    def alone(bench, host):
        with replaced(HOOK):
            case(bench, host)
    return alone


def ended(bench, process, vm, why, before, also=None):
    """The run ends, and says why; all is as before. What it says to stderr."""
    out, err = bench.end(process)
    same(out.replace(also, "") if also else out, f"ending: '{vm.name}': {why}\n", "output")
    pools_become(before)
    same(recorded(), [], "claims")
    return err


@without_hook
def paused_and_reset(bench, host):
    """a VM that is paused, resumed and reset keeps its pages; destroyed, it gives them back"""
    before, vm = pools(), bench.vm(memory_mib=64)
    process = bench.run_until_up(vm, *URI)
    qemu, claims = vm.qemu(), recorded()
    for command in ("suspend", "resume", "reset"):
        host.virsh(command, vm.uuid, status=0)
        same((vm.qemu(), total(), recorded()), (qemu, NEED, claims), f"QEMU, pages after {command}")
    rebooted = f"rebooted: '{vm.name}'\n"
    same(process.stdout.readline(), rebooted, "output")
    host.destroy(vm)
    # the firmware may reset the machine once more by itself
    ended(bench, process, vm, "destroyed from outside", before, also=rebooted)


@without_hook
def saved(bench, host):
    """a VM that is saved to a file gives its pages back"""
    before, vm = pools(), bench.vm(memory_mib=64)
    process = bench.run_until_up(vm, *URI)
    host.virsh("save", vm.uuid, f"{bench.directory}/saved", status=0)
    ended(bench, process, vm, "it has been saved", before)


@without_hook
def daemon_restarts(bench, host):
    """libvirtd is restarted: the VM goes on with its pages, and its end is still followed"""
    before, vm = pools(), bench.vm(memory_mib=64)
    process = bench.run_until_up(vm, *URI)
    qemu, claims = vm.qemu(), recorded()
    host.libvirtd.restart()
    same((vm.qemu(), total(), recorded()), (qemu, NEED, claims), "QEMU and pages")
    time.sleep(3)  # it looks once a second, and has nothing to say when it has found the daemon
    host.destroy(vm)
    ended(bench, process, vm, "destroyed from outside", before)


@without_hook
def qemu_ends_without_daemon(bench, host):
    """QEMU is killed while libvirtd is away: its pages go back; the other VM's stay"""
    before = pools()
    vm, other = bench.vm(memory_mib=64), bench.vm(memory_mib=64)
    process = bench.run_until_up(vm, *URI)
    beside = bench.run_until_up(other, *URI)
    host.libvirtd.kill()
    end_process(vm.qemu())
    until(lambda: process.poll() is not None, "the end of the run", 20)
    out, _ = bench.end(process)
    same(out, f"ending: '{vm.name}': the VM has ended unseen\n", "output")
    same((total(), free(), len(recorded())), (NEED, 0, 1), "pages and claims of the other")
    host.libvirtd.start()
    bench.end(beside, signal.SIGTERM)
    pools_become(before)
    same(recorded(), [], "claims")


@without_hook
def interrupted_without_daemon(bench, host):
    """a run that is to end while libvirtd is away leaves its VM alone, with its pages"""
    before, vm = pools(), bench.vm(memory_mib=64)
    process = bench.run_until_up(vm, *URI)
    qemu = vm.qemu()
    host.libvirtd.kill()
    out, err = bench.end(process, signal.SIGTERM, status=3)
    same(out, "", "output")
    holds(err, f"VM '{vm.name}' cannot be ended, so it goes on with its pages: ")
    bench.ctl("reconcile", status=0)
    same((vm.qemu(), total(), free()), (qemu, NEED, 0), "QEMU and pages after a drain")
    end_process(qemu)
    until(lambda: not vm.qemu(), "the end of QEMU", 10)
    bench.ctl("reconcile", status=0)
    pools_become(before)
    same(recorded(), [], "claims")
    host.libvirtd.start()


@without_hook
def memory_device(bench, host):
    """a DIMM of normal pages comes to a VM that runs: neither pages nor claim are touched"""
    before = pools()
    vm = bench.vm(memory_mib=64, inside=(
        "<maxMemory slots='2' unit='MiB'>1024</maxMemory><features><acpi/></features>"
        "<cpu><numa><cell id='0' cpus='0' memory='64' unit='MiB'/></numa></cpu>"))
    process = bench.run_until_up(vm, *URI)
    claims = recorded()
    dimm = f"{bench.directory}/dimm.xml"
    with open(dimm, "w", encoding="ascii") as file:
        file.write("<memory model='dimm'><source><pagesize unit='KiB'>4</pagesize></source><target>"
                   "<size unit='MiB'>128</size><node>0</node></target></memory>")
    host.virsh("attach-device", vm.uuid, dimm, "--live", status=0)
    same((total(), free(), recorded()), (NEED, 0, claims), "pages and claims")
    process.send_signal(signal.SIGTERM)
    same(ended(bench, process, vm, "interrupted", before), "", "standard error")


if __name__ == "__main__":
    sys.exit(run([paused_and_reset, saved, daemon_restarts, qemu_ends_without_daemon,
                  interrupted_without_daemon, memory_device]))
