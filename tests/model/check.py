#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Explores every interleaving of custody.pml. usage: check.py custody.pml [NAME...] (TAP)

Each configuration must hold, with all of its states explored; each mutant, which leaves out one
rule of the protocol, must be found out. With names, only those are run, and the steps that led
to a violation are printed.
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

MEMORY_MIB = 1000  # of each of the two searches that run at a time
DEPTH = 20000
TIMEOUT_S = 240

# name -> definitions, the longest first
HOLDS = {
    "an administrator, a kill": "ADMIN=1",
    "a thief": "THIEF=1",
    "a database on static pages, handover": "BASE=1 FOREIGN=1 HANDOVER",
    "two kills, handover": "KILLS=2 HANDOVER",
    "an administrator beside a database": "ADMIN=1 KILLS=0 BASE=1 FOREIGN=1",
    "an administrator who writes twice": "ADMIN=2 KILLS=0",
    "an administrator who writes twice, handover": "ADMIN=2 KILLS=0 HANDOVER",
    "an administrator who writes at any moment": "ADMIN=1 KILLS=0 HANDOVER ANYTIME",
    "an administrator, two launch mounts": "ADMIN=1 KILLS=0 MOUNT1=1",
    "an administrator, the arithmetic of kernels before 6.15": "ADMIN=1 KILLS=0 OLD_KERNEL",
    "a kill": "",
    "a kill, handover": "HANDOVER",
    "a kill, static pages": "BASE=1",
    "a kill, two launch mounts": "MOUNT1=1",
    "a kill, no launch mount": "MOUNT0=0",
    "a kill, VMs of one and two pages, memory for one of them": "NEED1=2 BUDDY=2 HANDOVER",
}
MUTANTS = {
    "a sweep takes what a claim is entitled to": "MUTANT_SWEEP_ALL KILLS=0",
    "claims are removed without a sweep": "MUTANT_NO_SWEEP",
    "a reservation is dropped beside surplus":
        "MUTANT_DROP_UNPINNED KILLS=0 ADMIN=1 MOUNT1=1",
    "a growth is not announced": "MUTANT_NO_INTENT",
    "a give-back takes exposed pages": "MUTANT_GIVE_EXPOSED KILLS=0",
    "a give-back takes what the database has let go of":
        "MUTANT_GIVE_STATIC KILLS=0 BASE=1 FOREIGN=1",
    "a handover beside a guard": "MUTANT_HAND_GUARDED KILLS=0 HANDOVER",
    "pages handed over to a dead VM are grown again":
        "MUTANT_CREDIT_DEAD KILLS=0 ADMIN=1 HANDOVER",
    "a newer VM counts as one whose pages were handed over":
        "MUTANT_CREDIT_NEWER KILLS=0 ADMIN=1 HANDOVER",
}
COMPLAINTS = re.compile(r"^.*(?:out of memory|search depth too small|MEMLIM bound|"
                        r"Search not completed).*$", re.MULTILINE)


def run(directory, *command):
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False,
                          timeout=TIMEOUT_S)


def build(directory, model, definitions):
    """What is wrong, or an empty string."""
    compiler = os.environ.get("CC", "cc").split()
    spin = run(directory, "spin", "-a", *definitions, str(model))
    if spin.returncode != 0:
        return spin.stdout + spin.stderr
    cc = run(directory, *compiler, "-O2", "-w", "-DSAFETY", "-DNOREDUCE",
             f"-DMEMLIM={MEMORY_MIB}", "-o", "pan", "pan.c")
    return cc.stderr if cc.returncode != 0 else ""


def trail(directory, model, definitions):
    name = next(directory.glob("*.trail"), None)
    if name is None:
        return ""
    return run(directory, "spin", "-t", "-p", "-g", "-k", str(name), *definitions,
               str(model)).stdout


class Result:
    """The outcome of one search: what was found, and whether it was complete."""

    def __init__(self, model, text):
        definitions = [f"-D{one}" for one in text.split()]
        self.states, self.found, self.broken, self.steps = 0, "", "", ""
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            self.broken = build(directory, model, definitions)
            if not self.broken:
                self.search(directory)
            if self.found:
                self.steps = trail(directory, model, definitions)

    def search(self, directory):
        pan = run(directory, "./pan", f"-m{DEPTH}", "-w23")
        output = pan.stdout + pan.stderr
        errors = re.search(r"errors: (\d+)$", output, re.MULTILINE)
        states = re.search(r"^ *(\d+) states, stored", output, re.MULTILINE)
        violation = re.search(r"^pan:1: (.*)$", output, re.MULTILINE)
        if errors is None or states is None or pan.returncode != 0:
            self.broken = f"pan ended with {pan.returncode}\n{output}"
            return
        self.states = int(states[1])
        if errors[1] != "0":
            self.found = violation[1] if violation else f"errors: {errors[1]}"
        complaint = COMPLAINTS.search(output)
        if complaint and not self.found:
            self.broken = f"not all was explored: {complaint[0]}"


def report(number, name, result, is_mutant):
    is_good = not result.broken and bool(result.found) == is_mutant
    what = f"found out: {name}" if is_mutant else f"holds: {name}"
    print(f"{'ok' if is_good else 'not ok'} {number} - {what}")
    print(f"# states: {result.states}")
    for line in (result.broken + result.found).splitlines():
        print(f"# {line}")
    return is_good


def main(path, *names):
    model = pathlib.Path(path).resolve()
    plan = [(name, text, False) for name, text in HOLDS.items()]
    plan += [(name, text, True) for name, text in MUTANTS.items()]
    plan = [one for one in plan if not names or one[0] in names]
    print(f"1..{len(plan)}", flush=True)
    is_good = True
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        results = pool.map(lambda one: Result(model, one[1]), plan)
        for number, (one, result) in enumerate(zip(plan, results), 1):
            is_good &= report(number, one[0], result, one[2])
            for line in result.steps.splitlines() if names else ():
                print(f"#   {line}")
            sys.stdout.flush()
    return 0 if is_good and plan else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
