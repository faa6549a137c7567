#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs to look for the programs that pages are reserved for: `hugevmctl plan` without and
with a reservation that has a name, in one run, on a host with many processes.

usage: bench-consumers.py HUGEVMCTL DOMAIN.xml [PROCESSES [ROUNDS]]
Starts processes that sleep until there are so many (300). Prints medians in milliseconds, and
system calls where strace is there. A measurement, not a test: it asserts nothing.
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CASES = {"no reservation": "",
         "without a name": "reserved = size:2M,count:1\n",
         "with a name, nobody runs": "reserved = nobody-at-all=size:2M,count:1\n",
         "with a name, somebody runs": "reserved = cat=size:2M,count:1\n"}


def processes():
    return sum(name.isdigit() for name in os.listdir("/proc"))


def once(command):
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return (time.perf_counter() - begin) * 1000


def system_calls(command, directory):
    if shutil.which("strace") is None:
        return "?"
    path = f"{directory}/trace"
    subprocess.run(["strace", "-f", "-o", path, *command], stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, check=False)
    with open(path, encoding="utf-8", errors="replace") as file:
        return sum("(" in line for line in file)


def measure(ctl, xml, rounds, directory):
    commands = {}
    for number, (name, text) in enumerate(CASES.items()):
        conf = f"{directory}/{number}.conf"
        with open(conf, "w", encoding="utf-8") as file:
            file.write(f"[hugevm]\n{text}")
        commands[name] = [ctl, "--conf", conf, "plan", xml, "--property", "hugepages=2048"]
    times = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(once(command))
    print(f"{processes()} processes, {rounds} rounds")
    base = statistics.median(times["no reservation"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:28} median {median:6.2f} ms, x {median / base:4.2f}, "
              f"{system_calls(commands[name], directory)} system calls")


def main(ctl, xml, count="300", rounds="200"):
    sleepers = []
    try:
        while processes() < int(count):
            sleepers.append(subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE))
        with tempfile.TemporaryDirectory() as directory:
            measure(ctl, xml, int(rounds), directory)
    finally:
        for process in sleepers:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
