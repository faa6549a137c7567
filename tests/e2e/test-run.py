#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""hugevmctl run: a real VM gets its pages, and whatever ends it, the pools are as before.

usage: test-run.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import os
import signal
import sys
import time

from harness import (DYNAMIC, G1, M2, STATE, STATIC, check, end_process, free, holds, hugetlbfs_of,
                     is_alive, main, pools, pools_become, read, same, set_total, smaps_of_guest, total,
                     until, write)

NEED = 128  # pages of 2 MiB for 256 MiB


def ends_by_time(bench):
    """a run that ends by its time leaves the pools as they were"""
    before = pools()
    vm = bench.vm()
    process = bench.run_until_up(vm, "--for", "1")
    same((total(), free()), (NEED, 0), "pages while it runs")
    out, _ = bench.end(process)
    holds(out, f"ending: '{vm.name}': time is up")
    same(vm.qemu(), 0, "QEMU")
    pools_become(before)
    same(bench.claims(), [], "claims")


def ended_by(bench, number):
    before = pools()
    vm = bench.vm()
    process = bench.run_until_up(vm)
    out, _ = bench.end(process, number)
    holds(out, f"ending: '{vm.name}': interrupted")
    same(vm.qemu(), 0, "QEMU")
    pools_become(before)
    same(bench.claims(), [], "claims")


def ends_by_sigint(bench):
    """a run that gets SIGINT leaves the pools as they were"""
    ended_by(bench, signal.SIGINT)


def ends_by_sigterm(bench):
    """a run that gets SIGTERM leaves the pools as they were"""
    ended_by(bench, signal.SIGTERM)


def qemu_killed(bench):
    """a QEMU that is killed ends its run, and the pools are as they were"""
    before = pools()
    vm = bench.vm()
    process = bench.run_until_up(vm)
    end_process(vm.qemu())
    out, _ = bench.end(process)
    holds(out, f"ending: '{vm.name}': QEMU has failed")
    pools_become(before)
    same(bench.claims(), [], "claims")


def start_fails(bench, **options):
    before = pools()
    vm = bench.vm(**options)
    _, err = bench.end(bench.run(vm), status=3)
    holds(err, f"VM '{vm.name}' does not start: ")
    same(vm.qemu(), 0, "QEMU")
    pools_become(before)
    same(bench.claims(), [], "claims")


def bad_machine_type(bench):
    """a start that libvirt refuses (machine type) gives the grown pages back"""
    start_fails(bench, machine="no-such-machine")


def missing_disk(bench):
    """a start that libvirt refuses (missing disk) gives the grown pages back"""
    start_fails(bench, devices="<disk type='file'><source file='/nonexistent/disk'/>"
                               "<target dev='vda'/></disk>")


def qemu_fails(bench):
    """a start that QEMU itself refuses gives the grown pages back"""
    before = pools()
    vm = bench.vm(inside="<cpu mode='custom'><model fallback='forbid'>qemu64</model>"
                         "<feature policy='require' name='svm'/></cpu>",
                  devices="<disk type='file'><driver type='qcow2'/>"
                          f"<source file='{bench.conf(DYNAMIC, 'no-qcow2')}'/>"
                          "<target dev='vda'/></disk>")
    _, err = bench.end(bench.run(vm), status=3)
    holds(err, f"VM '{vm.name}' does not start: ")
    pools_become(before)


def refused_without_dynamic(bench):
    """without dynamic allocation a VM that lacks pages is refused with all numbers, and not started"""
    set_total(100)
    before = pools()
    vm = bench.vm()
    _, err = bench.end(bench.run(vm, conf=bench.conf(STATIC)), status=1)
    holds(err, vm.name, "wants 128 pages of 2 MiB", "100 available", "28 short",
          "dynamic allocation is off", "what to do:", "use_dynamic_hugepages", "nr_hugepages")
    same(vm.qemu(), 0, "QEMU")
    same(pools(), before, "pools")
    same(bench.claims(), [], "claims")


def static_pages_are_enough(bench):
    """without dynamic allocation a VM runs on static pages, and the pool is not touched"""
    set_total(150)
    process = bench.run_until_up(bench.vm(), conf=bench.conf(STATIC))
    same((total(), free()), (150, 22), "pages while it runs")
    bench.end(process, signal.SIGTERM)
    until(lambda: free() == 150, "the pages")
    same(total(), 150, "total")


def beside_static_pages(bench):
    """beside 50 static pages 78 are grown, and exactly the 50 remain"""
    set_total(50)
    process = bench.run_until_up(bench.vm())
    same((total(), free()), (NEED, 0), "pages while it runs")
    bench.end(process, signal.SIGTERM)
    until(lambda: total() == free(), "the pages")
    same(total(), 50, "static pages that remain")


def without_preallocated(bench):
    """with use_preallocated_hugepages = false all is grown, beside 200 static pages"""
    set_total(200)
    conf = bench.conf(DYNAMIC + "use_preallocated_hugepages = false\n")
    process = bench.run_until_up(bench.vm(), conf=conf)
    same((total(), free()), (200 + NEED, 200), "pages while it runs")
    bench.end(process, signal.SIGTERM)
    until(lambda: total() == free(), "the pages")
    same(total(), 200, "static pages that remain")


def two_at_once(bench):
    """two VMs run side by side, and the first to end leaves the other its pages"""
    before = pools()
    first, second = bench.vm(), bench.vm(memory_mib=128)
    one = bench.run_until_up(first)
    two = bench.run_until_up(second)
    same((total(), free()), (192, 0), "pages of both")
    same(len(bench.claims()), 2, "claims")
    bench.end(one, signal.SIGTERM)
    until(lambda: total() == 64, "the first VM's pages")
    check(is_alive(second.qemu()), "the second VM has died")
    bench.end(two, signal.SIGTERM)
    pools_become(before)


def run_killed(bench):
    """a VM whose run was killed is ended by the next run, and its pages go back"""
    before = pools()
    first, second = bench.vm(), bench.vm(memory_mib=64)
    process = bench.run_until_up(first)
    left = first.qemu()
    bench.end(process, signal.SIGKILL, status=-signal.SIGKILL)
    check(is_alive(left), "QEMU died with its run: this test tests nothing")
    same(total(), NEED, "pages of a VM whose run is dead, but not its QEMU")
    process = bench.run_until_up(second, "--for", "1")
    check(not is_alive(left), "the next run left the VM of the killed one")
    same(total(), 32, "pages while the second VM runs")
    _, err = bench.end(process)
    holds(err, "left by a killed run", left)
    pools_become(before)
    same(bench.claims(), [], "claims")


def killed_then_status(bench):
    """a VM whose run was killed is ended by hugevmctl status, and its pages go back"""
    before = pools()
    vm = bench.vm()
    process = bench.run_until_up(vm)
    left = vm.qemu()
    bench.end(process, signal.SIGKILL, status=-signal.SIGKILL)
    check(is_alive(left), "QEMU died with its run: this test tests nothing")
    bench.ctl("status", status=0)
    check(not is_alive(left), "status left the VM of the killed run")
    pools_become(before)
    same(bench.claims(), [], "claims")


def killed_then_again(bench):
    """a VM whose run was killed starts again at once"""
    before = pools()
    vm = bench.vm()
    for _ in range(3):
        process = bench.run_until_up(vm)
        bench.end(process, signal.SIGKILL, status=-signal.SIGKILL)
    bench.end(bench.run_until_up(vm, "--for", "1"))
    pools_become(before)
    same(bench.claims(), [], "claims")


def killed_while_growing(bench):
    """a run killed in the middle of its growth is set right by hugevmctl status"""
    before = pools()
    pages = bench.growable(3000)
    partial = 0
    for threshold in (1, 60, 200, 500, 800, 1200):
        # the VM could never start: no QEMU comes in between
        vm = bench.vm(memory_mib=pages * 2, machine="no-such-machine")
        process = bench.run(vm)
        until(lambda: total() >= threshold or process.poll() is not None, "the growth", poll_s=0)
        same(process.poll(), None, f"the run, killed at {threshold} pages, had ended with")
        bench.end(process, signal.SIGKILL, status=-signal.SIGKILL)
        got = total()
        print(f"# killed at {threshold}: {got} of {pages} pages were there")
        partial += threshold <= got < pages
        bench.ctl("status", status=0)
        pools_become(before, f"pools after a kill at {threshold} pages")
        same(bench.claims(), [], "claims")
    check(partial >= 3, f"only {partial} kills came in the middle of the growth")


def interrupted_while_growing(bench):
    """a run that gets SIGTERM in the middle of its growth stops and gives back by itself"""
    before = pools()
    pages = bench.growable(3000)
    vm = bench.vm(memory_mib=pages * 2, machine="no-such-machine")
    process = bench.run(vm)
    until(lambda: total() >= 60 or process.poll() is not None, "the growth", poll_s=0)
    _, err = bench.end(process, signal.SIGTERM, status=1)
    holds(err, "cancelled", f"of {pages} pages")
    same(pools(), before, "pools")
    same(bench.claims(), [], "claims")


def without_hugepages(bench):
    """a VM without huge pages runs although configuration and ledger are garbage"""
    before = pools()
    bench.ctl("reconcile", status=0)
    garbage = "{{{ no ledger"
    os.makedirs(STATE, exist_ok=True)
    ledger = write(f"{STATE}/ledger.json", garbage)
    conf = bench.conf("[[[ no configuration\nx\n")
    process = bench.run_until_up(bench.vm(), "--for", "1", conf=conf, hugepages=None)
    same(pools(), before, "pools while it runs")
    bench.end(process)
    same(read(ledger), garbage, "the ledger")


def guest_memory(bench, kib, memory_mib, *arguments):
    """Private and shared KiB of a running VM on pages of this size."""
    before = pools()
    vm = bench.vm(memory_mib=memory_mib)
    process = bench.run_until_up(vm, *arguments, hugepages=kib)
    amounts = smaps_of_guest(vm.qemu(), kib)
    bench.end(process, signal.SIGTERM)
    pools_become(before)
    return amounts


def memory_is_huge(bench):
    """QEMU's memory really sits on pages of 2 MiB, private unless asked otherwise"""
    private, shared = guest_memory(bench, M2, 256)
    check(private >= 262144, f"{private} KiB private on huge pages")
    same(shared, 0, "KiB shared on huge pages")


def memory_is_shared(bench):
    """with hugepages_shared=true QEMU maps the huge pages shared"""
    before = pools()
    vm = bench.vm()
    process = bench.run_until_up(vm, "-p", "hugepages_shared=true")
    private, shared = smaps_of_guest(vm.qemu(), M2)
    check(private + shared >= 262144, f"{private} + {shared} KiB on huge pages")
    # smaps counts a shared mapping with one user as private: what it is says the mapping's flag
    rows = [line.split() for line in read(f"/proc/{vm.qemu()}/maps").splitlines()
            if "/libvirt/qemu" in line]
    check(rows and all("s" in row[1] for row in rows), f"mappings: {rows}")
    same(bench.claims()[0]["shared"], True, "shared in the claim")
    bench.end(process, signal.SIGTERM)
    pools_become(before)


def memory_is_gigantic(bench):
    """a 1 GiB guest sits on one page of 1 GiB, grown and given back"""
    with hugetlbfs_of(G1):  # libvirt wants a mount for each size
        private, shared = guest_memory(bench, G1, 1024)
    same(private + shared, G1, "KiB on pages of 1 GiB")


def not_a_multiple(bench):
    """257 MiB need 129 pages, with a warning, and all go back"""
    before = pools()
    process = bench.run_until_up(bench.vm(memory_mib=257))
    same(total(), 129, "total while it runs")
    _, err = bench.end(process, signal.SIGTERM)
    holds(err, "warning", "257 MiB", "1 MiB", "unused")
    pools_become(before)


def without_uuid(bench):
    """a domain without UUID gets one, and its pages go back"""
    before = pools()
    vm = bench.vm(with_uuid=False)
    process = bench.run(vm)
    same(process.stdout.readline(), f"running: '{vm.name}'\n", "output")
    claim = bench.claims()[0]
    same((claim["state"], claim["name"]), ("running", vm.name), "claim")
    vm.uuid = claim["uuid"]
    same(vm.qemu(), claim["qemu_pid"], "QEMU")
    bench.end(process, signal.SIGTERM)
    pools_become(before)


def leaves_no_directories(bench):
    """a run leaves nothing in the hugetlbfs mount"""
    mounts = [line.split()[1] for line in read("/proc/self/mounts").splitlines()
              if line.split()[2] == "hugetlbfs"]
    before = {mount: sorted(os.listdir(mount)) for mount in mounts}
    process = bench.run_until_up(bench.vm(memory_mib=64), "--for", "1")
    time.sleep(0.1)
    bench.end(process)
    same({mount: sorted(os.listdir(mount)) for mount in mounts}, before, "mounts")


if __name__ == "__main__":
    sys.exit(main([
        ends_by_time, ends_by_sigint, ends_by_sigterm, qemu_killed, bad_machine_type, missing_disk,
        qemu_fails, refused_without_dynamic, static_pages_are_enough, beside_static_pages,
        without_preallocated, two_at_once, run_killed, killed_then_status,
        killed_then_again, killed_while_growing,
        interrupted_while_growing, without_hugepages, memory_is_huge, memory_is_shared,
        memory_is_gigantic, not_a_multiple, without_uuid, leaves_no_directories,
    ]))
