#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Time of hugevm's growth beside one plain write to nr_hugepages, in one run.

usage: HUGEVM_E2E=1 bench-growth.py HUGEVMCTL HUGEVM.SO [ROUNDS]

As root, on a host where nobody uses huge pages and some 20 GiB are available. Per row (2048 and
8192 pages of 2 MiB, 8 pages of 1 GiB) and round, which of the two comes first taking turns:
one write that adds the pages, and before_vm_start for a VM of as many. What a start costs besides
its growth is told apart: the same VM is started on the pages of the plain write. Medians in
milliseconds, by the clock and of processor time, which a busy machine does not change: the growth (start less start on free pages) over the write, the number of steps and
the longest one. Where the host gives fewer pages of 1 GiB, as many as it gives. The ledger is in a
tmpfs, as /run is on a host. A measurement, not a test: it asserts nothing. What is wanted: 1.05 at
most, and no step far above 100 ms.
"""
import os
import statistics
import sys
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))

import harness  # noqa: E402
import installed_host  # noqa: E402
import traces  # noqa: E402
from harness import G1, M2, Bench, knob, read, set_total, total, write  # noqa: E402
from hugevm_host import Host  # noqa: E402

ROWS = (M2, 2048), (M2, 8192), (G1, 8)
SPARE_KIB = 3 * 1024 * 1024
XML = """<domain type='qemu'><name>bench</name><uuid>{}</uuid><memory unit='KiB'>{}</memory>
<memoryBacking><hugepages><page size='{}' unit='KiB'/></hugepages></memoryBacking>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>
"""


def available_kib():
    return int(read("/proc/meminfo").split("MemAvailable:")[1].split()[0])


def timed(call, *arguments):
    """(wall clock, processor) in milliseconds, and the result."""
    begin = time.perf_counter(), time.process_time()
    result = call(*arguments)
    end = time.perf_counter(), time.process_time()
    return [(b - a) * 1000 for a, b in zip(begin, end)], result


class Row:
    def __init__(self, host, kib, pages):
        self.host, self.kib, self.pages, self.before = host, kib, pages, total(kib)
        self.times = {what: [] for what in ("write", "start", "free")}
        self.step_counts, self.longest_steps = [], []

    def _start(self):
        marks = []  # progress is told before each step, and after the last
        self.host.on_progress = lambda *_: marks.append(time.perf_counter())
        xml = XML.format(uuid.uuid4(), self.pages * self.kib, self.kib)
        took, result = timed(self.host.before_vm_start, xml)
        self.host.after_vm_destroy(result.uuid, result.generation)
        return took, [(b - a) * 1000 for a, b in zip(marks, marks[1:])]

    def by_hand(self):
        self.times["write"].append(timed(set_total, self.before + self.pages, self.kib)[0])
        try:
            self.times["free"].append(self._start()[0])
        finally:
            set_total(self.before, self.kib)

    def by_hugevm(self):
        took, steps = self._start()
        harness.same(total(self.kib), self.before, "pages after the VM")
        self.times["start"].append(took)
        self.step_counts.append(len(steps))
        self.longest_steps.append(max(steps))

    def round(self, number):
        ways = [self.by_hand, self.by_hugevm]
        for way in ways if number % 2 else reversed(ways):
            way()

    def show(self):
        for clock, name in enumerate(("clock", "processor")):
            times = {what: [both[clock] for both in values] for what, values in self.times.items()}
            median = {what: statistics.median(values) for what, values in times.items()}
            growth = median["start"] - median["free"]
            print(f"{self.pages:5} x {self.kib:7} KiB, {name:9}   write {median['write']:8.2f} "
                  f"({min(times['write']):.2f} to {max(times['write']):.2f})   "
                  f"growth {growth:8.2f}   ratio {growth / median['write']:5.3f}   "
                  f"start {median['start']:8.2f}, on free pages {median['free']:6.2f}")
        print(f"{'':20} steps {statistics.median(self.step_counts):g}, "
              f"longest {max(self.longest_steps):.1f} ms", flush=True)


def enter():
    """A mount namespace and a /run of our own."""
    installed_host.not_in_use()
    installed_host.succeeds(installed_host.libc.unshare(installed_host.CLONE_NEWNS),
                            "cannot have a mount namespace")
    installed_host.mount("none", "/", flags=installed_host.MS_REC | installed_host.MS_PRIVATE)
    installed_host.fresh_run()


def obtainable(kib, pages):
    before = total(kib)
    write(knob(kib), str(before + pages))
    got = total(kib) - before
    set_total(before, kib)
    return got


def measure(bench, rounds):
    host = Host(harness.module, [bench.conf()], name="bench")
    for kib, pages in ROWS:
        if available_kib() < kib * pages + SPARE_KIB:
            print(f"{pages:5} x {kib:7} KiB   left out: only {available_kib()} KiB available")
            continue
        row = Row(host, kib, min(obtainable(kib, pages) for _ in range(2)))
        for number in range(rounds):
            row.round(number)
        row.show()
    host.close()


def main(ctl, module, rounds="10"):
    harness.ctl, harness.module = os.path.abspath(ctl), os.path.abspath(module)
    enter()
    with harness.only_one():
        lack = harness.missing()
        if lack is not None:
            sys.exit(lack)
        with harness.state_directory():
            bench = Bench()
            try:
                measure(bench, int(rounds))
            finally:
                traces.remove_all()
                bench.restore()


if __name__ == "__main__":
    main(*sys.argv[1:])
