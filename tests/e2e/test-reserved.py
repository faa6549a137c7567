#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pages reserved by name, beside VMs, for a program that uses half of them, ends and starts again.

usage: test-reserved.py HUGEVMCTL HUGEVM.SO [WORD]

What stands for the switch, for a database and, but for the last test, for a QEMU is guest.py.
HUGEVM_RESERVED_ROUNDS says how many starts and ends there are in a random run (60).
"""

import os
import random
import signal
import sys

import harness
from harness import (DYNAMIC, STATIC, check, free, holds, main, pools, pools_become, same,
                     set_total, total, until)
from hugevm_host import SHORTAGE, HugevmError
from in_process import HUGE, NEED, guest, open_host, refused

ROUNDS = int(os.environ.get("HUGEVM_RESERVED_ROUNDS", "60"))
SEED = int(os.environ.get("HUGEVM_RESERVED_SEED", random.randrange(1 << 32)))
RESERVED, DATABASE = 40, 60
FOR_SWITCH = f"[hugevm]\nreserved = ovs=size:2M,count:{RESERVED},node:0\n"


def switch(bench, pages):
    return guest(bench, "touched", pages, bench.vm().uuid, "ovs-vswitchd")


def database(bench):
    return guest(bench, "touched", DATABASE, bench.vm().uuid, "database")


def end(bench, process):
    """Ends it, and waits for its pages."""
    before = free()
    bench.end(process, signal.SIGKILL, status=None)
    until(lambda: free() > before, "the pages of a process that has ended")


class Machine:
    """A VM from its claim to its end."""

    def __init__(self, bench, host, pages):
        self.host, self.pages = host, pages
        self.vm = bench.vm(memory_mib=pages * 2)
        self.result = host.before_vm_start(self.vm.xml, HUGE)
        host.vm_launching(self.vm.uuid, self.result.generation)
        self.qemu = guest(bench, "touched", pages, self.vm.uuid, "qemu-guest")
        host.after_vm_start(self.vm.uuid, self.result.generation, self.qemu.pid)

    def end(self, bench):
        bench.end(self.qemu, signal.SIGKILL, status=None)
        self.host.after_vm_destroy(self.vm.uuid, self.result.generation)


def reserved(bench, conf):
    row, = bench.json("status", conf=conf, status=0)["reserved"]
    return row


def database_beside_the_switch(bench):
    """what a database uses takes nothing off what is reserved for a switch that does not run"""
    set_total(RESERVED + DATABASE + NEED)
    host = open_host(bench, STATIC + FOR_SWITCH)
    database(bench)
    first = Machine(bench, host, NEED)
    same(free(), RESERVED, "free pages")
    error = refused(SHORTAGE, host.before_vm_start, bench.vm(memory_mib=2).xml, HUGE)
    holds(error.message, "0 available", f"{DATABASE} used by others",
          f"{RESERVED} reserved by configuration; reserved for ovs, 0 of {RESERVED} in use")
    switch(bench, RESERVED)
    first.end(bench)
    pools_become({**pools(), harness.M2: (total(), NEED, 0, 0)})


def switch_restarts(bench):
    """it has half of its pages, ends, and finds all of them; refusals and status say what it has"""
    set_total(RESERVED + NEED)
    conf = bench.conf(STATIC + FOR_SWITCH)
    host = open_host(bench, STATIC + FOR_SWITCH)
    process = switch(bench, RESERVED // 2)
    row = reserved(bench, conf)
    same((row["name"], row["node"], row["count"], row["used"], row["unused"]),
         ("ovs", 0, RESERVED, RESERVED // 2, RESERVED // 2), "the row of status")
    same(row["holders"], [{"pid": process.pid, "comm": "ovs-vswitchd", "pages": RESERVED // 2}],
         "who has them")
    machine = Machine(bench, host, NEED)
    error = refused(SHORTAGE, host.before_vm_start, bench.vm(memory_mib=2).xml, HUGE)
    holds(error.message, f"reserved for ovs, {RESERVED // 2} of {RESERVED} in use")
    end(bench, process)
    error = refused(SHORTAGE, host.before_vm_start, bench.vm(memory_mib=2).xml, HUGE)
    holds(error.message, f"reserved for ovs, 0 of {RESERVED} in use")
    switch(bench, RESERVED)
    same(reserved(bench, conf)["unused"], 0, "what is kept beside what it has")
    same(free(), 0, "free pages")
    machine.end(bench)


def pages_go_around_the_reservation(bench):
    """a VM that finds the switch's pages free has its own added, and they go with it"""
    set_total(RESERVED + DATABASE)
    before = pools()
    host = open_host(bench, DYNAMIC + FOR_SWITCH + "host_memory_floor = 0,0%\n")
    store = database(bench)
    machine = Machine(bench, host, NEED)
    same((total(), free()), (RESERVED + DATABASE + NEED, RESERVED), "pages with the VM")
    process = switch(bench, RESERVED)
    machine.end(bench)
    same(total(), RESERVED + DATABASE, "total at the end")
    for one in (process, store):
        end(bench, one)
    pools_become(before)


def random_run(bench):
    """in a random run of VMs beside a switch that restarts no reserved page is a VM's"""
    dice = random.Random(SEED)
    print(f"# seed {SEED}")
    set_total(RESERVED + DATABASE + NEED)
    host = open_host(bench, STATIC + FOR_SWITCH)
    database(bench)
    machines, process, has = [], None, 0
    seen = {"started": 0, "refused": 0, "switched": 0}
    for _ in range(ROUNDS):
        choice = dice.choice(["vm", "vm", "end", "switch"])
        if choice == "vm":
            try:
                machines.append(Machine(bench, host, dice.randrange(1, NEED)))
                seen["started"] += 1
            except HugevmError as error:
                same(error.code, SHORTAGE, f"code of '{error}'")
                holds(error.message, f"reserved for ovs, {has} of {RESERVED} in use")
                seen["refused"] += 1
        elif choice == "end" and machines:
            machines.pop(dice.randrange(len(machines))).end(bench)
        elif choice == "switch":
            if process is not None:
                end(bench, process)
            has = dice.choice([1, RESERVED // 2, RESERVED])
            process = switch(bench, has)
            seen["switched"] += 1
        until(lambda: free() + has + DATABASE + sum(one.pages for one in machines) == total(),
              "the pages of all that run")
        check(free() + has >= RESERVED, f"{free()} pages are free, and the switch has {has}")
    print(f"# {seen}")
    check(min(seen.values()) > 0 or ROUNDS < 60, f"a run that shows little: {seen}")


def real_vm(bench):
    """a real VM starts and ends while the switch restarts"""
    set_total(RESERVED + NEED)
    conf = bench.conf(STATIC + FOR_SWITCH)
    process = switch(bench, RESERVED // 2)
    vm = bench.vm()
    run = bench.run_until_up(vm, conf=conf)
    end(bench, process)
    same(free(), RESERVED, "free pages while the switch is away")
    same(reserved(bench, conf)["unused"], RESERVED, "what is kept for it")
    done = bench.ctl("plan", bench.vm(memory_mib=2).path, "-p", "hugepages=2048", conf=conf,
                     status=1)
    holds(done.stderr, f"reserved for ovs, 0 of {RESERVED} in use")
    process = switch(bench, RESERVED)
    bench.end(run, signal.SIGTERM)
    same((total(), free()), (RESERVED + NEED, NEED), "pages after the VM")
    bench.end(process, signal.SIGKILL, status=None)


if __name__ == "__main__":
    sys.exit(main([database_beside_the_switch, switch_restarts, pages_go_around_the_reservation,
                   random_run, real_vm]))
