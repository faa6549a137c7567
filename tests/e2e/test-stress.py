#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sixteen agents and sixteen threads start and stop VMs, and are killed; no page is ever missing.

usage: test-stress.py HUGEVMCTL HUGEVM.SO [WORD]

Rounds follow each other for HUGEVM_STRESS_SECONDS (60). In each, agents (stress_agent.py) claim,
launch and end guests of random sizes; agents and guests are killed at random; a stranger starts
and ends on pages that are reserved for it; an administrator adds pages, and takes away what he
added. A VM that was claimed, and whose agent lives, must find its pages, and so must the stranger.
When all has ended, one reconcile must leave exactly what the administrator wants: in the pools, and
no guard, no launch mount, no claim.

Every second round the administrator is blunt: he takes his pages away whether they are in use or
not. Then somebody must do without, and only the end of the round is looked at. Either way he
changes a pool under hugevm's lock of it and only while no write of a killed agent is open: the
kernel's files know no "add", and no accounting can tell apart what two writers did at once.

HUGEVM_STRESS_SEED chooses other dice (what the machine has done by then, nobody repeats).
"""

import contextlib
import fcntl
import glob
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time

import harness
import traces
from harness import (DYNAMIC, G1, M2, STATE, check, command_line, end_process, free, hugetlbfs_of,
                     is_alive, knob, main, pools, read, same, set_total, total, until, write)

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = int(os.environ.get("HUGEVM_STRESS_SEED", "20240607"))
SECONDS = float(os.environ.get("HUGEVM_STRESS_SECONDS", "60"))
PROCESSES, THREADS = 16, 16
ROUND_S = 8
STRANGERS_PAGES = 16
STATIC_PAGES = STRANGERS_PAGES + 40
MOST_ADDED = 12
RESERVED = f"database=size:2M,count:{STRANGERS_PAGES},process:stranger"
CONF = DYNAMIC + f"[hugevm]\nreserved = {RESERVED}\n"
EXPOSED = "claimed", "launching"


# --- the administrator ------------------------------------------------------------------------


@contextlib.contextmanager
def locks():
    """hugevm's lock of the size, then that of the ledger: nobody else writes or claims."""
    with contextlib.ExitStack() as stack:
        for name in (f"size-{M2}.lock", "ledger.lock"):
            file = stack.enter_context(open(f"{STATE}/{name}", "a", encoding="ascii"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield json.loads(read(f"{STATE}/ledger.json"))


def persistent():
    return total() - int(read(knob(M2, "surplus")))


class Administrator:
    """Adds pages of 2 MiB to the pool, and takes away what he added.

    What is to be left at the end follows from the rule that hugevm goes by: an increase is his, a
    decrease takes first of what hugevm has added. So pages that he takes back beside VMs that live
    on added ones may stay, and he tries again. `static` keeps count of it without hugevm's help,
    and at each of his visits the ledger must agree.
    """

    def __init__(self, dice):
        self.dice = dice
        self.static = STATIC_PAGES
        self.changes = 0
        self.problems = []

    def act(self, is_blunt):
        if not os.path.exists(f"{STATE}/ledger.json"):
            return
        with locks() as ledger:
            if any(intent["size_kib"] == M2 for intent in ledger["intents"]):
                return
            found = self._static_by(ledger, persistent())
            if found != self.static:
                self.problems.append(f"static pages by the ledger: {found}, not {self.static}")
                self.static = found
            added = self.static - STATIC_PAGES
            pages = self.dice.randint(1, MOST_ADDED)
            if added + pages <= MOST_ADDED and self.dice.random() < 0.7:
                self._change(ledger, pages)
            elif 0 < min(pages, added) and (is_blunt or self._unclaimed(ledger) >= pages):
                self._change(ledger, -min(pages, added))

    @staticmethod
    def _static_by(ledger, now_pages):
        """Of so many persistent pages, those that hugevm has not added."""
        of_size = [row for row in ledger["grown"] if row["size_kib"] == M2]
        grown = sum(row["grown_pages"] for row in of_size)
        if grown == 0:
            return now_pages
        lost = max(0, sum(row["persistent_pages"] for row in of_size) - now_pages)
        return now_pages - max(0, grown - lost)

    @staticmethod
    def _unclaimed(ledger):
        """Pages that lie free for everybody: no VM was promised them, nor the stranger."""
        exposed = sum(need["pages"] for claim in ledger["claims"] for need in claim["needs"]
                      if claim["state"] in EXPOSED and need["size_kib"] == M2)
        return free() - int(read(knob(M2, "resv"))) - exposed - STRANGERS_PAGES

    def _change(self, ledger, pages):
        wish = persistent() + pages
        write(knob(M2), str(wish))
        if persistent() != wish:
            self.problems.append(f"the kernel makes {persistent()} pages of {wish}")
        self.static = self._static_by(ledger, persistent())
        self.changes += 1


# --- the stranger -----------------------------------------------------------------------------


class Stranger(threading.Thread):
    """A database on reserved pages: ends, starts again, and always finds them."""

    def __init__(self, program, dice, end):
        super().__init__()
        self.program, self.dice, self.end = program, dice, end
        self.starts = 0
        self.problems = []

    def run(self):
        while time.monotonic() < self.end:
            process = subprocess.Popen(
                [self.program, "-IS", f"{HERE}/guest.py", "touched", str(STRANGERS_PAGES)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True)
            said = process.stdout.readline().strip()
            time.sleep(self.dice.choice([0, 0.01, 0.1, 0.3]))
            process.kill()
            status = process.wait()
            process.stdout.close()
            if said != "ready":
                self.problems.append(f"the stranger says '{said}' and ends with {status}")
            self.starts += 1
            time.sleep(self.dice.choice([0, 0.01, 0.1, 0.3]))


# --- a round ----------------------------------------------------------------------------------


class Round:
    def __init__(self, bench, number, administrator, directories):
        self.bench, self.administrator, self.directories = bench, administrator, directories
        self.seed = SEED + number
        self.dice = random.Random(self.seed)
        self.is_blunt = number % 2 == 1
        self.program = f"{bench.directory}/qemu-guest"
        self.conf = bench.conf(CONF)
        self.workers = []
        self.living = []
        self.reached = {}
        self.problems = []

    def spawn(self, threads):
        name = f"{self.bench.directory}/agent-{self.seed}-{len(self.workers)}"
        seconds = max(0, self.end - time.monotonic())
        with open(f"{name}.out", "wb") as out, open(f"{name}.err", "wb") as err:
            process = subprocess.Popen(
                [sys.executable, f"{HERE}/stress_agent.py", harness.module, self.conf, self.program,
                 f"{self.seed}/{len(self.workers)}", str(threads), str(seconds),
                 self.directories[M2], self.directories[G1]],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        process.threads, process.output, process.is_victim = threads, name, False
        self.workers.append(process)
        self.living.append(process)

    def guests(self):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()
                and command_line(name)[:1] == [self.program] and is_alive(name)]

    def kill_agent(self, processes):
        victim = self.dice.choice(processes)
        victim.is_victim = True
        victim.kill()
        victim.wait()
        self.living.remove(victim)
        self.spawn(victim.threads)

    def one_act(self):
        chance = self.dice.random()
        if chance < 0.25:
            self.kill_agent([process for process in self.living if process.threads == 1])
        elif chance < 0.26:
            self.kill_agent([process for process in self.living if process.threads > 1])
        elif chance < 0.60:
            guests = self.guests()
            for pid in self.dice.sample(guests, min(len(guests), self.dice.randint(1, 3))):
                end_process(pid)
        elif chance < 0.65:
            self.bench.ctl("reconcile", status=0)
        else:
            self.administrator.act(self.is_blunt)

    def run(self, seconds):
        self.end = time.monotonic() + seconds
        for _ in range(PROCESSES):
            self.spawn(1)
        self.spawn(THREADS)
        stranger = Stranger(f"{self.bench.directory}/stranger", random.Random(f"{self.seed}/s"),
                            self.end)
        stranger.start()
        try:
            while time.monotonic() < self.end:
                time.sleep(self.dice.uniform(0.01, 0.1))
                self.one_act()
        finally:
            self.finish(is_killed=self.dice.random() < 0.5)
            stranger.join()
        self.problems += [] if self.is_blunt else stranger.problems
        self.problems += self.administrator.problems
        self.administrator.problems = []
        self.reached["stranger"] = stranger.starts

    def finish(self, is_killed):
        """All agents end, by themselves or killed in whatever they do; then all guests."""
        give_up = time.monotonic() + 30
        while not is_killed and time.monotonic() < give_up and any(
                process.poll() is None for process in self.living):
            time.sleep(0.02)
        for process in self.living:
            if process.poll() is None:
                process.is_victim = is_killed
                process.kill()
                process.wait()
                if not is_killed:
                    self.problems.append("an agent does not end")
        until(lambda: not [end_process(pid) for pid in self.guests()], "the guests' end")
        for process in self.workers:
            self.judge(process)

    def judge(self, process):
        lines = read(f"{process.output}.out").splitlines()
        for line in lines:
            word = line.partition(":")[0]
            self.reached[word] = self.reached.get(word, 0) + 1
        if not self.is_blunt:
            self.problems += [line for line in lines if line.startswith("broken")]
        if not process.is_victim and process.returncode != 0:
            self.problems.append(f"an agent ends with {process.returncode}: "
                                 f"{read(f'{process.output}.err')[-500:]}")

    def kernel(self):
        """What the kernel has when all is over, as check_end() wants it."""
        static = self.administrator.static
        wanted = {kib: (static, static, 0, 0) if kib == M2 else (0,) * 4 for kib in pools()}
        end = time.monotonic() + 5  # it returns a dead process's pages a moment after its end
        while pools() != wanted and time.monotonic() < end:
            time.sleep(0.02)
        return pools(), wanted

    def check_end(self):
        until(lambda: total() - free() == 0 and total(G1) == free(G1), "the guests' pages")
        self.bench.ctl("reconcile", status=0)
        found, wanted = self.kernel()
        if found != wanted:
            self.problems.append(f"pools (total, free, surplus, resv): {found}, not {wanted}")
        for what, left in (("guards", traces.guards()), ("launch mounts", traces.launch_mounts()),
                           ("claims", self.bench.claims())):
            if left:
                self.problems.append(f"{what} that are left: {left}")

    def tidy(self):
        """The next round begins as if this one had been good."""
        if self.problems:
            traces.remove_all()
            for path in glob.glob(f"{STATE}/ledger*json*"):
                os.unlink(path)
            set_total(0, G1)
            set_total(self.administrator.static)
        for directory in self.directories.values():
            for left in os.listdir(directory):
                shutil.rmtree(f"{directory}/{left}")


def mount_of(kib):
    """A directory of our own on a hugetlbfs of these pages; hugetlbfs_of() has made sure of one."""
    mounts = [line.split() for line in read("/proc/self/mounts").splitlines()]
    option = "pagesize=2M" if kib == M2 else "pagesize=1024M"
    path = next(row[1] for row in mounts if row[2] == "hugetlbfs" and option in row[3].split(",")
                and not row[0].startswith(traces.MOUNT_PREFIX))
    return f"{path}/stress-{os.getpid()}"


@contextlib.contextmanager
def directories_of_guests():
    with hugetlbfs_of(G1):
        directories = {kib: mount_of(kib) for kib in (M2, G1)}
        for directory in directories.values():
            os.makedirs(directory)
        try:
            yield directories
        finally:
            traces.remove_all()
            for directory in directories.values():
                shutil.rmtree(directory, ignore_errors=True)


def one_round(bench, number, administrator, directories):
    this = Round(bench, number, administrator, directories)
    before = administrator.changes
    this.run(min(ROUND_S, SECONDS))
    this.check_end()
    kind = "blunt" if this.is_blunt else "polite"
    print(f"# round {number}, seed {this.seed}: {len(this.workers)} agents, {this.reached}; "
          f"{administrator.changes - before} {kind} changes, {administrator.static} static pages; "
          f"{len(this.problems)} violations", flush=True)
    for problem in sorted(set(this.problems)):
        print(f"#   {problem}", flush=True)
    this.tidy()
    return this


def killed_at_random(bench):
    """agents and guests killed at random: VMs and a stranger find their pages, and all go back"""
    set_total(STATIC_PAGES)
    for name in ("qemu-guest", "stranger"):
        os.symlink(sys.executable, f"{bench.directory}/{name}")
    print(f"# seed {SEED}, {SECONDS:.0f} s, {PROCESSES} processes and {THREADS} threads")
    administrator = Administrator(random.Random(SEED))
    end = time.monotonic() + SECONDS
    rounds = []
    with directories_of_guests() as directories:
        while not rounds or time.monotonic() + ROUND_S < end:
            rounds.append(one_round(bench, len(rounds), administrator, directories))
    violations = sum(len(one.problems) for one in rounds)
    reached = {word: sum(one.reached.get(word, 0) for one in rounds) for word in
               ("claimed", "started", "gone", "failed", "guest killed", "refused", "stranger")}
    print(f"# {len(rounds)} rounds, {violations} violations; {reached}, "
          f"{administrator.changes} changes by the administrator")
    same(violations, 0, "violations")
    check(all(reached[word] > 0 for word in ("started", "gone", "failed", "guest killed")),
          f"not every point was reached: {reached}")


if __name__ == "__main__":
    sys.exit(main([killed_at_random]))
