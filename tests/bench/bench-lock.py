#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a start that needs no growth waits while another process is stuck growing the same pool.

usage: HUGEVM_E2E=1 bench-lock.py HUGEVMCTL HUGEVM.SO [STARTS]

As root, on a host where nobody uses huge pages. Another host grows a pool for a VM and is stopped
by SIGSTOP in the middle of a write: it holds the lock of that size, and its write is open in the
ledger. Meanwhile STARTS (200) VMs that find all their pages free are started, up to vm_launching,
and then ended; before that as many while nobody else is there. Prints per call median, p99 and
maximum in milliseconds, and the ratio. A measurement, not a test: it asserts nothing. What is
wanted: no start above 10 ms.
"""
import fcntl
import os
import signal
import statistics
import sys
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))

import harness  # noqa: E402
import traces  # noqa: E402
from harness import M2, STATE, Bench, free, set_total, total, until  # noqa: E402
from hugevm_host import Host, HugevmError  # noqa: E402

PAGES = 2
GROWTH_PAGES = 4096  # of the host that gets stuck, in more than one step
TRIES = 50
LIMIT_S = 25  # for the ends of each of the two rows
HUGE = {"hugepages": str(M2)}
CONF = "[performance]\nuse_dynamic_hugepages = true\nuse_preallocated_hugepages = {}\n"
CALLS = "before_vm_start", "vm_launching", "after_vm_destroy"
XML = """<domain type='qemu'><name>bench</name><uuid>{}</uuid><memory unit='MiB'>{}</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>
"""


def xml_of(pages):
    return XML.format(uuid.uuid4(), pages * 2)


def is_locked(name=f"size-{M2}.lock"):
    with open(f"{STATE}/{name}", "a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def grow(conf):
    """Runs in a child process: gets pages, and would start a VM."""
    try:
        host = Host(harness.module, [conf], name="stuck")
        result = host.before_vm_start(xml_of(GROWTH_PAGES), HUGE)
        host.vm_start_failed(result.uuid, result.generation)
    finally:
        os._exit(0)


def stuck_grower(bench, static_pages):
    """The pid of a child that is stopped while it holds the lock of the size."""
    conf = bench.conf(CONF.format("false"), "stuck.conf")
    for _ in range(TRIES):
        child = os.fork()
        if child == 0:
            grow(conf)
        until(lambda: total() > static_pages or os.waitid(
            os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the growth", poll_s=0)
        os.kill(child, signal.SIGSTOP)
        time.sleep(0.05)  # a write into the pool ends before its process stops
        # that of the ledger it holds for moments only, and nobody could do anything
        if total() > static_pages and is_locked() and not is_locked("ledger.lock"):
            return child
        os.kill(child, signal.SIGCONT)
        os.waitpid(child, 0)
        until(lambda: total() == static_pages, "the end of the growth")
    raise harness.Failure("the growth could not be stopped in the middle")


class Row:
    """Starts of many VMs, then their ends, each call timed."""

    def __init__(self, what, host):
        self.what, self.host = what, host
        self.times = {call: [] for call in CALLS}
        self.failures = {}
        self.running = []

    def _timed(self, call, *arguments):
        begin = time.perf_counter()
        try:
            return getattr(self.host, call)(*arguments)
        except HugevmError as error:
            failure = f"{call}: {error}"
            self.failures[failure] = self.failures.get(failure, 0) + 1
            return None
        finally:
            self.times[call].append((time.perf_counter() - begin) * 1000)

    def start(self, count):
        for _ in range(count):
            result = self._timed("before_vm_start", xml_of(PAGES), HUGE)
            if result is not None:
                self._timed("vm_launching", result.uuid, result.generation)
                self.running.append(result)

    def end(self):
        """As many as LIMIT_S allows."""
        until_s = time.monotonic() + LIMIT_S
        while self.running and time.monotonic() < until_s:
            result = self.running.pop()
            self._timed("after_vm_destroy", result.uuid, result.generation)

    def end_rest(self):
        for result in self.running:
            self.host.after_vm_destroy(result.uuid, result.generation)

    def show(self):
        for call, times in self.times.items():
            times.sort()
            print(f"{self.what:5} {call:16} {len(times):4} calls   "
                  f"median {statistics.median(times):8.2f} ms   "
                  f"p99 {times[int(len(times) * 0.99)]:8.2f} ms   maximum {times[-1]:8.2f} ms")
        for failure, count in self.failures.items():
            print(f"{self.what}: {count} times {failure}")


def measure(bench, count):
    # what the stuck VM still lacks counts as taken
    static_pages = GROWTH_PAGES + PAGES * count
    set_total(static_pages)
    host = Host(harness.module, [bench.conf(CONF.format("true"))], name="bench")
    quiet, stuck = Row("quiet", host), Row("stuck", host)
    quiet.start(count)
    quiet.end()
    quiet.end_rest()
    child = stuck_grower(bench, static_pages)
    try:
        stuck.start(count)
        stuck.end()
        print(f"stuck after {total() - static_pages} of {GROWTH_PAGES} pages; "
              f"lock held all the time: {is_locked()}")
    finally:
        os.kill(child, signal.SIGCONT)
        os.waitpid(child, 0)
    stuck.end_rest()
    host.close()
    until(lambda: total() == free() == static_pages, "the end of the growth")
    quiet.show()
    stuck.show()
    for call in CALLS:
        old, new = quiet.times[call], stuck.times[call]
        print(f"ratio {call:16} median {statistics.median(new) / statistics.median(old):10.2f}"
              f"   maximum {new[-1] / old[-1]:10.2f}")


def main(ctl, module, count="200"):
    harness.ctl, harness.module = os.path.abspath(ctl), os.path.abspath(module)
    with harness.only_one():
        lack = harness.missing()
        if lack is not None:
            sys.exit(lack)
        with harness.state_directory():
            bench = Bench()
            try:
                measure(bench, int(count))
            finally:
                traces.remove_all()
                bench.restore()


if __name__ == "__main__":
    main(*sys.argv[1:])
