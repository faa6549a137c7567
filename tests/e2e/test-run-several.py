#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""hugevmctl run with several VMs: all or none at the start, each on its own after it.

usage: test-run-several.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import os
import signal
import sys

import harness
from harness import (DYNAMIC, M2, STATIC, check, end_process, free, holds, is_alive, main, pools,
                     pools_become, processes_of, read, same, set_total, total, until)

NEED = 32  # pages of 2 MiB for 64 MiB
BIG_MIB = 4096


def run_all(bench, vms, *arguments, conf=None):
    """Starts hugevmctl run with all of them and leaves it running."""
    return bench.start([harness.ctl, "--conf", conf or bench.conf(), "run",
                        *(vm.path for vm in vms), "-p", f"hugepages={M2}", *arguments])


def all_up(bench, vms, *arguments, **options):
    process = run_all(bench, vms, *arguments, **options)
    for vm in vms:
        line = process.stdout.readline()
        if line != f"running: '{vm.name}'\n":
            process.terminate()
            raise harness.Failure(f"run does not run: {line!r} {process.communicate()[1]}")
    return process


def small(bench, count):
    return [bench.vm(memory_mib=64) for _ in range(count)]


def back(bench, before, vms):
    pools_become(before)
    same(bench.claims(), [], "claims")
    same([vm.qemu() for vm in vms], [0] * len(vms), "QEMUs")


def one_by_one(bench):
    """three VMs run in one run, each gives back its pages at its end, and a signal ends the rest"""
    set_total(10)
    before, vms = pools(), small(bench, 3)
    process = all_up(bench, vms)
    same((total(), free()), (3 * NEED, 0), "pages of all")
    same({claim["qemu_pid"] for claim in bench.claims()}, {vm.qemu() for vm in vms}, "QEMUs")
    end_process(vms[1].qemu())
    same(process.stdout.readline(), f"ending: '{vms[1].name}': QEMU has failed\n", "output")
    # the ten that were there stay: they are not hugevm's to take away
    until(lambda: (total(), free()) == (2 * NEED + 10, 10), "the pages of the one that has ended")
    check(vms[0].qemu() and vms[2].qemu(), "the others have ended, too")
    same({claim["uuid"] for claim in bench.claims()}, {vms[0].uuid, vms[2].uuid}, "claims")
    out, _ = bench.end(process, signal.SIGTERM)
    same(sorted(out.splitlines()), sorted(f"ending: '{vm.name}': interrupted"
                                          for vm in (vms[0], vms[2])), "output")
    back(bench, before, vms)


def ends_with_the_last(bench):
    """a run ends by itself with the last of its VMs"""
    before, vms = pools(), small(bench, 2)
    process = all_up(bench, vms)
    for vm in vms:
        check(process.poll() is None, "the run has ended before its last VM")
        end_process(vm.qemu())
        until(lambda vm=vm: vm.uuid not in {claim["uuid"] for claim in bench.claims()}, "its end")
    bench.end(process)
    back(bench, before, vms)


def one_refused(bench):
    """of three VMs the last is refused: no QEMU is ever started, and nothing is taken"""
    set_total(2 * NEED + 10)
    before, vms = pools(), small(bench, 3)
    process = run_all(bench, vms, conf=bench.conf(STATIC))
    seen = set()
    while process.poll() is None:
        seen.update(pid for vm in vms for pid in processes_of(vm.uuid))
    out, err = bench.end(process, status=1)
    same((out, seen), ("", set()), "output, and QEMUs seen")
    holds(err, vms[2].name, "wants 32 pages of 2 MiB", "10 available", "what to do:")
    back(bench, before, vms)


def one_does_not_start(bench):
    """of three VMs libvirt cannot start the second: the first is ended, the third never begun"""
    before = pools()
    vms = [bench.vm(memory_mib=64), bench.vm(memory_mib=64, machine="no-such-machine"),
           bench.vm(memory_mib=64)]
    out, err = bench.end(run_all(bench, vms), status=3)
    same(out, f"running: '{vms[0].name}'\n"
              f"ending: '{vms[0].name}': another VM of this run does not start\n", "output")
    holds(err, f"VM '{vms[1].name}' does not start: ")
    back(bench, before, vms)


def twins(bench):
    """a domain that is given twice is refused before anything is taken"""
    before, vm = pools(), bench.vm()
    out, err = bench.end(run_all(bench, [vm, vm]), status=1)
    same(out, "", "output")
    holds(err, "the domains 1 and 2 have the same UUID")
    back(bench, before, [vm])


def ends_while_another_starts(bench):
    """a VM that ends while QEMU of the next gets its memory gives its pages back at once"""
    before = pools()
    pages = min(BIG_MIB // 2, bench.growable(BIG_MIB // 2))
    vms = [bench.vm(memory_mib=64), bench.vm(memory_mib=2 * pages)]
    process = run_all(bench, vms)
    until(lambda: process.poll() is not None or vms[1].qemu(), "QEMU of the second", poll_s=0)
    check(free() > 0, "the second has its memory already: this test tests nothing")
    end_process(vms[0].qemu())
    until(lambda: total() == pages or process.poll() is not None, "the pages of the first", poll_s=0)
    same((total(), free() > 0), (pages, True), "pages, while the second is getting its own")
    lines = [process.stdout.readline() for _ in range(3)]
    same(lines, [f"running: '{vms[0].name}'\n", f"ending: '{vms[0].name}': QEMU has failed\n",
                 f"running: '{vms[1].name}'\n"], "output")
    bench.end(process, signal.SIGTERM)
    back(bench, before, vms)


def interrupted_while_growing(bench):
    """SIGTERM while the second VM's pages are being got: both go without, and nothing is left"""
    before = pools()
    pages = bench.growable(3000)
    vms = [bench.vm(memory_mib=64), bench.vm(memory_mib=2 * (pages - NEED))]
    process = run_all(bench, vms)
    until(lambda: total() >= NEED + 60 or process.poll() is not None, "the growth", poll_s=0)
    out, err = bench.end(process, signal.SIGTERM, status=1)
    holds(err, "cancelled")
    same(out, "", "output")
    back(bench, before, vms)


def killed(bench):
    """a run with three VMs that gets SIGKILL: drain ends its VMs, and all pages go back"""
    before, vms = pools(), small(bench, 3)
    process = all_up(bench, vms)
    left = [vm.qemu() for vm in vms]
    bench.end(process, signal.SIGKILL, status=-signal.SIGKILL)
    check(all(is_alive(pid) for pid in left), "QEMU died with its run: this test tests nothing")
    same(total(), 3 * NEED, "pages of VMs whose run is dead")
    err = bench.ctl("drain", status=0).stderr
    holds(err, *(f"left by a killed run (QEMU is process {pid})" for pid in left))
    back(bench, before, vms)


def killed_then_again(bench):
    """a run with two VMs that gets SIGKILL: the same two start again at once"""
    before, vms = pools(), small(bench, 2)
    bench.end(all_up(bench, vms), signal.SIGKILL, status=-signal.SIGKILL)
    bench.end(all_up(bench, vms, "--for", "1"))
    back(bench, before, vms)


def leaves_no_directories(bench):
    """VMs that end in another order than they started leave nothing in the hugetlbfs mounts"""
    mounts = [line.split()[1] for line in read("/proc/self/mounts").splitlines()
              if line.split()[2] == "hugetlbfs"]
    before = {mount: sorted(os.listdir(mount)) for mount in mounts}
    vms = small(bench, 3)
    process = all_up(bench, vms)
    for vm in (vms[2], vms[0], vms[1]):
        end_process(vm.qemu())
        holds(process.stdout.readline(), vm.name)
    bench.end(process)
    same({mount: sorted(os.listdir(mount)) for mount in mounts}, before, "mounts")


def same_xml_as_printed(bench):
    """what --config-only prints starts without any property, and neither takes nor leaves a page"""
    before, vm = pools(), bench.vm(memory_mib=64)
    conf = bench.conf(DYNAMIC)
    printed = bench.ctl("run", vm.path, "-p", f"hugepages={M2}", "--config-only", conf=conf,
                        status=0)
    same((pools(), bench.claims()), (before, []), "pools and claims after --config-only")
    vm.path = harness.write(f"{bench.directory}/printed.xml", printed.stdout)
    process = bench.run_until_up(vm, conf=conf, hugepages=None)
    same((total(), free()), (NEED, 0), "pages while it runs")
    bench.end(process, signal.SIGTERM)
    back(bench, before, [vm])


if __name__ == "__main__":
    sys.exit(main([
        one_by_one, ends_with_the_last, one_refused, one_does_not_start, twins,
        ends_while_another_starts, interrupted_while_growing, killed, killed_then_again,
        leaves_no_directories, same_xml_as_printed,
    ]))
