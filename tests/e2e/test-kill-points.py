#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Killed, or failed by the kernel, at every system call that touches the outside.

usage: test-kill-points.py HUGEVMCTL HUGEVM.SO [--full] [WORD]

After each kill (of the VM too) one further call of hugevm, and all is as before: pools, guards,
launch mounts, claims, files in /run/hugevm. Which moments a kill can hit is in faults.py.

--full, or HUGEVM_FAULTS=full, tries all points, with each error and each further call. Otherwise a
sample, drawn by HUGEVM_FAULT_SEED (printed), within HUGEVM_FAULT_SECONDS for the whole program.
"""

import collections
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import time

import faults
import harness
import installed_host
import traces
from harness import (DYNAMIC, MOUNT, STATE, Failure, check, end_process, holds, is_alive, knob,
                     main, pools, pools_become, processes_of, read, same, set_total, total, until,
                     write)

FULL = "--full" in sys.argv or os.environ.get("HUGEVM_FAULTS") == "full"
SECONDS = float(os.environ.get("HUGEVM_FAULT_SECONDS", "180"))
SEED = int(os.environ.get("HUGEVM_FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
NEED = 32  # pages of 2 MiB of a VM with 64 MiB
STATICS = (0, 20)
ERRORS = ("EIO", "EACCES", "ENOSPC", "ENOMEM", "EMFILE")
KILL = "kill"
FILES = re.compile(r"ledger\.json|ledger\.copy\.json|ledger\.lock|size-\d+\.(lock|turn)|embed|vault")
MANY = 1000 if FULL else 5  # failures after which a road is given up


# --- what may be left ---------------------------------------------------------------------------


def strange_files():
    names = os.listdir(STATE) if os.path.isdir(STATE) else []
    return [name for name in names if not FILES.fullmatch(name)]


def all_back(bench, before):
    pools_become(before)
    same(traces.guards(), [], "guards left")
    same(traces.launch_mounts(), [], "launch mounts left")
    same(bench.claims(), [], "claims left")
    same(strange_files(), [], f"files left in {STATE}")


def clean(before):
    """After a failure: the next point starts from the same state."""
    traces.remove_all()
    forget()
    for kib in harness.sizes():
        write(knob(kib), str(before[kib][0]))
    pools_become(before, "pools after a failure")


def forget():
    """As before hugevm's first call since boot."""
    traces.remove_all()
    shutil.rmtree(STATE, ignore_errors=True)


# --- hosts --------------------------------------------------------------------------------------


class Machine:
    """What a road needs: two VMs, each with its directory for memory files, and a configuration."""

    def __init__(self, bench):
        self.bench = bench
        self.conf = bench.conf(DYNAMIC)
        self.program = f"{os.path.dirname(harness.ctl)}/../tests/kernel/host"
        self.directories = []

    def vm(self, memory_mib=2 * NEED):
        vm = self.bench.vm(memory_mib=memory_mib,
                           inside="<memoryBacking><hugepages/></memoryBacking>")
        vm.directory = f"{MOUNT}/{vm.name}"
        os.mkdir(vm.directory, 0o700)
        self.directories.append(vm.directory)
        return vm

    def host(self, vm, *words):
        return [self.program, harness.module, self.conf, "launches", "dir", vm.directory,
                *(vm.path if word == "XML" else word for word in words)]

    def holding(self, vm, *words):
        """A host that has done so much, and lives."""
        process = self.bench.start(self.host(vm, *words, "hold"))
        for line in process.stdout:
            if line == "holding\n":
                return process
        raise Failure(f"a host does not hold: {process.communicate()}")

    def end_vms(self):
        for vm in self.bench.vms:
            for pid in processes_of(vm.uuid):
                end_process(pid)
                until(lambda pid=pid: not is_alive(pid), "a VM's end", 10)

    def end_hosts(self):
        for process in self.bench.started:
            process.kill()
            process.communicate()
        self.bench.started.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.end_hosts()
        self.end_vms()
        traces.remove_all()
        for path in self.directories:
            os.rmdir(path)


# --- roads --------------------------------------------------------------------------------------

MAPPED = ("launching", "map", f"2M:{NEED}", "started")


class Road:
    """Words for the host program; marker: what it says before the part that is meant."""

    def __init__(self, name, *words, marker=None, status=0, memory_mib=2 * NEED):
        self.name, self.words, self.marker, self.status = name, words, marker, status
        self.memory_mib = memory_mib

    def ready(self, machine):
        self.vm = machine.vm(self.memory_mib)

    def set_up(self, machine):
        pass

    def command(self, machine):
        return machine.host(self.vm, *self.words)

    def explains(self, done):
        """Status 1 comes with the slot's code and message."""
        return done.status == 1 and re.search(r"^[\w-]+: [A-Z_]+: .{10}", done.out, re.M)


class Repair(Road):
    """A command that sets right what hosts and VMs killed in all states have left."""

    def __init__(self, *words):
        super().__init__(f"hugevmctl {' '.join(words)}", *words)

    def ready(self, machine):
        self.vms = [machine.vm() for _ in range(4)]
        self.last = machine.host(self.vms[3], "before", "XML")
        done, points = faults.record(self.last, f"{machine.bench.directory}/log")
        same(done.status, 0, f"status of a start ({done.out})")
        machine.bench.ctl("reconcile", status=0)
        written = next(i for i, point in enumerate(points)
                       if point.name == "write" and "nr_hugepages" in point.text)
        self.between = next(p for p in points[written + 1:] if p.name == "flock")

    def set_up(self, machine):
        for vm, words in zip(self.vms, ((), ("launching",), MAPPED)):
            machine.holding(vm, "before", "XML", *words)
        had = total()
        done = faults.inject(self.last, self.between, KILL)
        check(done.was_killed and total() > had, f"no half-done growth to repair: {done.out}")
        machine.end_hosts()
        machine.end_vms()

    def command(self, machine):
        return [harness.ctl, "--conf", machine.conf, *self.words]

    def explains(self, done):
        remains = re.search(r"^after the repair:\nerror: [\w-]+: .{10}", done.out, re.M)
        return done.status == 1 and remains or done.status in (1, 3) and done.err.strip()


ROADS = [
    Road("a start", "before", "XML", *MAPPED),
    Road("a failed start", "before", "XML", "failed"),
    Road("a start that fails while it launches", "before", "XML", "launching", "failed"),
    Road("a growth that is cancelled", "cancel-at", "64", "before", "XML", status=1,
         memory_mib=240),
    Road("a stop", "before", "XML", *MAPPED, "end", "gone", marker="end: OK"),
    Road("a migration in", "migrate", "XML", *MAPPED),
    Repair("reconcile"),
    Repair("audit", "--repair"),
]


def has_command(road):
    """Of the host program everything is there; of hugevmctl what its help names."""
    if not isinstance(road, Repair):
        return True
    told = subprocess.run([sys.argv[1], "--help"], text=True, capture_output=True, check=True)
    return re.search(rf"^ *{road.words[0]}\b", told.stdout, re.M) is not None


# --- one point ----------------------------------------------------------------------------------


class Sweep:
    """All tries of one road beside so many static pages."""

    def __init__(self, bench, road, static_pages):
        self.bench, self.road, self.static_pages = bench, road, static_pages
        self.tried = self.hit = self.leaked = 0
        self.problems = []

    def open(self, machine):
        set_total(self.static_pages)
        self.before = pools()
        self.machine = machine
        self.other = machine.vm()
        self.road.ready(machine)
        self.record()  # from then on there is what the first call since boot makes
        return self.record()

    def record(self):
        self.set_up()
        done, points = faults.record(self.road.command(self.machine),
                                     f"{self.bench.directory}/log", self.road.marker)
        same(done.status, self.road.status, f"status of {self.road.name} ({done.out}{done.err})")
        self.machine.end_vms()
        self.further("reconcile")
        all_back(self.bench, self.before)
        return points

    def set_up(self):
        if self.static_pages == 0:
            forget()  # with the first call since boot the directory is made, too
        self.road.set_up(self.machine)

    def further(self, call):
        """The one call after which all must be well."""
        if call == "reconcile":
            self.bench.ctl("reconcile", conf=self.machine.conf, status=0)
            return
        done = subprocess.run(self.machine.host(self.other, "before", "XML", "failed"), text=True,
                              capture_output=True, timeout=faults.HANG_S, check=False)
        same(done.returncode, 0, f"status of another VM's start ({done.stdout})")

    def one(self, point, what, call):
        self.tried += 1
        self.set_up()
        done = faults.inject(self.road.command(self.machine), point, what)
        self.machine.end_vms()
        self.hit += done.was_hit
        if done.status != self.road.status and not (what == KILL and done.was_killed):
            check(what != KILL, f"ended with {done.status}: {done.out}{done.err}")
            check(self.road.explains(done), f"status {done.status} without a clear word: "
                                            f"{done.out}{done.err}")
        self.further(call)
        all_back(self.bench, self.before)

    def try_one(self, point, what, call):
        try:
            self.one(point, what, call)
        except (Failure, subprocess.SubprocessError) as error:
            self.machine.end_vms()
            self.leaked += sum(abs(now[0] - was[0])
                               for now, was in zip(pools().values(), self.before.values()))
            self.problems.append(f"{self.road.name}, {self.static_pages} static pages, "
                                 f"{point}: {what}, then {call}: {error}")
            print(f"# {self.problems[-1]}", flush=True)
            clean(self.before)

    def run(self, tries, end):
        for point, what, call in tries:
            if (not FULL and time.monotonic() > end) or len(self.problems) >= MANY:
                return
            self.try_one(point, what, call)


# --- cases --------------------------------------------------------------------------------------


class Budget:
    """The seconds of the whole program; each sweep may use its share of what is left."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds
        self.sweeps = 0

    def share(self):
        left = self.end - time.monotonic()
        share, self.sweeps = left / max(1, self.sweeps), self.sweeps - 1
        return time.monotonic() + share


BUDGET = Budget(SECONDS)
DRAW = random.Random(SEED)
CALLS = ("reconcile", "another VM's start")


def tries_of(points, whats):
    """Each point with each fault and each further call; of a sample, in its order."""
    if FULL:
        return [(point, what, call) for point in points for what in whats
                for call in (CALLS if what == KILL else CALLS[:1])]
    tries = [(point, what, DRAW.choice(CALLS)) for point in points for what in whats]
    DRAW.shuffle(tries)
    return tries


def counted(points):
    names = collections.Counter(point.name for point in points)
    return ", ".join(f"{name} {count}" for name, count in sorted(names.items()))


def sweep(bench, road, whats):
    problems = []
    for static_pages in STATICS:
        end = BUDGET.share()
        with Machine(bench) as machine:
            run = Sweep(bench, road, static_pages)
            points = run.open(machine)
            if whats == (KILL,):  # a call that only reads leaves nothing to find
                points = [point for point in points if point.changes]
            tries = tries_of(points, whats)
            run.run(tries, max(end, time.monotonic() + 2))  # recording takes time too
        print(f"# {road.name}, {static_pages} static pages: {run.tried} of {len(tries)} tried, "
              f"{run.hit} hit, {run.leaked} pages leaked; points: {counted(points)}",
              flush=True)
        check(run.hit > run.tried // 2 or run.problems, "the faults do not hit")
        problems += run.problems
    check(not problems, f"{len(problems)} points of {road.name} leave something behind")


def case_of(road, whats, title):
    def case(bench):
        sweep(bench, road, whats)
    case.__doc__ = f"{road.name} {title}"
    return case


def sweeps():
    cases = []
    for road in ROADS:
        if not has_command(road):
            print(f"# skipped: {road.name}, which this hugevmctl does not have")
            continue
        cases.append(case_of(road, (KILL,), "killed at each call is set right by one further call"))
        cases.append(case_of(road, ERRORS,
                             "with an error from each call fails in words or succeeds, and leaves "
                             "nothing"))
    return cases


# --- a full file system -------------------------------------------------------------------------


@contextlib.contextmanager
def small_state(options):
    """A file system of its own on /run/hugevm; resized by the function that it gives."""
    forget()
    os.mkdir(STATE, 0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "none", STATE], check=True)
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", STATE],
                                             check=True)
    finally:
        subprocess.run(["umount", "-l", STATE], check=True)
        forget()


def run_host(machine, vm, *words):
    done = subprocess.run(machine.host(vm, *words), text=True, capture_output=True, check=False,
                          timeout=faults.HANG_S)
    if done.returncode != 0:
        same(done.returncode, 1, f"status of a host ({done.stdout})")
        holds(done.stdout, "No space left on device", "make room")
    return done


def start_in(bench, machine, options, roomy):
    """One start with so much room; did it succeed? And all comes back once there is room."""
    before, vm = pools(), machine.vm()
    with small_state(options) as resize:
        done = run_host(machine, vm, "before", "XML", *MAPPED)
        if done.stdout.startswith("before: LEDGER"):
            same((pools(), traces.guards(), traces.launch_mounts()), (before, [], []),
                 f"pools, guards and mounts after a refusal with {options}")
        machine.end_vms()
        resize(roomy)
        bench.ctl("reconcile", conf=machine.conf, status=0)
        all_back(bench, before)
    return done.returncode == 0


def no_room_for_ledger(bench):
    """a start with no room for the ledger is refused and takes nothing, however much is left"""
    for static_pages in STATICS:
        set_total(static_pages)
        with Machine(bench) as machine:
            room = [start_in(bench, machine, f"size={pages * 4}k", "size=1m")
                    for pages in range(1, 9)]
            inodes = [start_in(bench, machine, f"size=1m,nr_inodes={n}", "size=1m,nr_inodes=100")
                      for n in range(2, 11)]
        for name, results in (("pages", room), ("inodes", inodes)):
            print(f"# beside {static_pages} static pages, with 1, 2, ... {name}: {results}")
            check(not results[0] and results[-1], f"the {name} make no difference: {results}")


CLAIMS = 24  # their ledger is longer than two pages of a tmpfs, so a write can be cut short


def short_writes(bench):
    """a ledger that cannot be written in full loses no claim that was recorded"""
    set_total(2 * CLAIMS)
    before = pools()
    with Machine(bench) as machine, small_state("size=1m") as resize:
        words = [word for _ in range(CLAIMS) for word in ("before", machine.vm(4).path)]
        owner, vm = machine.holding(machine.vm(4), *words), machine.vm()
        ledger = read(f"{STATE}/ledger.json")
        claims = {claim["uuid"] for claim in bench.claims()}
        same(len(claims), CLAIMS, "claims")
        guards = traces.guards()
        check(len(ledger) > 2 * 4096, f"the ledger has only {len(ledger)} bytes")
        used = os.statvfs(STATE)
        taken = (used.f_blocks - used.f_bfree) * used.f_frsize // 1024
        results = []
        for room in range(0, 40, 4):
            resize(f"size={taken + room}k")
            done = run_host(machine, vm, "before", "XML", "failed")
            results.append(done.returncode == 0)
            if done.stdout.startswith("before: LEDGER"):
                same(traces.guards(), guards, "guards after a refused start")
            same({claim["uuid"] for claim in bench.claims()} - {vm.uuid}, claims,
                 f"claims with {room} KiB left")
        print(f"# with 0, 4, ... KiB left: {results}")
        check(not results[0] and results[-1], f"the room makes no difference: {results}")
        resize("size=1m")
        check(owner.poll() is None, "the owner of the claims has ended")
        machine.end_hosts()
        bench.ctl("reconcile", conf=machine.conf, status=0)
        all_back(bench, before)


# --- main ---------------------------------------------------------------------------------------


def enter():
    """A mount namespace and a /run of our own: what a failure leaves there ends with us."""
    if os.environ.get("HUGEVM_E2E") != "1" or os.geteuid() != 0:
        return
    installed_host.not_in_use()
    installed_host.succeeds(installed_host.libc.unshare(installed_host.CLONE_NEWNS),
                            "cannot have a mount namespace")
    installed_host.mount("none", "/", flags=installed_host.MS_REC | installed_host.MS_PRIVATE)
    installed_host.fresh_run()


def run():
    enter()
    sys.argv = [word for word in sys.argv if word != "--full"]
    sample = f"a sample for {SECONDS:.0f} s, HUGEVM_FAULT_SEED={SEED}"
    print(f"# {'all points' if FULL else sample}")
    cases = sweeps() if os.environ.get("HUGEVM_E2E") == "1" else []
    BUDGET.sweeps = len(cases) * len(STATICS)
    return main([no_room_for_ledger, short_writes, *cases])


if __name__ == "__main__":
    sys.exit(run())
