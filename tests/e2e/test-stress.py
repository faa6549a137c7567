#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Agents and guests killed at random points, four lanes at once; afterwards no page is missing.

usage: test-stress.py HUGEVMCTL HUGEVM.SO [WORD]

Each lane has its own generator with a fixed seed, so that what is killed after how long repeats
(what the machine has done by then does not). HUGEVM_STRESS_SEED chooses another seed.
"""

import os
import random
import signal
import sys
import threading
import time

import harness
from harness import (DYNAMIC, check, end_process, main, pools, pools_become, processes_of, same,
                     set_total, total, until)

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = int(os.environ.get("HUGEVM_STRESS_SEED", "20240607"))
LANES, ROUNDS = 4, 20
STATIC_PAGES = 30
LIMIT_S = 60


class Lane(threading.Thread):
    def __init__(self, bench, number, conf, program, deadline):
        super().__init__()
        self.bench, self.conf, self.program, self.deadline = bench, conf, program, deadline
        self.random = random.Random(SEED + number)
        self.rounds = 0
        self.problems = []
        self.reached = {}

    def run(self):
        try:
            while self.rounds < ROUNDS and time.monotonic() < self.deadline:
                self.one_round()
                self.rounds += 1
        except Exception as error:  # shown by the main thread
            self.problems.append(repr(error))

    def one_round(self):
        pages = self.random.randint(4, 60)
        victim = self.random.choice(["agent", "agent", "agent", "guest", "both", "nobody"])
        after_s = self.random.uniform(0.03, 0.3)
        vm = self.bench.vm(memory_mib=pages * 2)
        agent = self.bench.start([
            sys.executable, f"{HERE}/stress_agent.py", harness.module, self.conf, vm.path,
            str(pages), self.program, str(self.random.choice([0, 30, 80]))])
        time.sleep(after_s)
        was_killed = victim in ("agent", "both") and agent.poll() is None
        if was_killed:
            agent.kill()
        if victim in ("guest", "both"):
            for pid in processes_of(vm.uuid):
                end_process(pid)
        out, err = agent.communicate(timeout=30)
        self.judge(victim, was_killed, agent.returncode, out.splitlines(), err)
        if self.random.random() < 0.5:  # else it outlives the round, and its pages with it
            for pid in processes_of(vm.uuid):
                end_process(pid)
        if self.random.random() < 0.25:
            self.bench.ctl("drain", status=0)

    def judge(self, victim, was_killed, status, lines, err):
        last = lines[-1] if lines else "nothing"
        self.reached[last] = self.reached.get(last, 0) + 1
        if not was_killed and (status != 0 or last != "gone"):
            self.problems.append(f"an agent that nobody killed: {status}, {last}, {err.strip()}")
        if victim in ("agent", "nobody") and not was_killed:
            self.problems += [line for line in lines if line.startswith("broken")]


def killed_at_random(bench):
    """agents and guests killed at random points: every grown page comes back, no static one goes"""
    set_total(STATIC_PAGES)
    before = pools()
    program = f"{bench.directory}/qemu-guest"
    os.symlink(sys.executable, program)
    print(f"# seed {SEED}, {LANES} lanes of {ROUNDS} rounds")
    deadline = time.monotonic() + LIMIT_S - 15
    conf = bench.conf(DYNAMIC)
    lanes = [Lane(bench, number, conf, program, deadline) for number in range(LANES)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    reached = {}
    for lane in lanes:
        for word, count in lane.reached.items():
            reached[word] = reached.get(word, 0) + count
    print(f"# rounds {[lane.rounds for lane in lanes]}; agents ended at {reached}")
    same([problem for lane in lanes for problem in lane.problems], [], "problems")
    check(sum(lane.rounds for lane in lanes) >= LANES * ROUNDS // 2, "too few rounds in the time")
    check(len(reached) >= 4, "the kills came at too few different points")
    for vm in bench.vms:
        for pid in processes_of(vm.uuid):
            end_process(pid, signal.SIGKILL)
    until(lambda: not any(processes_of(vm.uuid) for vm in bench.vms), "the guests' end")
    bench.ctl("drain", status=0)
    same(bench.claims(), [], "claims")
    pools_become(before)
    same(total(), STATIC_PAGES, "total")


if __name__ == "__main__":
    sys.exit(main([killed_at_random]))
