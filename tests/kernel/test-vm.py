#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests of the VM harness itself: what a scenario relies on, and what must fail when it is broken.

Each test starts a small VM, so there are few, and they run together with the kernel suite.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import scenario  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


class Harness:
    def __init__(self, kernel, work):
        self.kernel, self.work, self.points, self.failed = kernel, work, 0, False
        os.makedirs(work, exist_ok=True)

    def ok(self, passed, text, seen=""):
        self.points += 1
        self.failed = self.failed or not passed
        print(f"{'ok' if passed else 'not ok'} {self.points} - {text}", flush=True)
        if not passed:
            print("\n".join(f"# {line}" for line in str(seen).splitlines()))

    def command(self, text, *arguments):
        script = os.path.join(self.work, "script.sh")
        with open(script, "w", encoding="ascii") as stream:
            stream.write(text)
        return [sys.executable, os.path.join(HERE, "vm.py"), "--kernel", self.kernel, "--work",
                self.work, "--mem", "256M", *arguments, script]

    def run(self, text, *arguments):
        return subprocess.run(self.command(text, *arguments), capture_output=True, text=True,
                              check=False)


def test_output_and_status(harness):
    done = harness.run("echo one; echo two >&2; echo '<3>noise' >/dev/kmsg; printf three; exit 7")
    harness.ok(done.returncode == 7, "the script's exit status is returned", done)
    output = "".join(line for line in done.stdout.splitlines(keepends=True)
                     if not line.startswith("# kernel log:"))
    harness.ok(output.rstrip("\n") == "one\ntwo\nthree", "only the script's output arrives",
               done.stdout)
    harness.ok("# kernel log: " in done.stdout and "noise" in done.stdout,
               "a failing script is followed by the kernel's messages", done.stdout)


def test_files_and_programs(harness):
    marker = os.path.join(harness.work, "marker")
    with open(marker, "w", encoding="ascii") as stream:
        stream.write("quoted\n")
    done = harness.run('cat /etc/sub/marker; getconf PAGE_SIZE; echo "$WORD"; id -u',
                       "--file", f"{marker}:/etc/sub/marker", "--program", "/usr/bin/getconf",
                       "--env", "WORD=it's here")
    harness.ok(done.returncode == 0 and done.stdout == "quoted\n4096\nit's here\n0\n",
               "files, a dynamically linked program and variables arrive", done)


def test_nodes(harness):
    done = harness.run("cd /sys/devices/system/node; echo node?; cat node?/cpulist; "
                       "grep -c 'MemTotal: *0 kB' node?/meminfo; cat /proc/cmdline node?/distance",
                       "--cpus", "2", "--node", "192M:0", "--node", "0M:1", "--node", "128M",
                       "--distance", "2:0:15",
                       "--append", "hugepages=3")
    lines = done.stdout.splitlines()
    harness.ok(lines[:1] == ["node0 node1 node2"], "each --node is a NUMA node", done.stdout)
    harness.ok(lines[1:4] == ["0", "1", ""], "CPUs are on the nodes that have them", done.stdout)
    harness.ok([line[-1] for line in lines[4:7]] == ["0", "1", "0"],
               "a node of 0M has no memory", done.stdout)
    harness.ok(lines[-3:] == ["10 20 15", "20 10 20", "15 20 10"],
               "nodes are as far from each other as --distance says", done.stdout)
    harness.ok("hugepages=3" in done.stdout, "--append reaches the kernel", done.stdout)


def test_timeout(harness):
    done = harness.run("echo started; sleep 600", "--timeout", "8")
    harness.ok(done.returncode == 124 and "started" in done.stdout,
               "a VM is stopped at the timeout", done)


def test_panic(harness):
    done = harness.run("echo c >/proc/sysrq-trigger; sleep 600", "--timeout", "60")
    harness.ok(done.returncode == 125 and "sysrq" in done.stdout,
               "a VM that ends without a status says so", done)


def test_interrupt(harness):
    with subprocess.Popen(harness.command("echo started; sleep 600"), stdout=subprocess.PIPE,
                          text=True) as vm:
        first = vm.stdout.readline()
        vm.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        vm.communicate()
    harness.ok(first == "started\n" and vm.returncode == 124 and time.monotonic() - begin < 10,
               "SIGTERM ends the VM too", (first, vm.returncode))


def main(arguments):
    parser = argparse.ArgumentParser(prog="test-vm.py")
    parser.add_argument("--kernel-dir", required=True)
    parser.add_argument("--work", required=True)
    options = parser.parse_args(arguments)
    kernel = scenario.find_kernel(options.kernel_dir)
    if kernel is None:
        return scenario.unavailable(scenario.no_kernel(options.kernel_dir))
    harness = Harness(kernel, os.path.abspath(options.work))
    for test in (test_output_and_status, test_files_and_programs, test_nodes, test_timeout,
                 test_panic, test_interrupt):
        test(harness)
    print(f"1..{harness.points}")
    return 1 if harness.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
