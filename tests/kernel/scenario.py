#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs one scenario of the kernel suite in a throwaway VM, and prints TAP.

A scenario is a shape of VM (memory, nodes, kernel command line), the programs that go into it, and
a script; what all scripts share comes along. The script may run any number of programs that print
TAP: their points are numbered anew into one stream. Output that ends without a plan, or with
another number of points than planned, is a failure, and so is a script that does not end with
status 0.

Without a kernel or QEMU the scenario is skipped with the reason, except where the tests were asked
for (HUGEVM_E2E=1 or HUGEVM_KERNEL_TESTS=1): there it fails. How to get a kernel: fetch-kernel.sh.
A kernel of another release (--other-kernel) is no mirror's duty: without it the scenario is skipped
always.
"""

import argparse
import glob
import os
import re
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
UNAVAILABLE = 126
FETCH_KERNEL = "run tests/kernel/fetch-kernel.sh build/kernel"

HUGEVM_PROGRAMS = ["host", "kill-at", "fragment"]
# Without nokaslr the kernel may lie where a third page of 1 GiB could be; zeroing each page twice,
# at its allocation too, takes most of the time under emulation.
HUGEVM_KERNEL = ["--append", "nokaslr", "--append", "init_on_alloc=0"]
HUGEVM_NODES = ["--node", "512M", "--node", "6G", "--node", "640M", "--node", "256M",
                "--append", "hugepagesz=1G", "--append", "hugepages=1:2", *HUGEVM_KERNEL]
# Kernels number nodes with a CPU first. Nodes 2 to 4 have none, node 1 has no memory.
HUGEVM_PLACE = ["--cpus", "2", "--node", "512M:0", "--node", "0M:1", "--node", "6G",
                "--node", "640M", "--node", "256M",
                "--append", "hugepagesz=1G", "--append", "hugepages=2:2",
                "--append", "hugepagesz=2M", "--append", "hugepages=4:8", *HUGEVM_KERNEL]
# Node 2 is the nearest to node 1, and has no CPU, as node 3.
HUGEVM_POLICY = ["--cpus", "2", "--node", "640M:0", "--node", "384M:1", "--node", "6G",
                 "--node", "192M", "--distance", "1:2:12", *HUGEVM_KERNEL]

# name: (arguments of vm.py, programs from the build directory, script)
SCENARIOS = {
    "one-node": (
        ["--mem", "4G", "--append", "hugepagesz=1G", "--append", "hugepages=1"],
        ["probe-guard", "probe-surplus", "probe-launch", "probe-vault", "probe-namespace"],
        "one-node.sh",
    ),
    "two-nodes": (
        ["--node", "5G", "--node", "3G", "--append", "hugepagesz=1G",
         "--append", "hugepages=0:2,1:2", *HUGEVM_KERNEL],
        ["probe-demote"],
        "two-nodes.sh",
    ),
    "four-nodes": (
        ["--node", "512M", "--node", "5G", "--node", "1G", "--node", "192M",
         "--append", "hugepagesz=1G", "--append", "hugepages=1:2", "--append", "nokaslr"],
        ["probe-nodes", "probe-guard", "probe-surplus", "probe-launch", "probe-vault"],
        "four-nodes.sh",
    ),
    "hugevm-short": (["--mem", "512M", *HUGEVM_KERNEL], HUGEVM_PROGRAMS, "hugevm-short.sh"),
    "hugevm-forecast": (["--node", "640M", "--node", "512M", "--node", "6G", *HUGEVM_KERNEL],
                        HUGEVM_PROGRAMS, "hugevm-forecast.sh"),
    "hugevm-nodes": (HUGEVM_NODES, HUGEVM_PROGRAMS, "hugevm-nodes.sh"),
    "hugevm-place": (HUGEVM_PLACE, HUGEVM_PROGRAMS, "hugevm-place.sh"),
    "hugevm-ladder": (HUGEVM_PLACE, HUGEVM_PROGRAMS, "hugevm-ladder.sh"),
    "hugevm-policy": (HUGEVM_POLICY, HUGEVM_PROGRAMS, "hugevm-policy.sh"),
    "hugevm-killed": (HUGEVM_NODES, HUGEVM_PROGRAMS, "hugevm-killed.sh"),
    "hugevm-beside": (HUGEVM_NODES, HUGEVM_PROGRAMS, "hugevm-beside.sh"),
    "hugevm-orders": (["--mem", "1G", *HUGEVM_KERNEL], ["orders"], "hugevm-orders.sh"),
}

POINT = re.compile(r"(ok|not ok)\b *\d*(.*)")
PLAN = re.compile(r"1\.\.(\d+)(?: *# *SKIP *(.*))?$", re.IGNORECASE)


class Tap:
    """Several TAP streams, one after the other, made one."""

    def __init__(self):
        self.points = 0
        self.planned = 0
        self.failed = False

    def point(self, passed, text):
        self.points += 1
        self.failed = self.failed or not passed
        print(f"{'ok' if passed else 'not ok'} {self.points}{text}", flush=True)

    def check(self, passed, text):
        """A point of the runner's own."""
        self.planned += 1
        self.point(passed, f" - {text}")

    def feed(self, line):
        point, plan = POINT.match(line), PLAN.match(line)
        if point:
            self.point(point[1] == "ok", point[2])
        elif plan and int(plan[1]) == 0:
            self.check(True, f"a program of this scenario # SKIP {plan[2] or 'without a reason'}")
        elif plan:
            self.planned += int(plan[1])
        elif line.startswith("Bail out!"):
            self.check(False, line)
        else:
            print(line if line.startswith("#") else f"# {line}", flush=True)

    def end(self):
        points, planned = self.points, self.planned
        self.check(points == planned, f"all planned points were seen ({points} of {planned})")
        print(f"1..{self.points}")


def asked_for():
    return "1" in (os.environ.get("HUGEVM_E2E"), os.environ.get("HUGEVM_KERNEL_TESTS"))


def unavailable(reason, is_optional=False):
    """The whole scenario cannot run."""
    if asked_for() and not is_optional:
        print(f"not ok 1 - a throwaway VM can be run: {reason}\n1..1")
        return 1
    print(f"1..0 # SKIP {reason}")
    return 0


def find_kernel(directory):
    found = sorted(glob.glob(os.path.join(directory, "boot", "vmlinuz-*")))
    return found[-1] if found else None


def no_kernel(directory):
    """Why there is none, as far as fetch-kernel.sh knows."""
    try:
        with open(os.path.join(directory, "unavailable"), encoding="utf-8") as stream:
            reason = stream.read().strip()
    except OSError:
        reason = FETCH_KERNEL
    return f"no kernel to boot in {os.path.basename(directory)}: {reason}"


def vm_command(options, kernel):
    shape, programs, script = SCENARIOS[options.scenario]
    work = os.path.join(options.build, f"vm-{options.scenario}-{os.path.basename(kernel)}")
    command = [sys.executable, os.path.join(HERE, "vm.py"), "--kernel", kernel, "--work", work,
               "--timeout", str(options.timeout)]
    for program in [os.path.join(options.build, name) for name in programs] + options.program:
        command += ["--program", program]
    for shared in ("hugevm.sh", "planned.sh"):
        command += ["--file", os.path.join(HERE, shared)]
    return command + shape + [os.path.join(HERE, script)]


def run(options, kernel):
    tap = Tap()
    print(f"# kernel {os.path.basename(kernel)}")
    with subprocess.Popen(vm_command(options, kernel), stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.PIPE, errors="replace") as vm:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: vm.terminate())
        for line in vm.stdout:
            tap.feed(line.rstrip("\n"))
        complaint = vm.stderr.read().strip()
    if vm.returncode == UNAVAILABLE and tap.points == 0:
        return unavailable(complaint)
    for line in complaint.splitlines():
        print(f"# {line}")
    tap.check(vm.returncode == 0, f"the script ended with status 0 (status {vm.returncode})")
    tap.end()
    return 1 if tap.failed else 0


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="scenario.py")
    parser.add_argument("--build", required=True, metavar="DIR", help="where the programs are")
    parser.add_argument("--kernel-dir", required=True, metavar="DIR", help="has boot/vmlinuz-*")
    parser.add_argument("--other-kernel", action="store_true",
                        help="skip without a kernel, even where the tests were asked for")
    parser.add_argument("--program", action="append", default=[], metavar="PATH",
                        help="a program or module built elsewhere; repeatable")
    parser.add_argument("--timeout", type=float, default=240, metavar="SECONDS")
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    return parser.parse_args(arguments)


def main(arguments):
    options = parse_arguments(arguments)
    kernel = find_kernel(options.kernel_dir)
    if kernel is None:
        return unavailable(no_kernel(options.kernel_dir), options.other_kernel)
    return run(options, kernel)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
