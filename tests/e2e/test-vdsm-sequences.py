#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VDSM's events in the order of the table, and in every other: twice, late, never, many VMs at once.

usage: test-vdsm-sequences.py HUGEVMCTL HUGEVM.SO [WORD]

Through the real hook program and sudo, as user vdsm; guest.py stands for QEMU. First each sequence
of the table by itself, with the pool looked at after each step. Then all that can be made of them by
leaving a step out, doing it twice or late, and changing two of them, and shuffles of whole
sequences; twelve VMs side by side, until all are done or HUGEVM_SEQUENCE_SECONDS (40) are over.
After each dozen VDSM "starts anew", and then the pools must be as they were.

HUGEVM_SEQUENCE_SEED chooses other dice.
"""

import json
import os
import random
import sys
import threading
import time

from harness import (
    STATE, Failure, check, is_alive, pools, pools_become, read, same, set_total, total, write)
from vdsm_host import HUGE, Vm, is_one_line, vdsm, main
from vdsm_runner import HookError

GUEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.py")
SEED = int(os.environ.get("HUGEVM_SEQUENCE_SEED", "7"))
SECONDS = float(os.environ.get("HUGEVM_SEQUENCE_SECONDS", "40"))
SHUFFLES = 24
AT_ONCE = 12
MEMORY_MIB, PAGES = 16, 8
SAVED_MIB, SAVED_PAGES = 32, 16
# as VDSM writes it, without a page size: that is the VM's, and without claim there is none
DEVICE = "<memory model='dimm'><target><size unit='MiB'>8</size><node>0</node></target></memory>"

UP = [("before_vm_start", PAGES), ("launch", PAGES), ("after_vm_start", PAGES)]
DOWN = [("end", None), ("after_vm_destroy", 0)]
# what happens, and the pages that are in the pool then; None: it depends on the kernel
TABLE = {
    "start and destroy": [*UP, *DOWN],
    "guest ends, the engine destroys it later": [*UP, *DOWN, ("after_vm_destroy", 0)],
    "restore": [("before_vm_start", PAGES), ("before_vm_dehibernate", SAVED_PAGES),
                ("launch", SAVED_PAGES), *DOWN],
    "incoming migration": [("before_vm_migrate_destination", PAGES), ("launch", PAGES),
                           ("after_vm_migrate_destination", PAGES), *DOWN],
    "outgoing migration": [*UP, ("end", None), ("after_vm_migrate_source", 0),
                           ("after_vm_destroy", 0)],
    "hibernation": [*UP, ("end", None), ("after_vm_hibernate", 0), ("after_vm_destroy", 0)],
    "start that fails": [("before_vm_start", PAGES), ("after_vm_destroy", 0)],
    "start that fails, and is tried again": [("before_vm_start", PAGES), *UP, *DOWN],
    "incoming migration that fails": [("before_vm_migrate_destination", PAGES),
                                      ("after_vm_destroy", 0)],
    "restart of VDSM": [*UP, ("before_vdsm_start", PAGES), *DOWN],
    "end while VDSM is down": [*UP, ("end", None), ("before_vdsm_start", 0)],
}
PLUG = [*UP, ("before_memory_hotplug", None), ("after_memory_hotplug", None), *DOWN]
ENDS = ("after_vm_destroy", "after_vm_migrate_source", "after_vm_hibernate")


class Player:
    """One VM to which things happen."""

    def __init__(self, bench, runner):
        self.bench, self.runner = bench, runner
        self.vm = Vm(bench, runner, {"hugepages": "2048"}, memory_mib=MEMORY_MIB, inside=HUGE)
        self.saved = self.vm.xml.replace(f">{MEMORY_MIB}<", f">{SAVED_MIB}<")
        self.is_restored = False
        self.guest = None
        self.problem = None

    def do(self, step):
        if hasattr(self, step):
            return getattr(self, step)()
        if step == "before_vdsm_start":
            return self.runner.before_vdsm_start()
        if step == "before_vm_dehibernate":
            self.is_restored = True
            return self.vm.run_point(step, self.saved, FROM_SNAPSHOT="False")
        return self.vm.run_point(step, DEVICE if step.endswith("hotplug") else None)

    def launch(self):
        """With too few pages there is no guest: so it is with QEMU."""
        self.end()
        pages = SAVED_PAGES if self.is_restored else PAGES
        self.guest = self.bench.start([f"{self.bench.directory}/qemu-python", "-IS", GUEST, "touched",
                                       str(pages), "-uuid", self.vm.uuid])
        answer = self.guest.stdout.readline().strip()
        check(answer in ("ready", "no pages"), f"the guest says {answer}")
        return answer

    def end(self):
        if self.guest is not None:
            self.guest.kill()
            self.guest.wait()

    def play(self, steps):
        try:
            for step in steps:
                try:
                    self.do(step)
                except HookError:
                    pass  # VDSM goes no further; but whatever has been lost may come all the same
        except Exception as error:
            self.problem = error
        finally:
            self.end()


def ready(bench):
    runner = vdsm(bench)
    os.symlink(sys.executable, f"{bench.directory}/qemu-python")
    return runner


def sequence(name):
    """One row of the table, alone."""
    def case(bench):
        before = pools()
        player = Player(bench, ready(bench))
        for step, pages in TABLE[name]:
            answer = player.do(step)
            check(step != "launch" or answer == "ready", f"at launch there are {answer}")
            if pages is not None:
                same(total(), pages, f"pages after {step}")
        player.end()
        same(bench.claims(), [], "claims")
        pools_become(before)
        same([entry for entry in player.runner.log if entry[1:] != (0, "")], [], "what hooks have said")
    case.__doc__ = f"{name}: the pool is right after each step"
    return case


def reboot(bench):
    """reboot: what VDSM reports of VMs of the boot before changes nothing"""
    runner = ready(bench)
    players = [Player(bench, runner) for _ in range(2)]
    for player in players:
        for step, _pages in UP:
            player.do(step)
        player.end()
    check(not any(is_alive(player.guest.pid) for player in players), "a guest is alive")
    for name in ("ledger.json", "ledger.copy.json"):
        ledger = json.loads(read(f"{STATE}/{name}"))
        write(f"{STATE}/{name}", json.dumps({**ledger, "boot_id": "the boot before"}))
    set_total(PAGES)  # the administrator's, from the command line
    found = pools()
    players[0].do("after_vm_destroy")
    runner.before_vdsm_start()
    players[1].do("after_vm_destroy")
    same((pools(), bench.claims()), (found, []), "pools and claims")


# --- all other orders -------------------------------------------------------------------------


def variants(steps):
    yield steps
    for i, step in enumerate(steps):
        if step != "end":
            yield [*steps[:i], *steps[i + 1:]]
            yield [*steps[:i], step, *steps[i:]]
            yield [*steps, step]
    for i in range(len(steps) - 1):
        yield [*steps[:i], steps[i + 1], steps[i], *steps[i + 2:]]


def is_slow(steps):
    """An end is reported while the guest lives: the hook waits 5 seconds for that."""
    lives = False
    for step in steps:
        if lives and step in ENDS:
            return True
        lives = step == "launch" or (lives and step != "end")
    return False


def plans(dice):
    """Lists of steps, each once; those that take long come first and together."""
    rows = [[step for step, _pages in row] for row in (*TABLE.values(), PLUG)]
    found = [list(plan) for row in rows for plan in variants(row)]
    for _ in range(SHUFFLES):
        found.append([step for row in dice.sample(rows, 2) for step in row])
        dice.shuffle(found[-1])
    slow = [plan for plan in found if is_slow(plan)]
    quick = [plan for plan in found if not is_slow(plan)]
    dice.shuffle(slow)
    dice.shuffle(quick)
    return slow[:AT_ONCE] + quick


def check_log(runner):
    """Whatever the order: a status of the protocol, and one line where it is not 0."""
    for path, status, text in runner.log:
        point = path.split("/")[-2]
        check(status in ((0, 2) if point.startswith("before_vm_") else (0, 1, 2)),
              f"{point}: status {status}")
        if status != 0:
            is_one_line(text)
    runner.log.clear()


def any_order(bench):
    """in any order, twice, late or never, of twelve VMs at once: the pools come back"""
    before = pools()
    runner = ready(bench)
    todo = plans(random.Random(SEED))
    number, end = len(todo), time.monotonic() + SECONDS
    while todo and time.monotonic() < end:
        round_, todo = todo[:AT_ONCE], todo[AT_ONCE:]
        players = [Player(bench, runner) for _ in round_]
        threads = [threading.Thread(target=player.play, args=(steps,))
                   for player, steps in zip(players, round_)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            same([player.problem for player in players if player.problem], [], "problems")
            check_log(runner)
            same([result[0] for result in runner.before_vdsm_start()], [0], "before_vdsm_start")
            same(bench.claims(), [], "claims")
            pools_become(before)
        except Failure as error:
            told = "\n".join(f"{player.vm.uuid}: {' '.join(steps)}"
                             for player, steps in zip(players, round_))
            raise Failure(f"{error}\nseed {SEED}, after {number - len(todo)} plans; this dozen:\n{told}"
                          ) from error
    print(f"# seed {SEED}: {number - len(todo)} of {number} plans")
    check(number - len(todo) >= 5 * AT_ONCE, f"only {number - len(todo)} plans in {SECONDS} s")


if __name__ == "__main__":
    sys.exit(main([*(sequence(name) for name in TABLE), reboot, any_order]))
