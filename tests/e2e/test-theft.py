#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A thief that maps huge pages without pause does not keep a VM from starting.

usage: test-theft.py HUGEVMCTL HUGEVM.SO [WORD]

A VM of two cells, whose pages QEMU clears one cell after the other for seconds, is started by
hugevmctl run and by a libvirtd with the hook, while thief.c takes whatever the kernel gives it
until QEMU has mapped all: from the moment when the VM has its pages, or from before its claim.
What a thief gets of a VM that nobody protects is in the control cases: without them this test
could not fail. HUGEVM_THEFT_ROUNDS says how often each start is tried (2).
"""

import functools
import os
import signal
import subprocess
import sys
import threading
import time

import harness
import libvirt_host
import traces
from harness import (G1, M2, Failure, check, free, knob, pools, pools_become, same, set_total,
                     smaps_of_guest, total, until, write)
from hugevm_host import Host as InProcessHost, HugevmError
from libvirt_host import GIGANTIC, HOOK, huge, recorded, replaced
from thief_process import Thief

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = int(os.environ.get("HUGEVM_THEFT_ROUNDS", "2"))
CELLS = 2
cell_gib = 2  # less where the machine's memory is too scattered for pages of 1 GiB
HOLD = 4  # pages at most in a thief's hands
PROTECTED = "guarded", "mounted"
ENOUGH = 500  # attempts: fewer show nothing
EXCHANGES, EXCHANGE_PAGES = 300, 512
GIGANTIC_MOUNT = f"{harness.MOUNT}-{G1}kB"


class Watch(threading.Thread):
    """Looks at one VM all the time: when it came into which state; lets the thief go in time."""

    def __init__(self, vm, thief, is_early):
        super().__init__()
        self.vm, self.thief, self.is_early = vm, thief, is_early
        self.entered = []  # (time, what)
        self.is_over = False

    def _note(self, what):
        if what not in [seen for _, seen in self.entered]:
            self.entered.append((time.monotonic(), what))

    def run(self):
        if self.is_early:
            self.thief.go()
        while not self.is_over:
            states = [claim["state"] for claim in recorded() if claim["uuid"] == self.vm.uuid]
            states += ["guarded"] if traces.guards() else []
            for state in states:
                self._note(state)
                if state in PROTECTED and self.thief.began is None:
                    self.thief.go()
            time.sleep(0.0005)

    def stop(self):
        self.is_over = True
        self.join()

    def phases(self, times):
        """How many of these moments fall into which of the phases."""
        result = {}
        for moment in times:
            before = [what for when, what in self.entered if when <= moment]
            phase = before[-1] if before else "no claim"
            result[phase] = result.get(phase, 0) + 1
        return result


def pages_of(kib):
    return CELLS * cell_gib * G1 // kib


def two_cells(bench, kib, **options):
    cells = "".join(f"<cell id='{number}'{cpus} memory='{cell_gib}' unit='GiB'/>"
                    for number, cpus in enumerate([" cpus='0'", *[""] * (CELLS - 1)]))
    return huge(bench, memory_mib=CELLS * cell_gib * 1024, page=GIGANTIC if kib == G1 else "",
                inside=f"<cpu><numa>{cells}</numa></cpu>", **options)


def by_run(bench, _host, vm, kib):
    process = bench.run(vm, hugepages=kib)
    line = process.stdout.readline()
    if line != f"running: '{vm.name}'\n":
        return process.communicate()[1].strip() or "run says nothing"
    return None


def end_run(bench, _host, _vm):
    bench.end(bench.started[-1], signal.SIGTERM)


def by_libvirtd(_bench, host, vm, _kib):
    done = host.create(vm)
    return done.stderr.strip() if done.returncode != 0 else None


def end_libvirtd(_bench, host, vm):
    host.destroy(vm)


def start_once(bench, host, door, kib, hold, is_early):
    """One start beside a thief: an error's text or None, and how many attempts there were."""
    begin, end = DOORS[door]
    vm = two_cells(bench, kib)
    with Thief(kib, hold) as thief:
        watch = Watch(vm, thief, is_early)
        watch.start()
        began = time.monotonic()
        try:
            error = begin(bench, host, vm, kib)
        finally:
            watch.stop()
        took = time.monotonic() - began
        check(thief.began is not None, f"the thief never began: {error} {watch.entered}")
        thief.stop()
    print(f"# {door}, {CELLS} x {cell_gib} GiB of {kib} KiB, thief holding {hold}"
          f"{', early' if is_early else ''}: {thief.attempts} attempts, {thief.got} got "
          f"{watch.phases(thief.times)}; {'started' if error is None else 'FAILED'} "
          f"in {took:.1f} s", flush=True)
    if error is None:
        check(sum(smaps_of_guest(vm.qemu(), kib)) >= pages_of(kib) * kib, "not on huge pages")
        end(bench, host, vm)
    return error, thief.attempts


def growable(kib, pages):
    """How many of so many pages can be added: tried, since only the kernel knows."""
    had = total(kib)
    write("/proc/sys/vm/drop_caches", "3")
    write(knob(kib), str(had + pages))
    got = total(kib) - had
    write(knob(kib), str(had))
    return got


def find_room(kib):
    """The largest cells that can be had, or these cases fail: they are not skipped. A page more
    is for what changes until they are needed; where memory lies scattered there may be none."""
    global cell_gib  # pylint: disable=global-statement
    for cell_gib, spare in ((2, 1), (1, 1), (1, 0)):
        pages = pages_of(kib) + spare
        if growable(kib, pages) == pages:
            return
    raise Failure(f"memory for {pages_of(kib)} pages of {kib} KiB cannot be had")


def all_starts(bench, host, door, kib, is_early=False):
    """ROUNDS starts, in turn beside a thief that holds pages and one that does not: the errors."""
    find_room(kib)
    before, errors, attempts = pools(), [], 0
    try:
        for number in range(ROUNDS):
            error, tried = start_once(bench, host, door, kib, (HOLD, 0)[number % 2], is_early)
            attempts += tried
            if error is not None:
                errors.append(error)
                bench.ctl("reconcile", status=0)
            pools_become(before, f"pools after start {number}")
            same(recorded(), [], "claims")
            same((traces.guards(), traces.launch_mounts()), ([], []), "guards, launch mounts")
    finally:
        traces.remove_all()
    check(attempts >= ENOUGH, f"the thief tried {attempts} times only")
    return errors


def starts_beside_thief(bench, host, door, kib, **options):
    same(all_starts(bench, host, door, kib, **options), [], "errors of starts beside a thief")


def run_small_pages(bench, host):
    """hugevmctl run with pages of 2 MiB starts beside a thief"""
    starts_beside_thief(bench, host, "run", M2)


def run_gigantic_pages(bench, host):
    """hugevmctl run with pages of 1 GiB starts beside a thief"""
    starts_beside_thief(bench, host, "run", G1)


def libvirtd_small_pages(bench, host):
    """libvirtd with pages of 2 MiB starts beside a thief"""
    starts_beside_thief(bench, host, "libvirtd", M2)


def libvirtd_gigantic_pages(bench, host):
    """libvirtd with pages of 1 GiB starts beside a thief"""
    starts_beside_thief(bench, host, "libvirtd", G1)


def early_thief(bench, host):
    """a thief that takes of the pages while they are being got makes hugevm get others for them"""
    starts_beside_thief(bench, host, "run", M2, is_early=True)


def early_thief_gigantic(bench, host):
    """where pages of 1 GiB that were stolen cannot be got again, hugevm says so, not QEMU"""
    for error in all_starts(bench, host, "run", G1, is_early=True):
        check("the VM does not start" not in error, error)


def exchanges(bench, _host):
    """a guard becomes a launch mount beside a thief, who gets nothing, every time"""
    set_total(EXCHANGE_PAGES)
    agent = InProcessHost(harness.module, [bench.conf(harness.STATIC)])
    lost, got, attempts = [], 0, 0
    for number in range(EXCHANGES):
        vm = bench.vm(memory_mib=EXCHANGE_PAGES * 2)
        directory = f"{harness.MOUNT}/{vm.name}"
        os.mkdir(directory)
        with Thief(M2, (HOLD, 0)[number % 2]) as thief:
            result = agent.before_vm_start(vm.xml, {"hugepages": str(M2)})
            thief.go()
            try:
                agent.vm_launching(vm.uuid, result.generation, memory_directories=[directory])
            except HugevmError as error:
                lost.append(str(error))
            thief.stop()
        got, attempts = got + thief.got, attempts + thief.attempts
        agent.vm_start_failed(vm.uuid, result.generation)
        os.rmdir(directory)
    agent.close()
    print(f"# {EXCHANGES} launches, {attempts} attempts, {got} got, {len(lost)} launches refused")
    same((traces.guards(), traces.launch_mounts()), ([], []), "guards, launch mounts")
    same((lost, got), ([], 0), "launches that the thief made fail, and pages that he got")
    check(attempts >= ENOUGH * EXCHANGES // 10, f"the thief tried {attempts} times only")


# --- the thief is real ------------------------------------------------------------------------


def control_without_hook(bench, host):
    """control: without hugevm the same thief makes the same VM fail on pages that were enough"""
    set_total(pages_of(M2))
    vm = two_cells(bench, M2)
    with replaced(HOOK), Thief(M2, HOLD) as thief:
        # it begins when QEMU is in its first cell
        begin = threading.Thread(target=lambda: (until(lambda: free() < total(), "QEMU", poll_s=0),
                                                 thief.go()))
        begin.start()
        host.fails(vm, "Cannot allocate memory")
        begin.join()
        thief.stop()
    print(f"# {thief.attempts} attempts, {thief.got} got")
    check(thief.got > 0, "the thief got nothing, and yet the VM failed")


def control_without_directory(bench, _host):
    """control: a guard keeps the thief out; after a launch without a directory it steals"""
    set_total(16)
    agent = InProcessHost(harness.module, [bench.conf(harness.STATIC)])
    vm = bench.vm(memory_mib=32)
    program = f"{bench.directory}/qemu-guest"
    os.symlink(sys.executable, program)
    with Thief(M2, HOLD) as thief, Thief(M2, HOLD) as later:
        result = agent.before_vm_start(vm.xml, {"hugepages": str(M2)})
        thief.go()
        time.sleep(0.3)
        thief.stop()
        later.go()
        agent.vm_launching(vm.uuid, result.generation)
        guest = bench.start([program, f"{HERE}/guest.py", "touched", "8", "--cells", "2",
                             "--pause", "300", "-uuid", vm.uuid])
        said = guest.stdout.readline().strip()
        later.stop()
    print(f"# beside the guard {thief.attempts} attempts, {thief.got} got; then {later.attempts} "
          f"attempts, {later.got} got; the guest: {said or guest.wait()}")
    agent.vm_start_failed(vm.uuid, result.generation)
    agent.close()
    check(later.got > 0 and said != "ready", "an unprotected VM found its pages beside the thief")
    check(thief.attempts >= ENOUGH, f"the thief tried {thief.attempts} times only")
    same(thief.got, 0, "pages stolen beside a guard")


DOORS = {"run": (by_run, end_run), "libvirtd": (by_libvirtd, end_libvirtd)}


def with_gigantic_mount(case):
    """libvirtd looks for mounts when it starts: there is one from the first case to the last."""
    @functools.wraps(case)
    def run(bench, host):
        if not os.path.ismount(GIGANTIC_MOUNT):  # in a namespace that ends with this program
            os.makedirs(GIGANTIC_MOUNT, exist_ok=True)
            subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=1G", "none",
                            GIGANTIC_MOUNT], check=True)
            host.libvirtd.restart()
        case(bench, host)
    return run


if __name__ == "__main__":
    sys.exit(libvirt_host.run([with_gigantic_mount(case) for case in (
        control_without_hook, control_without_directory, run_small_pages, run_gigantic_pages,
        libvirtd_small_pages, libvirtd_gigantic_pages, early_thief, early_thief_gigantic, exchanges,
    )]))
