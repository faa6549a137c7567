#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole-process time of `hugevmctl plan`, beside /bin/true, in one run.

usage: bench-plan.py HUGEVMCTL DOMAIN.xml [ROUNDS]
Prints medians in milliseconds; rounds are interleaved so that both see the same
machine. A measurement, not a test: it asserts nothing.
"""
import statistics
import subprocess
import sys
import time


def once(command):
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return (time.perf_counter() - begin) * 1000


def main(ctl, xml, rounds="300"):
    commands = {
        "/bin/true": ["/bin/true"],
        "hugevmctl --version": [ctl, "--version"],
        "plan, no huge pages": [ctl, "plan", xml],
        "plan, hugepages=2048": [ctl, "plan", xml, "--property", "hugepages=2048"],
    }
    times = {name: [] for name in commands}
    for _ in range(int(rounds)):
        for name, command in commands.items():
            times[name].append(once(command))
    for name, values in times.items():
        values.sort()
        print(f"{name:24} median {statistics.median(values):6.2f} ms   "
              f"p95 {values[int(len(values) * 0.95)]:6.2f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
