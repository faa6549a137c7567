#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole-process time of the installed hooks, beside /bin/true and an empty GLib program, in one run.

usage: HUGEVM_E2E=1 bench-hook.py BUILD_DIRECTORY [ROUNDS]

As root, on a host where nobody uses huge pages; BUILD_DIRECTORY is a build for an installed host,
such as build/host, which the tests leave. It is installed into a mount namespace. Prints medians
in milliseconds; rounds are interleaved so that all see the same machine. A measurement, not a
test: it asserts nothing.
"""
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))

import harness  # noqa: E402
import installed_host  # noqa: E402

LIBVIRT = "/etc/libvirt/hooks/qemu.d/50-hugevm"
PAGES = 128
UUID = "11111111-2222-3333-4444-555555555555"
XML = f"""<domain type='qemu' id='1'>
  <name>bench</name>
  <uuid>{UUID}</uuid>
  <memory unit='KiB'>262144</memory>
  {{}}
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>
</domain>
"""
PLAIN, HUGE = XML.format(""), XML.format("<memoryBacking><hugepages/></memoryBacking>")


def once(command, stdin):
    with tempfile.TemporaryFile() as file:
        file.write(stdin.encode())
        file.seek(0)
        begin = time.perf_counter()
        subprocess.run(command, stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       check=True)
        return (time.perf_counter() - begin) * 1000


def measure(empty_glib, rounds):
    hook = [LIBVIRT, "bench"]
    rows = {
        "/bin/true": (["/bin/true"], ""),
        "empty GLib program": ([empty_glib], ""),
        "reconnect begin": (hook + ["reconnect", "begin", "-"], PLAIN),
        "prepare, no huge pages": (hook + ["prepare", "begin", "-"], PLAIN),
        "release, no huge pages": (hook + ["release", "end", "-"], PLAIN),
        "prepare, free pages": (hook + ["prepare", "begin", "-"], HUGE),
        "start": (hook + ["start", "begin", "-"], HUGE),
        "started": (hook + ["started", "begin", "-"], HUGE),
        "release": (hook + ["release", "end", "-"], HUGE),
    }
    times = {name: [] for name in rows}
    for _ in range(rounds):
        for name, (command, stdin) in rows.items():
            times[name].append(once(command, stdin))
    for name, values in times.items():
        values.sort()
        print(f"{name:24} median {statistics.median(values):6.2f} ms   "
              f"p95 {values[int(len(values) * 0.95)]:6.2f} ms")


def main(build, rounds="200"):
    installed_host.enter(build)
    before = harness.total()
    with harness.only_one(), harness.hugetlbfs_of(harness.M2):
        os.makedirs(f"{harness.MOUNT}/libvirt/qemu")  # as libvirtd leaves it there
        harness.set_total(before + PAGES)
        try:
            measure(os.path.join(os.path.abspath(build), "../tests/bench/empty-glib"), int(rounds))
        finally:
            harness.set_total(before)


if __name__ == "__main__":
    main(*sys.argv[1:])
